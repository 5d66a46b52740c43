"""Stale code: finding out whether translated code has changed, for every architecture.

The engine does not notice all stores to translated code (not those through another mapping of a
page after the first, nor other harts', nor the host's). So each page is copied when code is first
translated from it, and the words that were translated are marked. `synchronize` drops the
translations of those words that differ from their copy.
"""

LISTED, SUSPECT, CHANGED = 1, 2, 3
"""What a byte in `HartCell.listed` says of a page: its code was translated; code that had changed
was (so translations of both kinds may exist although the page is as it was copied, and all of the
page's are dropped); or it was found to have changed since."""

CHECK_SUSPECTS, CHECK_ALL = 1, 2
"""What `HartCell.code_check` asks for."""

WORDS = {"LISTED": LISTED, "SUSPECT": SUSPECT, "CHANGED": CHANGED}
WORDS |= {"CHECK_SUSPECTS": CHECK_SUSPECTS, "CHECK_ALL": CHECK_ALL}

IR = """
; A block was translated from `size` bytes of one page at %pc.
define internal void @note_code(ptr %hart, i64 %pc, i64 %size) {{
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %host_pointer = alloca ptr
  store ptr null, ptr %host_pointer
  %hostp = inttoptr i64 {hostp} to ptr
  %ignored = call i64 %hostp(ptr %env, i64 %pc, ptr %host_pointer)
  %host = load i64, ptr %host_pointer
  %ram = call i64 @get(ptr %hart, i64 {ram_host})
  %at = sub i64 %host, %ram
  %ram_size = call i64 @get(ptr %hart, i64 {ram_size})
  %inside = icmp ult i64 %at, %ram_size
  br i1 %inside, label %known, label %done
known:
  %page = lshr i64 %at, 12
  %listed = call ptr @pointer(ptr %hart, i64 {listed})
  %mark = getelementptr i8, ptr %listed, i64 %page
  %old = load i8, ptr %mark
  %is_listed = icmp ne i8 %old, 0
  %shadow = call ptr @pointer(ptr %hart, i64 {shadow})
  br i1 %is_listed, label %words, label %copy
copy:
  store i8 {LISTED}, ptr %mark
  %count = call i64 @get(ptr %hart, i64 {page_count})
  %pages = call ptr @pointer(ptr %hart, i64 {pages})
  %slot = getelementptr i32, ptr %pages, i64 %count
  %number = trunc i64 %page to i32
  store i32 %number, ptr %slot
  call void @add(ptr %hart, i64 {page_count}, i64 1)
  %start = and i64 %at, -4096
  %to = getelementptr i8, ptr %shadow, i64 %start
  %from_address = add i64 %ram, %start
  %from = inttoptr i64 %from_address to ptr
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 4096, i1 false)
  br label %words
words:
  %translated = call ptr @pointer(ptr %hart, i64 {translated_words})
  %ram_start = inttoptr i64 %ram to ptr
  %first = lshr i64 %at, 2
  %is_empty = icmp eq i64 %size, 0 ; so is one illegal instruction of 16 bits
  %bytes = select i1 %is_empty, i64 1, i64 %size
  %behind = add i64 %at, %bytes
  %last_byte = sub i64 %behind, 1
  %last = lshr i64 %last_byte, 2
  br label %word
word:
  %n = phi i64 [ %first, %words ], [ %n1, %next ]
  %seen_at = getelementptr i8, ptr %translated, i64 %n
  %seen = load i8, ptr %seen_at
  %copy_at = getelementptr i32, ptr %shadow, i64 %n
  %now_at = getelementptr i32, ptr %ram_start, i64 %n
  %now = load i32, ptr %now_at
  %is_seen = icmp ne i8 %seen, 0
  br i1 %is_seen, label %compare, label %note
note:
  store i8 1, ptr %seen_at
  store i32 %now, ptr %copy_at
  br label %next
compare:                           ; what was made of it before is stale
  %before = load i32, ptr %copy_at
  %differs = icmp ne i32 %before, %now
  br i1 %differs, label %remember, label %next
remember:
  store i8 {SUSPECT}, ptr %mark
  br label %next
next:
  %n1 = add i64 %n, 1
  %more = icmp ule i64 %n1, %last
  br i1 %more, label %word, label %done
done:
  ret void
}}

; Whether code in the page at offset %start in RAM has changed since it was translated.
define internal i1 @page_is_stale(ptr %hart, i64 %start) {{
  %page = lshr i64 %start, 12
  %listed = call ptr @pointer(ptr %hart, i64 {listed})
  %mark_at = getelementptr i8, ptr %listed, i64 %page
  %mark = load i8, ptr %mark_at
  %suspect = icmp eq i8 %mark, {SUSPECT}
  br i1 %suspect, label %yes, label %compare
compare:
  %shadow = call ptr @pointer(ptr %hart, i64 {shadow})
  %ram = call ptr @pointer(ptr %hart, i64 {ram_host})
  %copy = getelementptr i8, ptr %shadow, i64 %start
  %now = getelementptr i8, ptr %ram, i64 %start
  %memcmp = inttoptr i64 {memcmp} to ptr
  %result = call i32 %memcmp(ptr %copy, ptr %now, i64 4096)
  %differs = icmp ne i32 %result, 0
  br i1 %differs, label %search, label %no
search:
  %all = call ptr @pointer(ptr %hart, i64 {translated_words})
  %first = lshr i64 %start, 2
  %translated = getelementptr i8, ptr %all, i64 %first
  br label %word
word:
  %n = phi i64 [ 0, %search ], [ %n1, %next ]
  %copy_at = getelementptr i32, ptr %copy, i64 %n
  %now_at = getelementptr i32, ptr %now, i64 %n
  %before = load i32, ptr %copy_at
  %after = load i32, ptr %now_at
  %changed = icmp ne i32 %before, %after
  br i1 %changed, label %which, label %next
which:
  %seen_at = getelementptr i8, ptr %translated, i64 %n
  %seen = load i8, ptr %seen_at
  %is_code = icmp ne i8 %seen, 0
  br i1 %is_code, label %yes, label %data
data:
  store i32 %after, ptr %copy_at
  br label %next
next:
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, 1024
  br i1 %more, label %word, label %no
yes:
  ret i1 true
no:
  ret i1 false
}}

; Drop what was translated from words of the page at offset %start in RAM that have changed since;
; whether none is left that was translated.
define internal i1 @refresh_page(ptr %hart, i64 %start) {{
  %shadow = call ptr @pointer(ptr %hart, i64 {shadow})
  %ram = call ptr @pointer(ptr %hart, i64 {ram_host})
  %copy = getelementptr i8, ptr %shadow, i64 %start
  %now = getelementptr i8, ptr %ram, i64 %start
  %memcmp = inttoptr i64 {memcmp} to ptr
  %result = call i32 %memcmp(ptr %copy, ptr %now, i64 4096)
  %differs = icmp ne i32 %result, 0
  br i1 %differs, label %search, label %same
search:
  %all = call ptr @pointer(ptr %hart, i64 {translated_words})
  %word_number = lshr i64 %start, 2
  %translated = getelementptr i8, ptr %all, i64 %word_number
  br label %word
word:                              ; from %first up to %behind are those that were found
  %n = phi i64 [ 0, %search ], [ %n1, %next ]
  %first = phi i64 [ 1024, %search ], [ %first1, %next ]
  %behind = phi i64 [ 0, %search ], [ %behind1, %next ]
  %left = phi i8 [ 0, %search ], [ %left1, %next ]
  %n1 = add i64 %n, 1
  %copy_at = getelementptr i32, ptr %copy, i64 %n
  %now_at = getelementptr i32, ptr %now, i64 %n
  %before = load i32, ptr %copy_at
  %after = load i32, ptr %now_at
  %seen_at = getelementptr i8, ptr %translated, i64 %n
  %seen = load i8, ptr %seen_at
  %kept = or i8 %left, %seen
  %changed = icmp ne i32 %before, %after
  br i1 %changed, label %take, label %next
take:
  store i32 %after, ptr %copy_at
  store i8 0, ptr %seen_at
  %is_code = icmp ne i8 %seen, 0
  br i1 %is_code, label %code, label %next
code:
  %is_first = icmp ult i64 %n, %first
  %lower = select i1 %is_first, i64 %n, i64 %first
  br label %next
next:
  %first1 = phi i64 [ %first, %word ], [ %first, %take ], [ %lower, %code ]
  %behind1 = phi i64 [ %behind, %word ], [ %behind, %take ], [ %n1, %code ]
  %left1 = phi i8 [ %kept, %word ], [ %left, %take ], [ %left, %code ]
  %more = icmp ult i64 %n1, 1024
  br i1 %more, label %word, label %found
found:
  %any = icmp ne i64 %behind1, 0
  br i1 %any, label %drop, label %same
drop:
  call void @add(ptr %hart, i64 {dropped_pages}, i64 1)
  %uc = call ptr @pointer(ptr %hart, i64 {uc})
  %ram_addr = call i64 @get(ptr %hart, i64 {ram_addr})
  %page = add i64 %ram_addr, %start
  %first_at = shl i64 %first1, 2
  %behind_at = shl i64 %behind1, 2
  %begin = add i64 %page, %first_at
  %end = add i64 %page, %behind_at
  %invalidate = inttoptr i64 {tb_invalidate_phys_range} to ptr
  call void %invalidate(ptr %uc, i64 %begin, i64 %end)
  %none = icmp eq i8 %left1, 0
  ret i1 %none
same:
  ret i1 false
}}

define void @translated(ptr %uc, ptr %block, ptr %previous, ptr %hart) {{
  %pc = load i64, ptr %block
  %size_at = getelementptr i8, ptr %block, i64 10
  %size16 = load i16, ptr %size_at
  %size = zext i16 %size16 to i64
  %in_page = and i64 %pc, 4095
  %room = sub i64 4096, %in_page
  %crosses = icmp ugt i64 %size, %room
  %first = select i1 %crosses, i64 %room, i64 %size
  call void @note_code(ptr %hart, i64 %pc, i64 %first)
  br i1 %crosses, label %second, label %done
second:
  %next_page = add i64 %pc, %room
  %rest = sub i64 %size, %room
  call void @note_code(ptr %hart, i64 %next_page, i64 %rest)
  ret void
done:
  ret void
}}

; Whether a barrier for code has to look for changes: from user mode's first exception on, and
; when others wrote since the last time. Before, it is the kernel that patches itself, ten thousands
; of times.
define internal i1 @is_check_due(ptr %hart) {{
  %own = call i64 @get(ptr %hart, i64 {watch_code})
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %host = call i64 @get(ptr %clock, i64 {host_writes})
  %known = call i64 @get(ptr %hart, i64 {host_writes_seen})
  %new = sub i64 %host, %known
  %either = or i64 %own, %new
  %due = icmp ne i64 %either, 0
  ret i1 %due
}}

; One hart: if it translated code from the page at %host that has changed, it must drop it.
define internal void @check_page(ptr %hart, i64 %host) {{
  %ram = call i64 @get(ptr %hart, i64 {ram_host})
  %at = sub i64 %host, %ram
  %ram_size = call i64 @get(ptr %hart, i64 {ram_size})
  %inside = icmp ult i64 %at, %ram_size
  br i1 %inside, label %known, label %done
known:
  %page = lshr i64 %at, 12
  %listed = call ptr @pointer(ptr %hart, i64 {listed})
  %mark = getelementptr i8, ptr %listed, i64 %page
  %old = load i8, ptr %mark
  %is_listed = icmp ne i8 %old, 0
  br i1 %is_listed, label %compare, label %done
compare:
  %start = and i64 %at, -4096
  %changed = call i1 @page_is_stale(ptr %hart, i64 %start)
  br i1 %changed, label %ask, label %done
ask:
  %suspect = icmp eq i8 %old, {SUSPECT}
  %new = select i1 %suspect, i8 {SUSPECT}, i8 {CHANGED}
  store i8 %new, ptr %mark
  %asked = call i64 @get(ptr %hart, i64 {code_check})
  %more = or i64 %asked, {CHECK_SUSPECTS}
  call void @put(ptr %hart, i64 {code_check}, i64 %more)
  br label %done
done:
  ret void
}}

; All harts of %hart's clock: check the page at %host; 0: all pages, before they run on.
define internal void @check_harts(ptr %hart, i64 %host) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %first = call ptr @pointer(ptr %clock, i64 {harts})
  %known = icmp ne ptr %first, null
  %from = select i1 %known, ptr %first, ptr %hart
  %everywhere = icmp eq i64 %host, 0
  br label %each
each:
  %one = phi ptr [ %from, %0 ], [ %next, %onward ]
  br i1 %everywhere, label %all, label %page
all:
  call void @put(ptr %one, i64 {code_check}, i64 {CHECK_ALL})
  br label %onward
page:
  call void @check_page(ptr %one, i64 %host)
  br label %onward
onward:
  %next = call ptr @pointer(ptr %one, i64 {next_hart})
  %last = icmp eq ptr %next, null
  br i1 %last, label %done, label %each
done:
  ret void
}}

; Drop the translations of code that has changed since; all, where `drop_all` says so. Where
; `code_check` asks for no more than that, only pages that are marked for it are looked at.
define void @synchronize(ptr %hart) {{
  %check = call i64 @get(ptr %hart, i64 {code_check})
  %is_little = icmp eq i64 %check, {CHECK_SUSPECTS}
  call void @put(ptr %hart, i64 {code_check}, i64 0)
  %uc = call ptr @pointer(ptr %hart, i64 {uc})
  %pages = call ptr @pointer(ptr %hart, i64 {pages})
  %translated = call ptr @pointer(ptr %hart, i64 {translated_words})
  %listed = call ptr @pointer(ptr %hart, i64 {listed})
  %ram_addr = call i64 @get(ptr %hart, i64 {ram_addr})
  %everything = call i64 @get(ptr %hart, i64 {drop_all})
  %all = icmp ne i64 %everything, 0
  br i1 %all, label %flush, label %search
search:
  %n = phi i64 [ 0, %0 ], [ %n1, %same ], [ %n, %remove ]
  %count = call i64 @get(ptr %hart, i64 {page_count})
  %more = icmp ult i64 %n, %count
  br i1 %more, label %test, label %done
test:
  %slot = getelementptr i32, ptr %pages, i64 %n
  %number = load i32, ptr %slot
  %page = zext i32 %number to i64
  %at = shl i64 %page, 12
  %mark_at = getelementptr i8, ptr %listed, i64 %page
  %page_mark = load i8, ptr %mark_at
  %suspect = icmp eq i8 %page_mark, {SUSPECT}
  br i1 %suspect, label %drop, label %unsuspected
unsuspected:
  %unmarked = icmp ne i8 %page_mark, {CHANGED}
  %skip = and i1 %is_little, %unmarked
  br i1 %skip, label %same, label %refresh
refresh:
  store i8 {LISTED}, ptr %mark_at
  %is_empty = call i1 @refresh_page(ptr %hart, i64 %at)
  br i1 %is_empty, label %remove, label %same
drop:
  call void @add(ptr %hart, i64 {dropped_pages}, i64 1)
  %begin = add i64 %ram_addr, %at
  %end = add i64 %begin, 4096
  %invalidate = inttoptr i64 {tb_invalidate_phys_range} to ptr
  call void %invalidate(ptr %uc, i64 %begin, i64 %end)
  br label %remove
remove:                            ; the last one takes its place in the list
  %last = sub i64 %count, 1
  %last_slot = getelementptr i32, ptr %pages, i64 %last
  %last_number = load i32, ptr %last_slot
  store i32 %last_number, ptr %slot
  call void @put(ptr %hart, i64 {page_count}, i64 %last)
  store i8 0, ptr %mark_at
  %stale_word = shl i64 %page, 10
  %stale_words = getelementptr i8, ptr %translated, i64 %stale_word
  call void @llvm.memset.p0.i64(ptr %stale_words, i8 0, i64 1024, i1 false)
  br label %search
same:
  %n1 = add i64 %n, 1
  br label %search
flush:
  call void @add(ptr %hart, i64 {flushes}, i64 1)
  %listed_pages = call i64 @get(ptr %hart, i64 {page_count})
  %cpu = call ptr @pointer(ptr %hart, i64 {cpu})
  %tb_flush = inttoptr i64 {tb_flush} to ptr
  call void %tb_flush(ptr %cpu)
  call void @put(ptr %hart, i64 {page_count}, i64 0)
  call void @put(ptr %hart, i64 {drop_all}, i64 0)
  br label %forget
forget:
  %k = phi i64 [ 0, %flush ], [ %k1, %unlist ]
  %again = icmp ult i64 %k, %listed_pages
  br i1 %again, label %unlist, label %done
unlist:
  %entry = getelementptr i32, ptr %pages, i64 %k
  %which = load i32, ptr %entry
  %index = zext i32 %which to i64
  %mark = getelementptr i8, ptr %listed, i64 %index
  store i8 0, ptr %mark
  %word = shl i64 %index, 10
  %words = getelementptr i8, ptr %translated, i64 %word
  call void @llvm.memset.p0.i64(ptr %words, i8 0, i64 1024, i1 false)
  %k1 = add i64 %k, 1
  br label %forget
done:
  ret void
}}
"""

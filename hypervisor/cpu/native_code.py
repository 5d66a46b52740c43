"""Stale code: finding out whether translated code has changed, for every architecture.

The engine does not notice all stores to translated code (not those through another mapping of a
page after the first, nor other harts', nor the host's). So each page is copied when it is first
translated, and `synchronize` drops all translations if any of those pages differs from its copy.
"""

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
  br i1 %is_listed, label %compare, label %copy
copy:
  store i8 1, ptr %mark
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
  br label %done
compare:
  %copy_at = getelementptr i8, ptr %shadow, i64 %at
  %now_at = inttoptr i64 %host to ptr
  %memcmp = inttoptr i64 {memcmp} to ptr
  %differs = call i32 %memcmp(ptr %copy_at, ptr %now_at, i64 %size)
  %changed = icmp ne i32 %differs, 0
  br i1 %changed, label %remember, label %done
remember:
  call void @put(ptr %hart, i64 {code_changed}, i64 1)
  br label %done
done:
  ret void
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

; Drop all translations if any page they were made from has changed.
define void @synchronize(ptr %hart) {{
  %count = call i64 @get(ptr %hart, i64 {page_count})
  %pages = call ptr @pointer(ptr %hart, i64 {pages})
  %shadow = call ptr @pointer(ptr %hart, i64 {shadow})
  %ram = call ptr @pointer(ptr %hart, i64 {ram_host})
  %listed = call ptr @pointer(ptr %hart, i64 {listed})
  %memcmp = inttoptr i64 {memcmp} to ptr
  %changed = call i64 @get(ptr %hart, i64 {code_changed})
  %stale = icmp ne i64 %changed, 0
  br i1 %stale, label %flush, label %search
search:
  %n = phi i64 [ 0, %0 ], [ %n1, %same ]
  %more = icmp ult i64 %n, %count
  br i1 %more, label %test, label %done
test:
  %slot = getelementptr i32, ptr %pages, i64 %n
  %number = load i32, ptr %slot
  %page = zext i32 %number to i64
  %at = shl i64 %page, 12
  %copy_at = getelementptr i8, ptr %shadow, i64 %at
  %now_at = getelementptr i8, ptr %ram, i64 %at
  %result = call i32 %memcmp(ptr %copy_at, ptr %now_at, i64 4096)
  %differs = icmp ne i32 %result, 0
  br i1 %differs, label %flush, label %same
same:
  %n1 = add i64 %n, 1
  br label %search
flush:
  call void @add(ptr %hart, i64 {flushes}, i64 1)
  %cpu = call ptr @pointer(ptr %hart, i64 {cpu})
  %tb_flush = inttoptr i64 {tb_flush} to ptr
  call void %tb_flush(ptr %cpu)
  call void @put(ptr %hart, i64 {page_count}, i64 0)
  call void @put(ptr %hart, i64 {code_changed}, i64 0)
  br label %forget
forget:
  %k = phi i64 [ 0, %flush ], [ %k1, %unlist ]
  %again = icmp ult i64 %k, %count
  br i1 %again, label %unlist, label %done
unlist:
  %entry = getelementptr i32, ptr %pages, i64 %k
  %which = load i32, ptr %entry
  %index = zext i32 %which to i64
  %mark = getelementptr i8, ptr %listed, i64 %index
  store i8 0, ptr %mark
  %k1 = add i64 %k, 1
  br label %forget
done:
  ret void
}}
"""

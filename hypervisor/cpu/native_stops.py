"""Stopping where a debugger asks to, for every architecture: breakpoints, steps, watchpoints.

Each is a hook of the engine that is placed only while somebody wants it. The run is left between
two instructions as if it went straight on: the block's tail is given back, and `previous_end`
becomes the address at which the hart goes on, so that the next block is no taken transfer and time
does not move. Where the hart is, is said by its pc and the bytes it has retired (`resume_pc`,
`resume_at`): the same stop does not happen twice.
"""

FUNCTIONS = ("stop_here", "each_instruction", "watched")

IR = """
; Bytes that this hart had retired when it came to %pc, in the block that it is in.
define internal i64 @retired(ptr %hart, i64 %pc) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {units})
  %end = call i64 @get(ptr %hart, i64 {previous_end})
  %tail = sub i64 %end, %pc
  %now = sub i64 %units, %tail
  %base = call i64 @get(ptr %hart, i64 {executed_base})
  %own = add i64 %now, %base
  ret i64 %own
}}
; Whether the hart was left exactly here and now goes on.
define internal i1 @resumes(ptr %hart, i64 %pc, i64 %at) {{
  %resume_pc = call i64 @get(ptr %hart, i64 {resume_pc})
  %resume_at = call i64 @get(ptr %hart, i64 {resume_at})
  %same_pc = icmp eq i64 %resume_pc, %pc
  %same_at = icmp eq i64 %resume_at, %at
  %both = and i1 %same_pc, %same_at
  ret i1 %both
}}
define internal i1 @stops_already(ptr %hart) {{
  %reason = call i64 @get(ptr %hart, i64 {reason})
  %is = icmp ne i64 %reason, 0
  ret i1 %is
}}
; A CODE hook on a breakpoint's address.
define void @stop_here(ptr %uc, i64 %pc, i32 %size, ptr %hart) {{
  %already = call i1 @stops_already(ptr %hart)
  br i1 %already, label %done, label %ask
ask:
  %at = call i64 @retired(ptr %hart, i64 %pc)
  %again = call i1 @resumes(ptr %hart, i64 %pc, i64 %at)
  br i1 %again, label %done, label %halt
halt:
  call void @stop(ptr %hart, i64 {BREAKPOINT})
  ret void
done:
  ret void
}}
; A CODE hook on every instruction: stops before the first outside [step_from, step_to), and before
; the first that finds `until` bytes retired. `last_pc` and `last_at` say what came before it.
define void @each_instruction(ptr %uc, i64 %pc, i32 %size, ptr %hart) {{
  %already = call i1 @stops_already(ptr %hart)
  br i1 %already, label %done, label %ask
ask:
  %at = call i64 @retired(ptr %hart, i64 %pc)
  %again = call i1 @resumes(ptr %hart, i64 %pc, i64 %at)
  br i1 %again, label %note, label %range
range:
  %from = call i64 @get(ptr %hart, i64 {step_from})
  %to = call i64 @get(ptr %hart, i64 {step_to})
  %offset = sub i64 %pc, %from
  %length = sub i64 %to, %from
  %inside = icmp ult i64 %offset, %length
  %limit = call i64 @get(ptr %hart, i64 {until})
  %early = icmp ult i64 %at, %limit
  %on = and i1 %inside, %early
  br i1 %on, label %note, label %halt
note:
  call void @put(ptr %hart, i64 {last_pc}, i64 %pc)
  call void @put(ptr %hart, i64 {last_at}, i64 %at)
  %base = call i64 @get(ptr %hart, i64 {executed_base})
  %units = sub i64 %at, %base
  call void @put(ptr %hart, i64 {last_units}, i64 %units)
  ret void
halt:
  call void @stop(ptr %hart, i64 {STEP})
  ret void
done:
  ret void
}}
; A hook on loads or stores that begin in or shortly before the watched bytes, called before they
; happen. RAM that may not be touched is the one exact way to keep this one from happening: the
; engine leaves with an error and the pc of the instruction.
define void @watched(ptr %uc, i32 %type, i64 %address, i32 %size, i64 %value, ptr %watch) {{
  %hart = call ptr @pointer(ptr %watch, i64 {watch_hart})
  %begin = call i64 @get(ptr %watch, i64 {watch_begin})
  %length = call i64 @get(ptr %watch, i64 {watch_length})
  %bytes = zext i32 %size to i64
  %behind = add i64 %begin, %length
  %end = add i64 %address, %bytes
  %low = icmp ult i64 %address, %behind
  %high = icmp ult i64 %begin, %end
  %touches = and i1 %low, %high
  %already = call i1 @stops_already(ptr %hart)
  %free = xor i1 %already, true
  %asks = and i1 %touches, %free
  br i1 %asks, label %ask, label %done
ask:
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %pc = call i64 @get(ptr %env, i64 {PC})
  %at = call i64 @retired(ptr %hart, i64 %pc)
  %again = call i1 @resumes(ptr %hart, i64 %pc, i64 %at)
  br i1 %again, label %done, label %halt
halt:
  %kind = zext i32 %type to i64
  call void @put(ptr %watch, i64 {watch_type}, i64 %kind)
  call void @put(ptr %watch, i64 {watch_address}, i64 %address)
  call void @put(ptr %watch, i64 {watch_size}, i64 %bytes)
  call void @put(ptr %watch, i64 {watch_value}, i64 %value)
  call void @put(ptr %hart, i64 {reason}, i64 {WATCHPOINT})
  %ram_base = call i64 @get(ptr %hart, i64 {ram_base})
  %ram_size = call i64 @get(ptr %hart, i64 {ram_size})
  %protect = inttoptr i64 {uc_mem_protect} to ptr
  %r = call i32 %protect(ptr %uc, i64 %ram_base, i64 %ram_size, i32 0)
  ret void
done:
  ret void
}}
"""

"""Counting retired code: the BLOCK callback, for every architecture.

Time is counted in bytes of retired code (a "unit"). The callback adds its block's size; a block
left midway gives back the tail. Only where a block does not start at the previous one's end (a
taken transfer) does the guest's view of time move and may the run stop, so nothing depends on
where the engine happens to cut blocks.
"""

IR = """
define void @block(ptr %uc, i64 %address, i32 %size, ptr %hart) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {units})
  %previous = call i64 @get(ptr %hart, i64 {previous_end})
  %taken = icmp ne i64 %previous, %address
  br i1 %taken, label %transfer, label %onward
onward:                            ; as far as the guest can tell nothing stops here
  %check = call i64 @get(ptr %hart, i64 {code_check})
  %asked = icmp ne i64 %check, 0
  br i1 %asked, label %stale, label %count, !prof !0
stale:
  tail call void @leave_run(ptr %hart, i64 {CODE_CHECK})
  ret void
transfer:
  call void @put(ptr %clock, i64 {visible}, i64 %units)
  %deadline = call i64 @get(ptr %clock, i64 {deadline})
  %due = icmp uge i64 %units, %deadline
  br i1 %due, label %stop, label %count, !prof !0
stop:
  tail call void @leave_run(ptr %hart, i64 {DEADLINE})
  ret void
count:
  %bytes = zext i32 %size to i64
  %end = add i64 %address, %bytes
  call void @put(ptr %hart, i64 {previous_end}, i64 %end)
  %now = add i64 %units, %bytes
  call void @put(ptr %clock, i64 {units}, i64 %now)
  ret void
}}

; Give back what the left block did not execute from pc on, and make the next block a transfer.
define internal void @leave(ptr %hart, i64 %pc) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %end = call i64 @get(ptr %hart, i64 {previous_end})
  %tail = sub i64 %pc, %end
  call void @add(ptr %clock, i64 {units}, i64 %tail)
  call void @put(ptr %hart, i64 {previous_end}, i64 -1)
  ret void
}}

define internal void @count_trap(ptr %hart, i64 %cause) {{
  %index = and i64 %cause, {cause_mask}
  %scaled = mul i64 %index, 8
  %at = add i64 %scaled, {traps}
  call void @add(ptr %hart, i64 %at, i64 1)
  ret void
}}
!0 = !{{!"branch_weights", i32 1, i32 100000}}
"""

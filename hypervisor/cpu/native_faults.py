"""Stores to where nothing is, for every architecture.

The engine leaves a load that fails at once, but a store only where it next looks for a reason to
stop, which with `Engine.check_exits(False)` is nowhere. So a hook leaves the run itself; by then
the engine has put the instruction's pc into the state.
"""

from hypervisor.cpu import library

FUNCTIONS = ("store_failed",)

SIZE_RECUR_MEM = 0x568
"""Where `uc_struct` says, in 32 bits, that the engine is within an access that straddles two pages,
and calls no hooks for its parts."""

WORDS = {"ERR_WRITE_UNMAPPED": library.ERR_WRITE_UNMAPPED, "SIZE_RECUR_MEM": SIZE_RECUR_MEM}

IR = """
; A load or store was left midway: the engine may still believe to be in it.
define internal void @forget_access(ptr %uc) {{
  %size = getelementptr i8, ptr %uc, i64 {SIZE_RECUR_MEM}
  store i32 0, ptr %size
  ret void
}}

define i1 @store_failed(ptr %uc, i32 %type, i64 %address, i32 %size, i64 %value, ptr %hart) {{
  call void @put(ptr %hart, i64 {failed_store}, i64 {ERR_WRITE_UNMAPPED})
  %stop = inttoptr i64 {uc_emu_stop} to ptr
  %r = call i32 %stop(ptr %uc)
  %cpu = call ptr @pointer(ptr %hart, i64 {cpu})
  %leave = inttoptr i64 {cpu_loop_exit} to ptr
  call void %leave(ptr %cpu)
  ret i1 false
}}
"""

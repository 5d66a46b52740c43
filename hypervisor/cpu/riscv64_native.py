"""The native callbacks of a RISC-V hart: blocks counted, exceptions delivered, time read.

Time is counted in bytes of retired code (a "unit"). A BLOCK callback adds its block's size; a
block left midway gives back the tail. Only where a block does not start at the previous one's
end (a taken transfer) does the guest's view of time move and may the run stop, so nothing
depends on where the engine happens to cut blocks.

Stale code: the engine does not notice all stores to translated code (not those through another
mapping after the first, nor other harts', nor the host's). So each page is copied when it is first
translated, and fence.i drops all translations if any of those pages differs from its copy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache

from hypervisor.cpu import library
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.cells import TRAP_CAUSES, UNITS_PER_TICK, ClockCell, HartCell, Reason, offset
from hypervisor.cpu.native import compile_ir

FUNCTIONS = (
    "block",
    "exception",
    "breakpoint_trap",
    "translated",
    "synchronize",
    "read_time",
    "read_cycle",
    "read_instret",
)

_IR = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal i64 @get(ptr %base, i64 %at) alwaysinline {{
  %p = getelementptr i8, ptr %base, i64 %at
  %v = load i64, ptr %p
  ret i64 %v
}}
define internal void @put(ptr %base, i64 %at, i64 %value) alwaysinline {{
  %p = getelementptr i8, ptr %base, i64 %at
  store i64 %value, ptr %p
  ret void
}}
define internal ptr @pointer(ptr %base, i64 %at) alwaysinline {{
  %v = call i64 @get(ptr %base, i64 %at)
  %p = inttoptr i64 %v to ptr
  ret ptr %p
}}
define internal void @add(ptr %base, i64 %at, i64 %value) alwaysinline {{
  %old = call i64 @get(ptr %base, i64 %at)
  %new = add i64 %old, %value
  call void @put(ptr %base, i64 %at, i64 %new)
  ret void
}}
define internal void @stop(ptr %hart, i64 %reason) alwaysinline {{
  call void @put(ptr %hart, i64 {reason}, i64 %reason)
  %uc = call ptr @pointer(ptr %hart, i64 {uc})
  %f = inttoptr i64 {uc_emu_stop} to ptr
  %r = call i32 %f(ptr %uc)
  ret void
}}

define void @block(ptr %uc, i64 %address, i32 %size, ptr %hart) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {units})
  %previous = call i64 @get(ptr %hart, i64 {previous_end})
  %taken = icmp ne i64 %previous, %address
  br i1 %taken, label %transfer, label %count
transfer:
  call void @put(ptr %clock, i64 {visible}, i64 %units)
  %deadline = call i64 @get(ptr %clock, i64 {deadline})
  %due = icmp uge i64 %units, %deadline
  br i1 %due, label %stop, label %count, !prof !0
stop:
  call void @stop(ptr %hart, i64 {DEADLINE})
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

; Enter the trap handler as hardware does; a handler that faults at its own start ends the run.
define internal void @deliver(ptr %hart, ptr %env, i64 %pc) {{
  call void @put(ptr %env, i64 {PC}, i64 %pc)
  %cpu = call ptr @pointer(ptr %hart, i64 {cpu})
  %f = inttoptr i64 {do_interrupt} to ptr
  call void %f(ptr %cpu)
  %handler = call i64 @get(ptr %env, i64 {PC})
  %same = icmp eq i64 %handler, %pc
  br i1 %same, label %stuck, label %done
stuck:
  call void @stop(ptr %hart, i64 {DOUBLE_FAULT})
  ret void
done:
  ret void
}}

define internal void @count_trap(ptr %hart, i64 %cause) {{
  %index = and i64 %cause, {cause_mask}
  %scaled = mul i64 %index, 8
  %at = add i64 %scaled, {traps}
  call void @add(ptr %hart, i64 %at, i64 1)
  ret void
}}

define void @exception(ptr %uc, i32 %number, ptr %hart) {{
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %after = call i64 @get(ptr %env, i64 {PC})
  %pc = sub i64 %after, 4          ; the engine adds 4 before it calls
  %cause = zext i32 %number to i64
  %priv = call i64 @get(ptr %env, i64 {PRIV})
  %user = icmp eq i64 %priv, 0
  br i1 %user, label %seen, label %account
seen:
  call void @put(ptr %hart, i64 {flush_fence_i}, i64 1)
  br label %account
account:
  switch i64 %cause, label %midway [ i64 1, label %fetch
                                     i64 12, label %fetch ]
fetch:                             ; no block was entered: nothing to give back
  call void @put(ptr %hart, i64 {previous_end}, i64 -1)
  br label %dispatch
midway:
  call void @leave(ptr %hart, i64 %pc)
  br label %dispatch
dispatch:
  switch i64 %cause, label %trap [ i64 8, label %call
                                   i64 2, label %illegal ]
call:
  %supervisor = icmp eq i64 %priv, 1
  %ours = call i64 @get(ptr %hart, i64 {firmware_calls})
  %builtin = icmp ne i64 %ours, 0
  %firmware = and i1 %supervisor, %builtin
  br i1 %firmware, label %exit, label %trap
exit:
  call void @put(ptr %env, i64 {PC}, i64 %pc)
  call void @stop(ptr %hart, i64 {FIRMWARE_CALL})
  ret void
illegal:
  call void @put(ptr %hart, i64 {instruction}, i64 0)
  %buffer = getelementptr i8, ptr %hart, i64 {instruction}
  %vmem_read = inttoptr i64 {uc_vmem_read} to ptr
  %r4 = call i32 %vmem_read(ptr %uc, i64 %pc, i32 4, ptr %buffer, i64 4)
  %failed = icmp ne i32 %r4, 0
  br i1 %failed, label %short, label %decode
short:                             ; a 2-byte instruction at the end of the last mapped page
  %r2 = call i32 %vmem_read(ptr %uc, i64 %pc, i32 4, ptr %buffer, i64 2)
  br label %decode
decode:
  %word = call i64 @get(ptr %hart, i64 {instruction})
  %opcode = and i64 %word, 28799   ; 0x707f: funct3 and opcode
  %is_fence_i = icmp eq i64 %opcode, 4111
  br i1 %is_fence_i, label %fence_i, label %undefined
fence_i:                           ; disabled in the engine so that it comes here
  call void @add(ptr %hart, i64 {fence_i}, i64 1)
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  call void @add(ptr %clock, i64 {units}, i64 4)
  %own = call i64 @get(ptr %hart, i64 {flush_fence_i})
  %host = call i64 @get(ptr %clock, i64 {host_writes})
  %known = call i64 @get(ptr %hart, i64 {host_writes_seen})
  %new = sub i64 %host, %known
  %either = or i64 %own, %new
  %needed = icmp ne i64 %either, 0
  br i1 %needed, label %flush, label %resume
flush:
  call void @put(ptr %hart, i64 {host_writes_seen}, i64 %host)
  call void @synchronize(ptr %hart)
  br label %resume
resume:
  ret void
undefined:
  call void @count_trap(ptr %hart, i64 2)
  call void @deliver(ptr %hart, ptr %env, i64 %pc)
  %low = and i64 %word, 3
  %wide = icmp eq i64 %low, 3
  %half = and i64 %word, 65535
  %bits = select i1 %wide, i64 %word, i64 %half
  %into = call i64 @get(ptr %env, i64 {PRIV})
  %machine = icmp eq i64 %into, 3
  %tval = select i1 %machine, i64 {MTVAL}, i64 {STVAL}
  call void @put(ptr %env, i64 %tval, i64 %bits)
  ret void
trap:
  call void @count_trap(ptr %hart, i64 %cause)
  call void @deliver(ptr %hart, ptr %env, i64 %pc)
  ret void
}}

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

; ebreak comes by the engine's invalid-instruction way, with pc at the instruction. The engine
; keeps an error set that the next fault would report: leave the run so that it is cleared.
define i1 @breakpoint_trap(ptr %uc, ptr %hart) {{
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %pc = call i64 @get(ptr %env, i64 {PC})
  call void @leave(ptr %hart, i64 %pc)
  call void @count_trap(ptr %hart, i64 3)
  call void @deliver(ptr %hart, ptr %env, i64 %pc)
  %into = call i64 @get(ptr %env, i64 {PRIV})
  %machine = icmp eq i64 %into, 3
  %tval = select i1 %machine, i64 {MTVAL}, i64 {STVAL}
  call void @put(ptr %env, i64 %tval, i64 %pc)
  %reason = call i64 @get(ptr %hart, i64 {reason})
  %stuck = icmp eq i64 %reason, {DOUBLE_FAULT}
  %why = select i1 %stuck, i64 {DOUBLE_FAULT}, i64 {DEADLINE}
  call void @stop(ptr %hart, i64 %why)
  ret i1 true
}}

define internal ptr @clock_of(ptr %env) alwaysinline {{
  %hart = call ptr @pointer(ptr %env, i64 {HART_SLOT})
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  ret ptr %clock
}}
define i32 @read_time(ptr %env, i32 %csr, ptr %value) {{
  %clock = call ptr @clock_of(ptr %env)
  %units = call i64 @get(ptr %clock, i64 {visible})
  %ticks = udiv i64 %units, {units_per_tick}
  store i64 %ticks, ptr %value
  ret i32 0
}}
define i32 @read_cycle(ptr %env, i32 %csr, ptr %value) {{
  %clock = call ptr @clock_of(ptr %env)
  %units = call i64 @get(ptr %clock, i64 {visible})
  store i64 %units, ptr %value
  ret i32 0
}}
define i32 @read_instret(ptr %env, i32 %csr, ptr %value) {{
  %clock = call ptr @clock_of(ptr %env)
  %units = call i64 @get(ptr %clock, i64 {visible})
  %idle = call i64 @get(ptr %clock, i64 {idle})
  %bytes = sub i64 %units, %idle
  %count = udiv i64 %bytes, 4
  store i64 %count, ptr %value
  ret i32 0
}}
!0 = !{{!"branch_weights", i32 1, i32 100000}}
"""


@cache
def callbacks() -> Mapping[str, int]:
    """The compiled callbacks: name -> address."""
    c = library.declare
    symbols = {
        "uc_emu_stop": c("uc_emu_stop", c_int, c_void_p),
        "uc_vmem_read": c("uc_vmem_read", c_int, c_void_p, c_uint64, c_uint32, c_void_p, c_size_t),
        "do_interrupt": c("riscv_cpu_do_interrupt_riscv64", None, c_void_p),
        "tb_flush": c("tb_flush_riscv64", None, c_void_p),
        "hostp": c("get_page_addr_code_hostp_riscv64", c_uint64, c_void_p, c_uint64, c_void_p),
        "memcmp": ctypes.CDLL(None).memcmp,
    }
    words = {name: library.address_of(function) for name, function in symbols.items()}
    words |= {name: offset(HartCell, name) for name, *_ in HartCell._fields_}
    words |= {name: offset(ClockCell, name) for name, *_ in ClockCell._fields_}
    words |= {name: getattr(env, name) for name in ("PC", "PRIV", "STVAL", "MTVAL", "HART_SLOT")}
    words |= {
        "DEADLINE": Reason.DEADLINE,
        "FIRMWARE_CALL": Reason.FIRMWARE_CALL,
        "DOUBLE_FAULT": Reason.DOUBLE_FAULT,
        "cause_mask": TRAP_CAUSES - 1,
        "units_per_tick": UNITS_PER_TICK,
    }
    return compile_ir(_IR.format(**words), FUNCTIONS)

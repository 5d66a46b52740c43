"""The native callbacks of a RISC-V hart: exceptions delivered, fence.i obeyed, time read."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int, c_size_t, c_uint32, c_uint64, c_void_p

from hypervisor.cpu import (
    library,
    native,
    native_blocks,
    native_code,
    native_exits,
    native_faults,
    native_stops,
    riscv64_tlb,
)
from hypervisor.cpu import riscv64_env as env

FUNCTIONS = (
    "block",
    "exception",
    "breakpoint_trap",
    "translated",
    "synchronize",
    "read_time",
    "read_cycle",
    "read_instret",
    *native_exits.FUNCTIONS,
    *native_faults.FUNCTIONS,
    *native_stops.FUNCTIONS,
    *riscv64_tlb.FUNCTIONS,
)
OFTEN = ("block", "exception", "translated", "read_time", "write_sstatus", "generate_call")

_FEW_PAGES = 64
"""Code pages that fence.i compares always: so little takes no time. Kernels have more when they
begin to patch themselves; for those `is_check_due` decides."""

_IR = """
; Enter the trap handler as hardware does. A handler that faults at its own start ends the run.
define internal void @deliver(ptr %hart, ptr %env, i64 %pc) {{
  call void @put(ptr %env, i64 {PC}, i64 %pc)
  %from = call i64 @get(ptr %env, i64 {PRIV})
  %cpu = call ptr @pointer(ptr %hart, i64 {cpu})
  %f = inttoptr i64 {do_interrupt} to ptr
  call void %f(ptr %cpu)
  %handler = call i64 @get(ptr %env, i64 {PC})
  %same = icmp eq i64 %handler, %pc
  %mode = call i64 @get(ptr %env, i64 {PRIV})
  %kept = icmp eq i64 %mode, %from  ; another mode may have the address mapped elsewhere
  %again = and i1 %same, %kept
  br i1 %again, label %stuck, label %done
stuck:
  call void @stop(ptr %hart, i64 {DOUBLE_FAULT})
  ret void
done:
  call void @put(ptr %hart, i64 {trapped_at}, i64 %pc)
  ret void
}}

define void @exception(ptr %uc, i32 %number, ptr %hart) {{
  call void @forget_access(ptr %uc)
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %after = call i64 @get(ptr %env, i64 {PC})
  %pc = sub i64 %after, 4          ; the engine adds 4 before it calls
  %cause = zext i32 %number to i64
  %priv = call i64 @get(ptr %env, i64 {PRIV})
  %user = icmp eq i64 %priv, 0
  br i1 %user, label %seen, label %account
seen:
  call void @put(ptr %hart, i64 {watch_code}, i64 1)
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
  call void @add(ptr %hart, i64 {code_barriers}, i64 1)
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  call void @add(ptr %clock, i64 {units}, i64 4)
  %asked = call i1 @is_check_due(ptr %hart)
  %pages = call i64 @get(ptr %hart, i64 {page_count})
  %cheap = icmp ule i64 %pages, {FEW_PAGES}
  %needed = or i1 %asked, %cheap
  br i1 %needed, label %flush, label %resume
flush:
  %host = call i64 @get(ptr %clock, i64 {host_writes})
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
"""


@native.once
def callbacks() -> Mapping[str, int]:
    """The compiled callbacks: name -> address."""
    c = library.declare
    symbols = {
        "uc_emu_stop": c("uc_emu_stop", c_int, c_void_p),
        "uc_vmem_read": c("uc_vmem_read", c_int, c_void_p, c_uint64, c_uint32, c_void_p, c_size_t),
        "uc_mem_protect": c("uc_mem_protect", c_int, c_void_p, c_uint64, c_size_t, c_uint32),
        "cpu_loop_exit": c("cpu_loop_exit_riscv64", None, c_void_p),
        "do_interrupt": c("riscv_cpu_do_interrupt_riscv64", None, c_void_p),
        "tb_flush": c("tb_flush_riscv64", None, c_void_p),
        "tb_invalidate_phys_range": c(
            "tb_invalidate_phys_range_riscv64", None, c_void_p, c_uint64, c_uint64
        ),
        "hostp": c("get_page_addr_code_hostp_riscv64", c_uint64, c_void_p, c_uint64, c_void_p),
        "memcmp": ctypes.CDLL(None).memcmp,
    }
    words = native.cell_words() | native_code.WORDS | native_faults.WORDS | riscv64_tlb.WORDS
    words["engine_write_sstatus"] = _csr_write(riscv64_tlb.SSTATUS)
    words["FEW_PAGES"] = _FEW_PAGES
    words |= {name: library.address_of(function) for name, function in symbols.items()}
    fields = ("PC", "PRIV", "MSTATUS", "STVAL", "MTVAL", "HART_SLOT")
    words |= {name: getattr(env, name) for name in fields}
    words |= native_exits.words("riscv64")
    text = native.HELPERS + native_exits.IR + native_blocks.IR + native_code.IR
    text += native_faults.IR + native_stops.IR + riscv64_tlb.IR + _IR
    compiled = native.compile_ir(text.format(**words), FUNCTIONS, OFTEN)
    native_exits.install("riscv64", compiled["generate_call"])
    return compiled


def _csr_write(number: int) -> int:
    """The engine's own function for writes of a CSR."""
    operations = (c_void_p * 4)()
    library.declare("riscv_get_csr_ops_riscv64", None, c_int, c_void_p)(number, operations)
    return operations[2] or 0

"""The native callbacks of an AArch64 core: exceptions delivered, the generic timer, maintenance of
caches and TLBs.

`aarch64_system` makes the engine call those that answer for registers and instructions. The timers
count virtual time (Arm ARM D11, the generic timer).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int, c_size_t, c_uint32, c_uint64, c_void_p

from hypervisor.cpu import (
    aarch64_checks,
    aarch64_system,
    library,
    native,
    native_blocks,
    native_code,
    native_exits,
    native_faults,
    native_stops,
)
from hypervisor.cpu import aarch64_env as env

FUNCTIONS = (
    "block",
    "exception",
    "translated",
    "synchronize",
    *aarch64_checks.FUNCTIONS,
    *aarch64_system.FUNCTIONS,
    *native_exits.FUNCTIONS,
    *native_faults.FUNCTIONS,
    *native_stops.FUNCTIONS,
)
OFTEN = ("block", "next_block", "translated", "translate_instruction", "generate_call")

_IR = """
define void @exception(ptr %uc, i32 %number, ptr %hart) {{
  call void @forget_access(ptr %uc)
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %pc = call i64 @get(ptr %env, i64 {PC})
  %cause = zext i32 %number to i64
  call void @count_trap(ptr %hart, i64 %cause)
  %pstate = call i64 @get(ptr %env, i64 {PSTATE})
  %level = and i64 %pstate, 12
  %user = icmp eq i64 %level, 0
  br i1 %user, label %seen, label %account
seen:
  call void @put(ptr %hart, i64 {watch_code}, i64 1)
  br label %account
account:
  switch i64 %cause, label %midway [ i64 {PREFETCH_ABORT}, label %outside
                                     i64 {STATE_FAULT}, label %outside ]
outside:                           ; no block was entered: nothing to give back
  call void @put(ptr %hart, i64 {previous_end}, i64 -1)
  br label %dispatch
midway:
  call void @leave(ptr %hart, i64 %pc)
  br label %dispatch
dispatch:
  switch i64 %cause, label %deliver [ i64 {HVC}, label %firmware
                                      i64 {SMC}, label %firmware ]
firmware:
  %ours = call i64 @get(ptr %hart, i64 {firmware_calls})
  %builtin = icmp ne i64 %ours, 0
  br i1 %builtin, label %exit, label %deliver
exit:
  call void @stop(ptr %hart, i64 {FIRMWARE_CALL})
  ret void
deliver:
  %cpu = call ptr @pointer(ptr %hart, i64 {cpu})
  %f = inttoptr i64 {do_interrupt} to ptr
  call void %f(ptr %cpu)
  %handler = call i64 @get(ptr %env, i64 {PC})
  %same = icmp eq i64 %handler, %pc
  %kernel = icmp ne i64 %level, 0    ; EL0 may have another page there
  %again = and i1 %same, %kernel
  br i1 %again, label %stuck, label %done
stuck:
  call void @stop(ptr %hart, i64 {DOUBLE_FAULT})
  ret void
done:
  call void @put(ptr %hart, i64 {trapped_at}, i64 %pc)
  ret void
}}

; Registers that the engine describes as ours are given their record, which leads to the hart.
define internal ptr @hart_of(ptr %record) {{
  %hart = call ptr @pointer(ptr %record, i64 32)
  ret ptr %hart
}}

define internal i64 @ticks(ptr %hart) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {visible})
  %ticks = udiv i64 %units, {units_per_tick}
  ret i64 %ticks
}}

; ENABLE and IMASK as written, with ISTATUS.
define internal i64 @control(ptr %hart, i64 %ctl_at, i64 %cval_at) {{
  %ctl = call i64 @get(ptr %hart, i64 %ctl_at)
  %cval = call i64 @get(ptr %hart, i64 %cval_at)
  %now = call i64 @ticks(ptr %hart)
  %due = icmp uge i64 %now, %cval
  %bit = select i1 %due, i64 4, i64 0
  %enable = and i64 %ctl, 1
  %on = icmp ne i64 %enable, 0
  %status = select i1 %on, i64 %bit, i64 0
  %value = or i64 %ctl, %status
  ret i64 %value
}}

define i64 @read_counter(ptr %env, ptr %record) {{
  %hart = call ptr @hart_of(ptr %record)
  %now = call i64 @ticks(ptr %hart)
  ret i64 %now
}}

; SPSR_EL1. AArch32's User mode, which the engine would return to, is made one that nobody has, so
; that an ERET to it is illegal.
define void @write_spsr(ptr %env, ptr %record, i64 %value) {{
  %field = call i64 @get(ptr %record, i64 {record_field})
  %mode = and i64 %value, 31
  %user = icmp eq i64 %mode, {AARCH32_USER}
  %reserved = or i64 %value, {AARCH32_RESERVED}
  %kept = select i1 %user, i64 %reserved, i64 %value
  call void @put(ptr %env, i64 %field, i64 %kept)
  ret void
}}

; At the next safe point the timers are armed anew.
define internal void @timer_changed(ptr %hart) {{
  call void @put(ptr %hart, i64 {timer_changed}, i64 1)
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  call void @put(ptr %clock, i64 {deadline}, i64 0)
  ret void
}}

; The other harts drop their TLBs before they run on: none of them runs meanwhile.
define internal void @outdate_other_tlbs(ptr %hart) {{
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %first = call ptr @pointer(ptr %clock, i64 {harts})
  %known = icmp ne ptr %first, null
  br i1 %known, label %each, label %done
each:
  %one = phi ptr [ %first, %0 ], [ %next, %each ]
  %other = icmp ne ptr %one, %hart
  %stale = zext i1 %other to i64
  %before = call i64 @get(ptr %one, i64 {tlb_stale})
  %now = or i64 %before, %stale
  call void @put(ptr %one, i64 {tlb_stale}, i64 %now)
  %next = call ptr @pointer(ptr %one, i64 {next_hart})
  %last = icmp eq ptr %next, null
  br i1 %last, label %done, label %each
done:
  ret void
}}

; TLBI ..IS: the engine does it for this hart, and the others are told.
define void @invalidate_tlbs(ptr %env, ptr %record, i64 %value) {{
  %wrapped = call ptr @pointer(ptr %record, i64 32)
  %hart = call ptr @pointer(ptr %wrapped, i64 0)
  call void @outdate_other_tlbs(ptr %hart)
  %own = call ptr @pointer(ptr %wrapped, i64 8)
  call void %own(ptr %env, ptr %record, i64 %value)
  ret void
}}

; IC IVAU, IC IALLU and IC IALLUIS: has code that some hart translated changed? The first names a
; page, the others mean all. What is found is acted on before the next block.
define void @invalidate_page(ptr %env, ptr %record, i64 %value) {{
  %hart = call ptr @hart_of(ptr %record)
  %mmu_idx = inttoptr i64 {arm_mmu_idx} to ptr
  %full = call i32 %mmu_idx(ptr %env)
  %mode = and i32 %full, 15
  %to_host = inttoptr i64 {tlb_vaddr_to_host} to ptr
  %found = call i64 %to_host(ptr %env, i64 %value, i32 0, i32 %mode)
  call void @check_code(ptr %hart, i64 %found)
  ret void
}}

define void @invalidate_all(ptr %env, ptr %record, i64 %value) {{
  %hart = call ptr @hart_of(ptr %record)
  call void @check_code(ptr %hart, i64 0)
  ret void
}}

define internal void @check_code(ptr %hart, i64 %host) {{ ; 0 where the address is not mapped: all
  call void @add(ptr %hart, i64 {code_barriers}, i64 1)
  call void @check_harts(ptr %hart, i64 %host)
  %stale = call i64 @get(ptr %hart, i64 {code_check})
  %asked = icmp ne i64 %stale, 0
  br i1 %asked, label %stop, label %done
stop:
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  call void @put(ptr %clock, i64 {deadline}, i64 0)
  br label %done
done:
  ret void
}}
"""

_TIMER_IR = """
define i64 @read_TIMER_ctl(ptr %env, ptr %record) {{
  %hart = call ptr @hart_of(ptr %record)
  %value = call i64 @control(ptr %hart, i64 {TIMER_ctl}, i64 {TIMER_cval})
  ret i64 %value
}}

define i64 @read_TIMER_cval(ptr %env, ptr %record) {{
  %hart = call ptr @hart_of(ptr %record)
  %value = call i64 @get(ptr %hart, i64 {TIMER_cval})
  ret i64 %value
}}

define i64 @read_TIMER_tval(ptr %env, ptr %record) {{
  %hart = call ptr @hart_of(ptr %record)
  %now = call i64 @ticks(ptr %hart)
  %cval = call i64 @get(ptr %hart, i64 {TIMER_cval})
  %left = sub i64 %cval, %now
  %value = and i64 %left, 4294967295
  ret i64 %value
}}

define void @write_TIMER_ctl(ptr %env, ptr %record, i64 %value) {{
  %hart = call ptr @hart_of(ptr %record)
  %bits = and i64 %value, 3
  call void @put(ptr %hart, i64 {TIMER_ctl}, i64 %bits)
  call void @timer_changed(ptr %hart)
  ret void
}}

define void @write_TIMER_cval(ptr %env, ptr %record, i64 %value) {{
  %hart = call ptr @hart_of(ptr %record)
  call void @put(ptr %hart, i64 {TIMER_cval}, i64 %value)
  call void @timer_changed(ptr %hart)
  ret void
}}

define void @write_TIMER_tval(ptr %env, ptr %record, i64 %value) {{
  %hart = call ptr @hart_of(ptr %record)
  %now = call i64 @ticks(ptr %hart)
  %low = shl i64 %value, 32
  %signed = ashr i64 %low, 32
  %later = add i64 %now, %signed
  call void @put(ptr %hart, i64 {TIMER_cval}, i64 %later)
  call void @timer_changed(ptr %hart)
  ret void
}}
"""


@native.once
def callbacks() -> Mapping[str, int]:
    """The compiled callbacks: name -> address."""
    c = library.declare
    symbols = {
        "uc_emu_stop": c("uc_emu_stop", c_int, c_void_p),
        "uc_mem_protect": c("uc_mem_protect", c_int, c_void_p, c_uint64, c_size_t, c_uint32),
        "cpu_loop_exit": c("cpu_loop_exit_aarch64", None, c_void_p),
        "do_interrupt": c("arm_cpu_do_interrupt_aarch64", None, c_void_p),
        "tb_flush": c("tb_flush_aarch64", None, c_void_p),
        "tb_invalidate_phys_range": c(
            "tb_invalidate_phys_range_aarch64", None, c_void_p, c_uint64, c_uint64
        ),
        "hostp": c("get_page_addr_code_hostp_aarch64", c_uint64, c_void_p, c_uint64, c_void_p),
        "arm_mmu_idx": c("arm_mmu_idx_aarch64", c_int, c_void_p),
        "tlb_vaddr_to_host": c(
            "tlb_vaddr_to_host_aarch64", c_void_p, c_void_p, c_uint64, c_int, c_int
        ),
        "memcmp": ctypes.CDLL(None).memcmp,
    }
    words = native.cell_words() | native_code.WORDS | native_faults.WORDS
    words |= {name: library.address_of(function) for name, function in symbols.items()}
    words |= {name: getattr(env, name) for name in ("PC", "PSTATE")}
    words |= {name: getattr(env, name) for name in ("PREFETCH_ABORT", "HVC", "SMC")}
    words |= {name: getattr(env, name) for name in ("AARCH32_USER", "AARCH32_RESERVED")}
    words |= aarch64_checks.words()
    words["record_field"] = aarch64_system.RECORD_FIELD
    words |= native_exits.words("aarch64")
    text = native.HELPERS + native_exits.IR + native_blocks.IR + native_code.IR
    text += native_faults.IR + native_stops.IR + _IR
    text += aarch64_checks.IR + aarch64_checks.rules()
    text += "".join(_TIMER_IR.replace("TIMER", timer) for timer in ("cntp", "cntv"))
    compiled = native.compile_ir(text.format(**words), FUNCTIONS, OFTEN)
    aarch64_checks.interpose(compiled)
    native_exits.install("aarch64", compiled["generate_call"])
    return compiled

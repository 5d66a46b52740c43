"""The native callbacks of an AArch64 core: exceptions delivered, the generic timer, maintenance of
caches and TLBs.

The engine's counter is the host's and its timer registers do nothing, so accesses to them are
answered here, from virtual time (Arm ARM D11, the generic timer).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import library, native, native_blocks, native_code, native_stops

FUNCTIONS = (
    "block",
    "exception",
    "translated",
    "synchronize",
    "read_system",
    "write_system",
    "maintenance_operation",
    *native_stops.FUNCTIONS,
)

X0_NUMBER = 199
"""The engine's number of x0."""

CTR_EL0 = 0x8444_C00A
"""Cache lines: 64 bytes of data, as a Cortex-A72 has, and a page of instructions."""

_IR = """
define void @exception(ptr %uc, i32 %number, ptr %hart) {{
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
  %is_fetch = icmp eq i64 %cause, {PREFETCH_ABORT}
  br i1 %is_fetch, label %fetch, label %midway
fetch:                             ; no block was entered: nothing to give back
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

define internal i1 @is_user(ptr %env) {{
  %pstate = call i64 @get(ptr %env, i64 {PSTATE})
  %level = and i64 %pstate, 12
  %user = icmp eq i64 %level, 0
  ret i1 %user
}}

; CRm and op2 of an access to the generic timer (op0 3, op1 3, CRn 14) in one number; else -1, also
; where CNTKCTL_EL1 keeps EL0 from it: the engine traps that.
define internal i32 @timer_register(ptr %access, ptr %env) {{
  %crn = load i32, ptr %access
  %crm_at = getelementptr i8, ptr %access, i64 4
  %crm = load i32, ptr %crm_at
  %op0_at = getelementptr i8, ptr %access, i64 8
  %op0 = load i32, ptr %op0_at
  %op1_at = getelementptr i8, ptr %access, i64 12
  %op1 = load i32, ptr %op1_at
  %op2_at = getelementptr i8, ptr %access, i64 16
  %op2 = load i32, ptr %op2_at
  %is14 = icmp eq i32 %crn, 14
  %is3 = icmp eq i32 %op0, 3
  %el0 = icmp eq i32 %op1, 3
  %both = and i1 %is14, %is3
  %all = and i1 %both, %el0
  %hi = shl i32 %crm, 4
  %key = or i32 %hi, %op2
  %result = select i1 %all, i32 %key, i32 -1
  %user = call i1 @is_user(ptr %env)
  br i1 %user, label %ask, label %done
ask:
  switch i32 %result, label %done [ i32 1, label %permission
                                    i32 2, label %virtual_counter
                                    i32 32, label %physical
                                    i32 33, label %physical
                                    i32 34, label %physical
                                    i32 48, label %virtual
                                    i32 49, label %virtual
                                    i32 50, label %virtual ]
virtual_counter:
  br label %permission
physical:
  br label %permission
virtual:
  br label %permission
permission:                        ; EL0PCTEN, EL0VCTEN, EL0PTEN, EL0VTEN
  %bit = phi i64 [ 1, %ask ], [ 2, %virtual_counter ], [ 512, %physical ], [ 256, %virtual ]
  %control = call i64 @get(ptr %env, i64 {CNTKCTL_EL1})
  %granted = and i64 %control, %bit
  %may = icmp ne i64 %granted, 0
  %answer = select i1 %may, i32 %result, i32 -1
  ret i32 %answer
done:
  ret i32 %result
}}

; The engine numbers x29 and x30 1 and 2, xzr 7, and the others from {X0_NUMBER} on.
define internal void @set_x(ptr %env, i32 %register, i64 %value) {{
  switch i32 %register, label %general [ i32 1, label %x29
                                         i32 2, label %x30
                                         i32 7, label %none ]
x29:
  call void @put(ptr %env, i64 {X29}, i64 %value)
  ret void
x30:
  call void @put(ptr %env, i64 {X30}, i64 %value)
  ret void
none:
  ret void
general:
  %n = sub i32 %register, {X0_NUMBER}
  %wide = zext i32 %n to i64
  %bytes = mul i64 %wide, 8
  %at = add i64 %bytes, {X0}
  call void @put(ptr %env, i64 %at, i64 %value)
  ret void
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

; What the engine says of itself, but for CTR_EL0.IminLine: one IC IVAU covers a page of code; and
; ID_AA64ISAR0_EL1.Atomic: its Cortex-A72 is given the atomic instructions.
define internal i32 @read_identification(i32 %register, ptr %access, ptr %hart) {{
  %crn_crm = load i64, ptr %access
  %op_at = getelementptr i8, ptr %access, i64 8
  %op0_op1 = load i64, ptr %op_at
  %op2_at = getelementptr i8, ptr %access, i64 16
  %op2 = load i32, ptr %op2_at
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %is00 = icmp eq i64 %crn_crm, 0
  %is33 = icmp eq i64 %op0_op1, 12884901891
  %is1 = icmp eq i32 %op2, 1
  %a = and i1 %is00, %is33
  %is_ctr = and i1 %a, %is1
  br i1 %is_ctr, label %ctr, label %other
other:
  %is06 = icmp eq i64 %crn_crm, 25769803776
  %is30 = icmp eq i64 %op0_op1, 3
  %is0 = icmp eq i32 %op2, 0
  %b = and i1 %is06, %is30
  %c = and i1 %b, %is0
  %user = call i1 @is_user(ptr %env)
  %kernel = xor i1 %user, true
  %is_isar = and i1 %c, %kernel
  br i1 %is_isar, label %isar, label %native
native:
  ret i32 0
ctr:
  call void @set_x(ptr %env, i32 %register, i64 {CTR_EL0})
  ret i32 1
isar:
  call void @set_x(ptr %env, i32 %register, i64 {ID_AA64ISAR0_EL1})
  ret i32 1
}}

define i32 @read_system(ptr %uc, i32 %register, ptr %access, ptr %hart) {{
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %key = call i32 @timer_register(ptr %access, ptr %env)
  %now = call i64 @ticks(ptr %hart)
  switch i32 %key, label %native [ i32 1, label %counter
                                   i32 2, label %counter
                                   i32 33, label %p_ctl
                                   i32 34, label %p_cval
                                   i32 32, label %p_tval
                                   i32 49, label %v_ctl
                                   i32 50, label %v_cval
                                   i32 48, label %v_tval ]
native:
  %other = call i32 @read_identification(i32 %register, ptr %access, ptr %hart)
  ret i32 %other
counter:
  call void @set_x(ptr %env, i32 %register, i64 %now)
  ret i32 1
p_ctl:
  %pc = call i64 @control(ptr %hart, i64 {cntp_ctl}, i64 {cntp_cval})
  call void @set_x(ptr %env, i32 %register, i64 %pc)
  ret i32 1
v_ctl:
  %vc = call i64 @control(ptr %hart, i64 {cntv_ctl}, i64 {cntv_cval})
  call void @set_x(ptr %env, i32 %register, i64 %vc)
  ret i32 1
p_cval:
  %pv = call i64 @get(ptr %hart, i64 {cntp_cval})
  call void @set_x(ptr %env, i32 %register, i64 %pv)
  ret i32 1
v_cval:
  %vv = call i64 @get(ptr %hart, i64 {cntv_cval})
  call void @set_x(ptr %env, i32 %register, i64 %vv)
  ret i32 1
p_tval:
  %p0 = call i64 @get(ptr %hart, i64 {cntp_cval})
  %p1 = sub i64 %p0, %now
  %p2 = and i64 %p1, 4294967295
  call void @set_x(ptr %env, i32 %register, i64 %p2)
  ret i32 1
v_tval:
  %v0 = call i64 @get(ptr %hart, i64 {cntv_cval})
  %v1 = sub i64 %v0, %now
  %v2 = and i64 %v1, 4294967295
  call void @set_x(ptr %env, i32 %register, i64 %v2)
  ret i32 1
}}

define i32 @write_system(ptr %uc, i32 %register, ptr %access, ptr %hart) {{
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %key = call i32 @timer_register(ptr %access, ptr %env)
  %value_at = getelementptr i8, ptr %access, i64 24
  %value = load i64, ptr %value_at
  %now = call i64 @ticks(ptr %hart)
  %low = shl i64 %value, 32
  %signed = ashr i64 %low, 32
  %later = add i64 %now, %signed
  %bits = and i64 %value, 3
  switch i32 %key, label %native [ i32 33, label %p_ctl
                                   i32 34, label %p_cval
                                   i32 32, label %p_tval
                                   i32 49, label %v_ctl
                                   i32 50, label %v_cval
                                   i32 48, label %v_tval ]
native:
  ret i32 0
p_ctl:
  call void @put(ptr %hart, i64 {cntp_ctl}, i64 %bits)
  br label %changed
v_ctl:
  call void @put(ptr %hart, i64 {cntv_ctl}, i64 %bits)
  br label %changed
p_cval:
  call void @put(ptr %hart, i64 {cntp_cval}, i64 %value)
  br label %changed
v_cval:
  call void @put(ptr %hart, i64 {cntv_cval}, i64 %value)
  br label %changed
p_tval:
  call void @put(ptr %hart, i64 {cntp_cval}, i64 %later)
  br label %changed
v_tval:
  call void @put(ptr %hart, i64 {cntv_cval}, i64 %later)
  br label %changed
changed:                           ; at the next safe point the timers are armed anew
  call void @put(ptr %hart, i64 {timer_changed}, i64 1)
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  call void @put(ptr %clock, i64 {deadline}, i64 0)
  ret i32 1
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
; IC IVAU, IC IALLU and IC IALLUIS: has code that some hart translated changed? The first names a
; page, the others mean all. What is found is acted on before the next block.
define i32 @maintenance_operation(ptr %uc, i32 %register, ptr %access, ptr %hart) {{
  %crn = load i32, ptr %access
  %crm_at = getelementptr i8, ptr %access, i64 4
  %crm = load i32, ptr %crm_at
  %op1_at = getelementptr i8, ptr %access, i64 12
  %op1 = load i32, ptr %op1_at
  %is8 = icmp eq i32 %crn, 8
  %is3 = icmp eq i32 %crm, 3
  %broadcast = and i1 %is8, %is3
  br i1 %broadcast, label %tlbs, label %caches
tlbs:
  call void @outdate_other_tlbs(ptr %hart)
  ret i32 0
caches:
  %is7 = icmp eq i32 %crn, 7
  %is5 = icmp eq i32 %crm, 5
  %is1 = icmp eq i32 %crm, 1
  %either = or i1 %is5, %is1
  %ic = and i1 %is7, %either
  br i1 %ic, label %note, label %done
note:
  call void @add(ptr %hart, i64 {code_barriers}, i64 1)
  %by_address = icmp eq i32 %op1, 3
  br i1 %by_address, label %translate, label %check
translate:
  %value_at = getelementptr i8, ptr %access, i64 24
  %va = load i64, ptr %value_at
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %mmu_idx = inttoptr i64 {arm_mmu_idx} to ptr
  %full = call i32 %mmu_idx(ptr %env)
  %mode = and i32 %full, 15
  %to_host = inttoptr i64 {tlb_vaddr_to_host} to ptr
  %found = call i64 %to_host(ptr %env, i64 %va, i32 0, i32 %mode)
  br label %check
check:                             ; 0 where the address is not mapped: then all
  %host = phi i64 [ 0, %note ], [ %found, %translate ]
  call void @check_harts(ptr %hart, i64 %host)
  %stale = call i64 @get(ptr %hart, i64 {code_check})
  %asked = icmp ne i64 %stale, 0
  br i1 %asked, label %stop, label %done
stop:
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  call void @put(ptr %clock, i64 {deadline}, i64 0)
  br label %done
done:
  ret i32 0
}}
"""


@cache
def callbacks() -> Mapping[str, int]:
    """The compiled callbacks: name -> address."""
    c = library.declare
    symbols = {
        "uc_emu_stop": c("uc_emu_stop", c_int, c_void_p),
        "uc_mem_protect": c("uc_mem_protect", c_int, c_void_p, c_uint64, c_size_t, c_uint32),
        "do_interrupt": c("arm_cpu_do_interrupt_aarch64", None, c_void_p),
        "tb_flush": c("tb_flush_aarch64", None, c_void_p),
        "hostp": c("get_page_addr_code_hostp_aarch64", c_uint64, c_void_p, c_uint64, c_void_p),
        "arm_mmu_idx": c("arm_mmu_idx_aarch64", c_int, c_void_p),
        "tlb_vaddr_to_host": c(
            "tlb_vaddr_to_host_aarch64", c_void_p, c_void_p, c_uint64, c_int, c_int
        ),
        "memcmp": ctypes.CDLL(None).memcmp,
    }
    words = native.cell_words()
    words |= {name: library.address_of(function) for name, function in symbols.items()}
    words |= {name: getattr(env, name) for name in ("PC", "PSTATE", "X0", "CNTKCTL_EL1")}
    words |= {name: getattr(env, name) for name in ("PREFETCH_ABORT", "HVC", "SMC")}
    words |= {"X29": env.X0 + 8 * 29, "X30": env.X0 + 8 * 30, "X0_NUMBER": X0_NUMBER}
    words |= {"CTR_EL0": CTR_EL0, "ID_AA64ISAR0_EL1": env.ID_AA64ISAR0 | env.ATOMIC}
    text = native.HELPERS + native_blocks.IR + native_code.IR + native_stops.IR + _IR
    return native.compile_ir(text.format(**words), FUNCTIONS)

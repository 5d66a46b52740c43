"""What S-mode may do with U-mode's pages by `sstatus.SUM`, without a flush of the TLB.

The engine has a TLB for each mode, and flushes all of them when SUM changes, as what S-mode's holds
of pages of U-mode is right for one value only. Linux sets SUM and clears it again around every copy
from and to a program's memory. So the TLB of a mode that no hart has is S-mode's for the other
value of SUM, and they change places with it. Whatever flushes one flushes all, and where the engine
sees SUM change by another way it flushes, which is as right: what is empty is so for both. With
`mstatus.MPRV` set, M-mode's TLB depends on SUM too: then the engine sees it change.
"""

from __future__ import annotations

import ctypes

from hypervisor.cpu import library
from hypervisor.cpu.library import EngineError

SSTATUS = 0x100
SUM, MPRV = 1 << 18, 1 << 17
FUNCTIONS = ("write_sstatus",)

_MODES, _SUPERVISOR, _UNUSED = 4, 1, 2
_DESCRIPTION, _FAST = 0x2B8, 16
"""Bytes of CPUTLBDesc and CPUTLBDescFast, of which there is one for each mode."""
_FASTS = -0x50
_DESCRIPTIONS = _FASTS - _MODES * _DESCRIPTION
_DIRTY = _DESCRIPTIONS - 0x20
"""Where they lie before env; and the bits of those TLBs that are not empty."""
_VICTIMS, _VICTIM_BYTES, _PAGES = 0x30, 0x200, 0x2B0
_FIRST_MASK = 0xFF << 6

WORDS = {
    "SUM": SUM,
    "MPRV": MPRV,
    "DESCRIPTION": _DESCRIPTION,
    "FAST": _FAST,
    "TLB_ONE": _DESCRIPTIONS + _SUPERVISOR * _DESCRIPTION,
    "TLB_OTHER": _DESCRIPTIONS + _UNUSED * _DESCRIPTION,
    "FAST_ONE": _FASTS + _SUPERVISOR * _FAST,
    "FAST_OTHER": _FASTS + _UNUSED * _FAST,
    "DIRTY": _DIRTY,
    "BOTH_DIRTY": 1 << _SUPERVISOR | 1 << _UNUSED,
}

IR = """
define internal void @swap(ptr %env, i64 %one, i64 %other, i64 %size) alwaysinline {{
  %spare = alloca [{DESCRIPTION} x i8]
  %p = getelementptr i8, ptr %env, i64 %one
  %q = getelementptr i8, ptr %env, i64 %other
  call void @llvm.memcpy.p0.p0.i64(ptr %spare, ptr %p, i64 %size, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr %q, i64 %size, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %q, ptr %spare, i64 %size, i1 false)
  ret void
}}
define i32 @write_sstatus(ptr %env, i32 %csr, i64 %value) {{
  %old = call i64 @get(ptr %env, i64 {MSTATUS})
  %changed = xor i64 %old, %value
  %sum = and i64 %changed, {SUM}
  %kept = icmp eq i64 %sum, 0
  %mprv = and i64 %old, {MPRV}
  %is_lent = icmp ne i64 %mprv, 0
  %engines = or i1 %kept, %is_lent
  br i1 %engines, label %write, label %other
other:
  call void @swap(ptr %env, i64 {TLB_ONE}, i64 {TLB_OTHER}, i64 {DESCRIPTION})
  call void @swap(ptr %env, i64 {FAST_ONE}, i64 {FAST_OTHER}, i64 {FAST})
  %p = getelementptr i8, ptr %env, i64 {DIRTY}
  %dirty = load i16, ptr %p
  %both = or i16 %dirty, {BOTH_DIRTY}
  store i16 %both, ptr %p
  %new = xor i64 %old, {SUM}       ; the engine finds nothing to flush for
  call void @put(ptr %env, i64 {MSTATUS}, i64 %new)
  br label %write
write:
  %f = inttoptr i64 {engine_write_sstatus} to ptr
  %r = call i32 %f(ptr %env, i32 %csr, i64 %value)
  ret i32 %r
}}
"""


def check(env: int) -> None:
    """Raise EngineError unless the TLBs of a new hart with this env lie where we take them to."""
    for mode in (_SUPERVISOR, _UNUSED):
        start = env + _DESCRIPTIONS + mode * _DESCRIPTION
        victims = ctypes.string_at(start + _VICTIMS, _VICTIM_BYTES)
        pages = ctypes.c_uint64.from_address(start + _PAGES).value
        mask, table = (ctypes.c_uint64 * 2).from_address(env + _FASTS + mode * _FAST)
        is_known = mask == _FIRST_MASK and victims == b"\xff" * _VICTIM_BYTES
        if not is_known or not table or not pages:
            raise EngineError(f"{library.wheel()} keeps its TLBs where they cannot be found")


def in_use(env: int) -> set[int]:
    """The modes whose TLBs the engine knows not to be empty."""
    bits = ctypes.c_uint16.from_address(env + _DIRTY).value
    return {mode for mode in range(16) if bits >> mode & 1}

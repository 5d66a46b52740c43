"""Noting every trap that a hart takes, exceptions and interrupts, while somebody watches.

The engine takes interrupts by itself and tells nobody. A second BLOCK callback sees that the block
about to run is the hart's trap handler and writes a record into a ring; Python empties it before it
publishes anything else, and at safe points. A ring that fills asks for one, which changes no run.
A jump to the handler's address that is no trap would be taken for one; kernels make none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_uint64
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Protocol

from hypervisor.cpu import aarch64_env as aarch64
from hypervisor.cpu import library, native
from hypervisor.cpu import riscv64_env as riscv64
from hypervisor.cpu.cells import HartCell
from hypervisor.cpu.engine import Engine

_CAPACITY = 4096
_NEARLY_FULL = 3072
_WORDS = 4
_INTERRUPT = 1 << 63


class _Ring(ctypes.Structure):
    _fields_ = [
        ("ring_hart", c_uint64),  # address of the HartCell
        ("ring_count", c_uint64),
        ("ring_last", c_uint64),  # clock units at the last record: no trap is noted twice
        ("ring_lost", c_uint64),
        ("ring_records", c_uint64 * (_CAPACITY * _WORDS)),  # time, cause, pc, value
    ]
    ring_hart: int
    ring_count: int
    ring_last: int
    ring_lost: int
    ring_records: ctypes.Array[c_uint64]


@dataclass(frozen=True, slots=True)
class Record:
    """One trap."""

    time: int
    """Clock units."""
    is_interrupt: bool
    number: int
    name: str
    pc: int
    value: int


class Traceable(Protocol):
    """A hart, as far as this goes."""

    arch: ClassVar[str]
    index: int
    engine: Engine
    cell: HartCell

    def flush_translations(self) -> None: ...


class TrapTrace:
    """The traps of one hart, noted until `close`."""

    def __init__(self, hart: Traceable) -> None:
        self.hart = hart
        self.lost = 0
        """Traps that were taken and not noted, as the ring was full."""
        self._ring = _Ring(ring_hart=ctypes.addressof(hart.cell), ring_last=(1 << 64) - 1)
        self._handle = hart.engine.hook(
            library.HOOK_BLOCK,
            _callbacks()[f"{hart.arch}_block"],
            ctypes.addressof(self._ring),
        )
        hart.flush_translations()

    def take(self) -> list[Record]:
        """What was noted since the last call."""
        ring = self._ring
        count = ring.ring_count
        self.lost += ring.ring_lost
        ring.ring_lost = 0
        if not count:
            return []
        words = ring.ring_records[: count * _WORDS]
        ring.ring_count = 0
        record = _RECORDS[self.hart.arch]
        return [record(*words[at : at + _WORDS]) for at in range(0, len(words), _WORDS)]

    def close(self) -> None:
        """Note nothing more."""
        self.hart.engine.unhook(self._handle)
        self.hart.flush_translations()


def _riscv64_record(time: int, cause: int, pc: int, value: int) -> Record:
    is_interrupt = bool(cause & _INTERRUPT)
    number = cause & ~_INTERRUPT
    names = riscv64.INTERRUPTS if is_interrupt else riscv64.CAUSES
    return Record(time, is_interrupt, number, names.get(number, f"cause {number}"), pc, value)


def _aarch64_record(time: int, cause: int, pc: int, address: int) -> Record:
    if cause & _INTERRUPT:
        number = cause & ~_INTERRUPT
        return Record(time, True, number, aarch64.INTERRUPTS[number], pc, 0)
    number = cause >> 26 & 0x3F
    value = address if number in aarch64.WITH_ADDRESS else cause & 0x1FF_FFFF
    name = aarch64.CLASSES.get(number, f"exception class {number:#x}")
    return Record(time, False, number, name, pc, value)


_RECORDS = {"riscv64": _riscv64_record, "aarch64": _aarch64_record}

_IR = """
define internal void @note(ptr %ring, ptr %clock, i64 %began, i64 %cause, i64 %pc, i64 %value) {{
  %last = call i64 @get(ptr %ring, i64 {ring_last})
  %again = icmp eq i64 %last, %began
  br i1 %again, label %done, label %room
room:
  %count = call i64 @get(ptr %ring, i64 {ring_count})
  %full = icmp uge i64 %count, {CAPACITY}
  br i1 %full, label %lose, label %keep
lose:
  call void @add(ptr %ring, i64 {ring_lost}, i64 1)
  ret void
keep:
  call void @put(ptr %ring, i64 {ring_last}, i64 %began)
  %offset = mul i64 %count, 32
  %at = add i64 %offset, {ring_records}
  %at8 = add i64 %at, 8
  %at16 = add i64 %at, 16
  %at24 = add i64 %at, 24
  %now = call i64 @get(ptr %clock, i64 {visible})
  call void @put(ptr %ring, i64 %at, i64 %now)
  call void @put(ptr %ring, i64 %at8, i64 %cause)
  call void @put(ptr %ring, i64 %at16, i64 %pc)
  call void @put(ptr %ring, i64 %at24, i64 %value)
  %more = add i64 %count, 1
  call void @put(ptr %ring, i64 {ring_count}, i64 %more)
  %urgent = icmp uge i64 %more, {NEARLY_FULL}
  br i1 %urgent, label %ask, label %done
ask:
  call void @put(ptr %clock, i64 {deadline}, i64 0)
  ret void
done:
  ret void
}}

; Where a trap with this cause is taken to. mtvec and stvec: base, and in mode 1 four bytes an
; interrupt (privileged specification 1.12, section 3.1.7).
define internal i64 @handler(i64 %vector, i64 %cause) {{
  %base = and i64 %vector, -4
  %mode = and i64 %vector, 3
  %vectored = icmp eq i64 %mode, 1
  %interrupt = icmp slt i64 %cause, 0
  %both = and i1 %vectored, %interrupt
  %number = and i64 %cause, 255
  %offset = shl i64 %number, 2
  %entry = add i64 %base, %offset
  %address = select i1 %both, i64 %entry, i64 %base
  ret i64 %address
}}

; Called after the callback that counts: `units` has the block already, and a run that ends at this
; block will come to it again.
define void @riscv64_block(ptr %uc, i64 %address, i32 %size, ptr %ring) {{
  %hart = call ptr @pointer(ptr %ring, i64 {ring_hart})
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %priv = call i64 @get(ptr %env, i64 {PRIV})
  %machine = icmp eq i64 %priv, 3
  %vector_at = select i1 %machine, i64 {MTVEC}, i64 {STVEC}
  %cause_at = select i1 %machine, i64 {MCAUSE}, i64 {SCAUSE}
  %vector = call i64 @get(ptr %env, i64 %vector_at)
  %cause = call i64 @get(ptr %env, i64 %cause_at)
  %handler = call i64 @handler(i64 %vector, i64 %cause)
  %enters = icmp eq i64 %handler, %address
  br i1 %enters, label %trap, label %done
trap:
  %reason = call i64 @get(ptr %hart, i64 {reason})
  %runs = icmp eq i64 %reason, 0
  br i1 %runs, label %read, label %done
read:
  %pc_at = select i1 %machine, i64 {MEPC}, i64 {SEPC}
  %value_at = select i1 %machine, i64 {MTVAL}, i64 {STVAL}
  %pc = call i64 @get(ptr %env, i64 %pc_at)
  %value = call i64 @get(ptr %env, i64 %value_at)
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {units})
  %bytes = zext i32 %size to i64
  %began = sub i64 %units, %bytes
  call void @note(ptr %ring, ptr %clock, i64 %began, i64 %cause, i64 %pc, i64 %value)
  ret void
done:
  ret void
}}

; VBAR_EL1: four groups of four entries of 128 bytes, for synchronous exceptions, IRQ, FIQ and
; SError (Arm ARM D1.10.2).
define void @aarch64_block(ptr %uc, i64 %address, i32 %size, ptr %ring) {{
  %hart = call ptr @pointer(ptr %ring, i64 {ring_hart})
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %base = call i64 @get(ptr %env, i64 {VBAR_EL1})
  %offset = sub i64 %address, %base
  %near = icmp ult i64 %offset, 2048
  %within = and i64 %offset, 127
  %first = icmp eq i64 %within, 0
  %enters = and i1 %near, %first
  br i1 %enters, label %trap, label %done
trap:
  %reason = call i64 @get(ptr %hart, i64 {reason})
  %runs = icmp eq i64 %reason, 0
  br i1 %runs, label %read, label %done
read:
  %entry = lshr i64 %offset, 7
  %kind = and i64 %entry, 3
  %syndrome = call i64 @get(ptr %env, i64 {ESR_EL1})
  %number = sub i64 %kind, 1
  %interrupt = or i64 %number, -9223372036854775808
  %synchronous = icmp eq i64 %kind, 0
  %cause = select i1 %synchronous, i64 %syndrome, i64 %interrupt
  %pc = call i64 @get(ptr %env, i64 {ELR_EL1})
  %value = call i64 @get(ptr %env, i64 {FAR_EL1})
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {units})
  %bytes = zext i32 %size to i64
  %began = sub i64 %units, %bytes
  call void @note(ptr %ring, ptr %clock, i64 %began, i64 %cause, i64 %pc, i64 %value)
  ret void
done:
  ret void
}}
"""


@cache
def _callbacks() -> Mapping[str, int]:
    """Compiled at the first use: who traces nothing does not wait for it."""
    words = native.cell_words()
    words |= {name: getattr(_Ring, name).offset for name, *_ in _Ring._fields_}
    words |= {"CAPACITY": _CAPACITY, "NEARLY_FULL": _NEARLY_FULL}
    names = ("PRIV", "STVEC", "MTVEC", "SCAUSE", "MCAUSE", "SEPC", "MEPC", "STVAL", "MTVAL")
    words |= {name: getattr(riscv64, name) for name in names}
    words |= {
        name: getattr(aarch64, name) for name in ("VBAR_EL1", "ESR_EL1", "ELR_EL1", "FAR_EL1")
    }
    words["uc_emu_stop"] = library.address_of(library.load().uc_emu_stop)
    text = native.HELPERS + _IR
    return native.compile_ir(text.format(**words), ("riscv64_block", "aarch64_block"))

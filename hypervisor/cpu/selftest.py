"""Proves at start-up that this wheel of Unicorn is what the machine relies on.

A few instructions run on a real hart: state offsets, exception delivery, time, WFI and the
access-fault path must come out exactly; else EngineError names the wheel and what differs.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from ctypes import c_uint64
from dataclasses import dataclass
from functools import cache

from hypervisor.cpu import hart as any_hart
from hypervisor.cpu import library, riscv64_tlb
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.cells import NEVER, ClockCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import EngineError
from hypervisor.cpu.riscv64 import Hart
from hypervisor.cpu.riscv64_internals import ARCH_RISCV, MODE_RISCV64, find_env

BASE = 0x8000_0000
SIZE = 1 << 16

_REGISTERS = {2: env.X0 + 8, 127: 976, 190: env.PC}
"""Unicorn's numbers of x1, mscratch and pc, and where they must lie in env."""

_ILLEGAL, _ECALL, _EBREAK = 0xFFFFFFFF, 0x00000073, 0x00100073
_MAIN = (
    0x00000297,  # auipc t0, 0
    0x10028293,  # addi  t0, t0, 0x100
    0x30529073,  # csrw  mtvec, t0
    _ECALL,
    _ILLEGAL,
    _EBREAK,
    0x00003383,  # ld    t2, 0(zero)      nothing is mapped there
    0x00703023,  # sd    t2, 0(zero)
    0x0000100F,  # fence.i
    0xC0102E73,  # rdtime t3
    0x10500073,  # wfi
)
_HANDLER = (
    0x34202573,  # csrr  a0, mcause
    0x00459593,  # slli  a1, a1, 4
    0x00A5E5B3,  # or    a1, a1, a0
    0x34102673,  # csrr  a2, mepc
    0x00460613,  # addi  a2, a2, 4
    0x34161073,  # csrw  mepc, a2
    0x30200073,  # mret
)
_CAUSES = 0xB2357
"""ecall from M-mode, illegal instruction, breakpoint, load access fault, store access fault: as
they were handled."""
DEVICE = 0x1000
_EXITS = 0x2000
_STORES = (
    0x00001537,  # lui a0, 1
    0x00052023,  # sw  zero, 0(a0)
    0x00052023,  # sw  zero, 0(a0)
    0x0080006F,  # j   .+8
    0x00000013,  # nop
    0x10500073,  # wfi
)
_ADDRESS = 0x12_3456_789A
_UNITS = 4 * (len(_MAIN) - 5 + 5 * len(_HANDLER))
"""Bytes retired: all but the five instructions that trapped."""


@dataclass(frozen=True)
class Layout:
    """Where internals lie that differ from build to build."""

    exception_index: int
    """Offset of CPUState.exception_index."""


@cache
def verify() -> Layout:
    """Run the test once in a process; the layout it found."""
    with Ram() as ram:
        layout = Layout(_find_exception_index(ram))
        _run_program(ram, layout)
    return layout


class Ram:
    """A little host memory for the test's guest."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, SIZE)
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._anchor)

    def store(self, offset: int, words: tuple[int, ...]) -> None:
        data = b"".join(word.to_bytes(4, "little") for word in words)
        self.map[offset : offset + len(data)] = data

    def __enter__(self) -> Ram:
        return self

    def __exit__(self, *error: object) -> None:
        del self._anchor
        self.map.close()


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise EngineError(
            f"the engine self-test failed on {library.wheel()}: {what} is {found}, not {wanted}"
        )


def _find_exception_index(ram: Ram) -> int:
    """The 32-bit word of the CPUState that holds the exception's number, for several of them."""
    engine = Engine(ARCH_RISCV, MODE_RISCV64)
    state = find_env(engine)
    riscv64_tlb.check(state)
    for register, offset in _REGISTERS.items():
        marker = 0x1234_5678_9ABC_DE00 + 2 * register
        engine.write_register(register, marker)
        found = c_uint64.from_address(state + offset).value
        expect(f"the offset of register {register}", hex(found), hex(marker))
    cpu = engine.find_cpu(state)
    engine.map_ram(BASE, SIZE, ram.address)
    candidates: set[int] = set(range(0, state - cpu, 4))

    def exception(uc: int, number: int, data: int) -> None:
        words = (ctypes.c_int32 * ((state - cpu) // 4)).from_address(cpu)
        candidates.intersection_update(4 * n for n, word in enumerate(words) if word == number)

    hook = library.InterruptHook(exception)
    engine.hook(library.HOOK_INTR, library.address_of(hook), 0)
    ram.store(0, (_ECALL, _ILLEGAL, _ECALL, _ILLEGAL, 0x10500073))
    engine.start(BASE)
    expect("the TLBs in use", riscv64_tlb.in_use(state), {env.MACHINE})
    engine.close()
    if len(candidates) != 1:
        raise EngineError(
            f"the engine self-test failed on {library.wheel()}: "
            f"{len(candidates)} places may hold the exception number"
        )
    return candidates.pop()


def _run_program(ram: Ram, layout: Layout) -> None:
    clock = ClockCell(deadline=NEVER)
    hart = Hart(0, clock, layout.exception_index)
    hart.map_ram(BASE, SIZE, ram.address)
    ram.store(0, _MAIN)
    ram.store(0x100, _HANDLER)
    hart.reset(firmware=True)
    hart.begin(BASE)
    reasons: list[int] = []
    while not hart.waiting and len(reasons) < 10:
        reasons.append(hart.run())
    registers = hart.registers
    registers["pmpaddr1"] = _ADDRESS
    pmp = c_uint64.from_address(hart.env + env.PMP_TABLE + env.PMP_ENTRY)
    checks: dict[str, Callable[[], tuple[object, object]]] = {
        "what ended the run": lambda: (reasons, [*[Reason.DEADLINE] * 3, Reason.NONE]),
        "the causes delivered": lambda: (hex(registers["a1"]), hex(_CAUSES)),
        "pc after wfi": lambda: (hex(hart.pc), hex(BASE + 4 * len(_MAIN))),
        "the bytes retired": lambda: (clock.units, _UNITS),
        "the count of fence.i": lambda: (hart.cell.code_barriers, 1),
        "a memory protection entry": lambda: (hex(pmp.value), hex(_ADDRESS)),
    }
    try:
        for what, check in checks.items():
            expect(what, *check())
        prove_exits(hart, ram, _STORES)
    finally:
        hart.close()


def prove_exits(hart: any_hart.Hart, ram: Ram, code: tuple[int, ...]) -> None:
    """Run `code`, which stores twice to `DEVICE` in one block, jumps and waits: a stop that the
    first store asks for is taken after it with `Engine.check_exits(True)`, and without that not
    before the block's end; a deadline is, behind the block."""
    stores: list[bool] = []
    engine, clock = hart.engine, hart.clock
    looks, stops = True, True

    def write(uc: int, offset: int, size: int, value: int, data: int) -> None:
        stores.append(looks)
        if stops:
            library.load().uc_emu_stop(engine.handle)
        clock.deadline = 0

    engine.map_mmio(DEVICE, 0x1000, library.MmioRead(lambda *_: 0), library.MmioWrite(write))
    ram.store(_EXITS, code)
    for looks in (True, False):
        engine.check_exits(looks)
        _run_from(hart, BASE + _EXITS)
    expect("what is done before a stop is taken", stores, [True, False, False])
    stops = False
    reason = _run_from(hart, BASE + _EXITS)
    where = hart.pc - BASE - _EXITS
    found = (reason, stores[3:], where)
    expect("where a deadline acts", found, (Reason.DEADLINE, [False, False], 4 * len(code) - 4))


def _run_from(hart: any_hart.Hart, pc: int) -> int:
    hart.begin(pc)
    hart.clock.deadline = NEVER
    return hart.run()

"""Proves at start-up that this wheel's AArch64 core is what the machine relies on; see `selftest`.

Offsets of the state are compared with the public register interface, and a few instructions run on
a real core: exceptions (some are ours, see `aarch64_checks`), time, the exclusive monitor and WFI.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_uint64
from functools import cache

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu.aarch64 import Core
from hypervisor.cpu.aarch64_internals import PAGE
from hypervisor.cpu.cells import NEVER, ClockCell, Reason
from hypervisor.cpu.selftest import BASE, SIZE, Ram, expect, prove_exits

_NUMBERS = {"sp": (4, env.SP), "pc": (260, env.PC), "SP_EL1": (271, env.SP_EL + 8)}
_NUMBERS |= {"ELR_EL1": (267, env.ELR_EL1), "ESR_EL1": (277, env.ESR_EL1)}
_NUMBERS |= {"FAR_EL1": (281, env.FAR_EL1), "VBAR_EL1": (287, env.VBAR_EL1)}
"""Unicorn's numbers of registers, and where they must lie in env."""
_Q9 = 104 + 9

_SVC, _UNDEFINED, _BRK, _WFI = 0xD4000001, 0x00000000, 0xD4200000, 0xD503207F
_MAIN = (
    0x10004000,  # adr  x0, .+0x800
    0xD518C000,  # msr  vbar_el1, x0
    _SVC,
    _UNDEFINED,
    _BRK,
    0xC85F7C27,  # ldxr x7, [x1]
    0xF9000046,  # str  x6, [x2]           nothing is mapped there
    0xF9400046,  # ldr  x6, [x2]
    0x1E6E1000,  # fmov d0, #1             CPACR_EL1 does not let it
    0xD2800109,  # mov  x9, #8
    0x9100013F,  # mov  sp, x9
    0xF94003E6,  # ldr  x6, [sp]           misaligned
    0x14000001,  # b    .+4
    0xD53BE048,  # mrs  x8, cntvct_el0
    _WFI,
)
_HANDLER = (
    0xD5385203,  # mrs  x3, esr_el1
    0xD35AFC63,  # lsr  x3, x3, #26
    0xAA042064,  # orr  x4, x3, x4, lsl #8
    0xD5384025,  # mrs  x5, elr_el1
    0xF100547F,  # cmp  x3, #0x15          SVC returns behind itself
    0x54000040,  # b.eq .+8
    0x910010A5,  # add  x5, x5, #4
    0xD5184025,  # msr  elr_el1, x5
    0xD69F03E0,  # eret
)
_STORES = (
    0xD2820000,  # mov  x0, 0x1000
    0xB900001F,  # str  wzr, [x0]
    0xB900001F,  # str  wzr, [x0]
    0x14000002,  # b    .+8
    0xD503201F,  # nop
    0xD503207F,  # wfi
)
_CLASSES = 0x15003C25250726
"""SVC, undefined, BRK, two data aborts, floating point, sp alignment: as they were handled."""
_UNITS = 4 * (len(_MAIN) - 6 + 6 * len(_HANDLER) + len(_HANDLER) - 1)
"""Bytes retired: all but the six that were not executed, and one `add`."""
_VALUE = 0x0123_4567_89AB_CDEF
_VECTORS, _DATA = 0x800, 0x1000


class _Vector(ctypes.Structure):
    _fields_ = [("low", c_uint64), ("high", c_uint64)]


@cache
def verify() -> None:
    """Run the test once in a process. Raises EngineError."""
    with Ram() as ram:
        clock = ClockCell(deadline=NEVER)
        core = Core(0, clock)
        try:
            _compare_offsets(core)
            _run_program(core, clock, ram)
        finally:
            core.close()


def _compare_offsets(core: Core) -> None:
    expect("the size of a page", core.engine.page_size, PAGE)
    for name, (number, offset) in _NUMBERS.items():
        core.engine.write_register(number, _VALUE)
        expect(f"the offset of {name}", hex(_word(core, offset)), hex(_VALUE))
    core.engine.write_from(_Q9, _Vector(_VALUE, 7))
    expect("the offset of v9", hex(core.registers["v9"]), hex(7 << 64 | _VALUE))
    core.registers["HCR_EL2"] = 0x8000_0098
    expect("the offset of HCR_EL2", hex(_word(core, env.HCR_EL2)), hex(0x8000_0098))
    core.registers["TTBR0_EL1"] = _VALUE
    expect("the offset of TTBR0_EL1", hex(_word(core, env.TTBR0_EL1)), hex(_VALUE))
    core.registers["TTBR0_EL1"] = 0


def _word(core: Core, offset: int) -> int:
    return c_uint64.from_address(core.env + offset).value


def _run_program(core: Core, clock: ClockCell, ram: Ram) -> None:
    core.map_ram(BASE, SIZE, ram.address)
    ram.store(0, _MAIN)
    ram.store(_VECTORS + 0x200, _HANDLER)
    ctypes.memmove(ram.address + _DATA, _VALUE.to_bytes(8, "little"), 8)
    core.reset(firmware=False)
    core.begin(BASE, 0, BASE + _DATA, 0)
    reasons: list[int] = []
    while not core.waiting and len(reasons) < 10:
        reasons.append(core.run())
    registers = core.registers
    checks: dict[str, Callable[[], tuple[object, object]]] = {
        "what ended the run": lambda: (reasons, [Reason.DEADLINE, Reason.DEADLINE, Reason.NONE]),
        "the exceptions taken": lambda: (hex(registers["x4"]), hex(_CLASSES)),
        "pc after wfi": lambda: (hex(core.pc), hex(BASE + 4 * len(_MAIN))),
        "the bytes retired": lambda: (clock.units, _UNITS),
        "what ldxr loaded": lambda: (hex(registers["x7"]), hex(_VALUE)),
        "the counter": lambda: (registers["x8"], registers["CNTVCT_EL0"]),
    }
    for what, check in checks.items():
        expect(what, *check())
    prove_exits(core, ram, _STORES)

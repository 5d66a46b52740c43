"""An AArch64 core (Armv8-A, EL1 and EL0) on one Unicorn instance: its life as the machine's hart.

Firmware calls (PSCI by HVC) leave the run; interrupts come by HCR_EL2.VI, the virtual interrupt
line, which the engine takes natively.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import struct
from ctypes import c_uint32, c_uint64, c_void_p
from functools import cache

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import library
from hypervisor.cpu.aarch64_native import X0_NUMBER, callbacks
from hypervisor.cpu.cells import NEVER, ClockCell, HartCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import EngineError
from hypervisor.device.line import Line

ARCH_ARM64, MODE_ARM, CORTEX_A72 = 2, 0, 2
_REG_CP, _REG_PSTATE = 290, 265
_JUMP_AND_WAIT = bytes.fromhex("01000014 7f2003d5")
"""b .+4; wfi"""
_INS_MRS, _INS_MSR, _INS_SYS = 1, 2, 3

_SCR_EL3 = 0x5B1  # EL1 is non-secure and AArch64; HVC enabled
_HCR_RW_IMO = 1 << 31 | 1 << 4
_HCR_VI = 1 << 7
TIMEBASE = 10_000_000
_CACHE_LOOP = 16
"""Bytes of a loop over cache lines: IC, add, compare, branch. One that also writes code, and has
the barriers that it then needs, is longer."""


class _Access(ctypes.Structure):
    """uc_arm64_cp_reg."""

    _fields_ = [
        ("crn", c_uint32),
        ("crm", c_uint32),
        ("op0", c_uint32),
        ("op1", c_uint32),
        ("op2", c_uint32),
        ("val", c_uint64),
    ]


class Internals:
    """The engine's internal functions for AArch64."""

    def __init__(self) -> None:
        d = library.declare
        self.do_interrupt = d("arm_cpu_do_interrupt_aarch64", None, c_void_p)
        self.tlb_flush = d("tlb_flush_aarch64", None, c_void_p)
        self.synchronize = ctypes.CFUNCTYPE(None, c_void_p)(callbacks()["synchronize"])


@cache
def internals() -> Internals:
    return Internals()


class Core:
    """One core: its engine, registers and interrupt input 0 (IRQ)."""

    def __init__(self, index: int, clock: ClockCell) -> None:
        self.index = index
        self.clock = clock
        self.engine = Engine(ARCH_ARM64, MODE_ARM, CORTEX_A72)
        self.engine.prime(_JUMP_AND_WAIT)
        self.env = _find_env(self.engine)
        self.cpu = self.engine.find_cpu(self.env)
        self.waiting = False
        self.stopped = True
        self.executed = 0
        self.cell = HartCell(
            clock=ctypes.addressof(clock),
            uc=self.engine.handle,
            env=self.env,
            cpu=self.cpu,
            previous_end=NEVER,
            firmware_calls=1,
        )
        self._pc = c_uint64.from_address(self.env + env.PC)
        self._irq = Line(f"core{index}.irq")
        self._level = False
        self._irq.connect(self._irq_changed)
        self._checked_pc = NEVER
        self._checked_at = 0
        native = callbacks()
        data = ctypes.addressof(self.cell)
        self.engine.hook(library.HOOK_INTR, native["exception"], data)
        self.engine.hook(library.HOOK_BLOCK, native["block"], data)
        self.engine.hook(library.HOOK_EDGE_GENERATED, native["translated"], data)
        self.engine.hook_instruction(_INS_MRS, native["read_system"], data)
        self.engine.hook_instruction(_INS_MSR, native["write_system"], data)
        self.engine.hook_instruction(_INS_SYS, native["cache_operation"], data)

    @property
    def pc(self) -> int:
        return self._pc.value

    @pc.setter
    def pc(self, value: int) -> None:
        self._pc.value = value
        self.cell.previous_end = NEVER

    def x(self, number: int) -> int:
        return c_uint64.from_address(self.env + env.X0 + 8 * number).value

    def set_x(self, number: int, value: int) -> None:
        c_uint64.from_address(self.env + env.X0 + 8 * number).value = value & NEVER

    def system(self, name: str) -> int:
        """A system register by its specification's name."""
        access = self._access(name, 0)
        self.engine.read_into(_REG_CP, access)
        return int(access.val)

    def set_system(self, name: str, value: int) -> None:
        self.engine.write_from(_REG_CP, self._access(name, value))

    def _access(self, name: str, value: int) -> _Access:
        op0, op1, crn, crm, op2 = env.SYSTEM_REGISTERS[name]
        return _Access(crn, crm, op0, op1, op2, value)

    def begin(self, pc: int, *arguments: int) -> None:
        """Start at `pc` in EL1 with x0, x1, ... as given."""
        self.set_system("SCR_EL3", _SCR_EL3)
        self.set_system("CNTHCTL_EL2", 3)
        self.engine.write_register(_REG_PSTATE, env.EL1H_MASKED)
        self.set_system("CNTFRQ_EL0", TIMEBASE)
        self.set_system("HCR_EL2", _HCR_RW_IMO)
        for number, value in enumerate(arguments):
            self.set_x(number, value)
        self.pc = pc
        self.waiting = False
        self.stopped = False
        self.flush()

    def interrupt(self, number: int) -> Line:
        """The IRQ input, whatever the number: a core has no other."""
        return self._irq

    def close(self) -> None:
        self.engine.close()

    def _irq_changed(self, level: bool) -> None:
        self.clock.deadline = 0

    def take_interrupt_lines(self) -> bool:
        """Copy the line into HCR_EL2.VI; whether it is high."""
        if self._irq.level != self._level:
            self._level = self._irq.level
            self.set_system("HCR_EL2", _HCR_RW_IMO | (_HCR_VI if self._level else 0))
        return self._level

    def run(self) -> int:
        """Execute until something ends it: a `Reason`; Reason.NONE means it waits (WFI)."""
        cell, clock = self.cell, self.clock
        cell.reason = Reason.NONE
        before = clock.units
        error = self.engine.start(self._pc.value)
        if error:
            self.engine.check(error, f"run the guest at {self.pc:#x}")
        elif cell.reason == Reason.NONE:
            self.waiting = True
            if cell.previous_end != NEVER:
                clock.units -= cell.previous_end - self._pc.value
                cell.previous_end = NEVER
        self.executed += clock.units - before
        clock.visible = clock.units
        if cell.code_check:
            self._check_code()
        reason: int = cell.reason
        return reason

    def _check_code(self) -> None:
        """After IC: once for a loop over cache lines, which comes back to the same pc and does
        nothing else."""
        self.cell.code_check = 0
        pc, units = self.pc, self.clock.units
        if pc != self._checked_pc or units - self._checked_at > _CACHE_LOOP:
            self.synchronize_code()
        self._checked_pc, self._checked_at = pc, units

    def synchronize_code(self) -> None:
        """Forget the translations if the code they were made from has changed."""
        internals().synchronize(ctypes.addressof(self.cell))

    def flush(self) -> None:
        self.cell.code_changed = 1
        self.synchronize_code()
        internals().tlb_flush(self.cpu)
        self.cell.host_writes_seen = self.clock.host_writes

    def map_ram(self, base: int, size: int, host: int) -> None:
        """Guest-physical RAM at `base` on host memory at `host`, in whole pages."""
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.engine.map_ram(base, size, host)
        self._areas = [mmap.mmap(-1, n, private) for n in (size, size >> 12, size >> 10)]
        self.cell.ram_host = host
        self.cell.ram_size = size
        for name, area in zip(("shadow", "listed", "pages"), self._areas, strict=True):
            setattr(self.cell, name, ctypes.addressof(ctypes.c_char.from_buffer(area)))


def _find_env(engine: Engine) -> int:
    """CPUARMState by random values in x0 to x3, read back from the CPUState's memory."""
    markers = [secrets.randbits(64) for _ in range(4)]
    for number, value in enumerate(markers):
        engine.write_register(X0_NUMBER + number, value)
    pattern = struct.pack("<4Q", *markers)
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        for candidate in set(struct.unpack("<600Q", os.pread(memory, 4800, engine.handle))):
            if candidate % 8 or not 0x10000 < candidate < 1 << 47:
                continue
            try:
                body = os.pread(memory, 0x20000, candidate)
            except OSError:
                continue
            position = body.find(pattern)
            if position >= 0 and body[:8] == struct.pack("<II", 1, 1):
                return int(candidate) + position - env.X0
    finally:
        os.close(memory)
    raise EngineError(f"{library.wheel()} keeps its CPU state where it cannot be found")

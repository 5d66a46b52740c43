"""An AArch64 core (Armv8-A, EL1 and EL0) on one Unicorn instance.

WFI waits. WFE and YIELD go on at once, which the architecture allows: what they wait for may have
come already.

Firmware calls (PSCI by HVC or SMC) leave the run; interrupts come by HCR_EL2.VI and VF, the virtual
interrupt lines, which the engine takes natively.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_uint64
from typing import Any

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import hart, library
from hypervisor.cpu.aarch64_decode import data_address
from hypervisor.cpu.aarch64_internals import (
    ARCH_ARM64,
    CORTEX_A72,
    MODE_ARM,
    PAGE,
    choose_features,
    find_env,
    internals,
)
from hypervisor.cpu.aarch64_native import callbacks
from hypervisor.cpu.aarch64_registers import Registers
from hypervisor.cpu.aarch64_system import adapt, define
from hypervisor.cpu.aarch64_timer import TIMEBASE, GenericTimer
from hypervisor.cpu.aarch64_walk import walk
from hypervisor.cpu.cells import NEVER, ClockCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.page_walk import Step
from hypervisor.device.line import Line
from hypervisor.device.registers import SystemRegisters

IRQ, FIQ = 0, 1
_JUMP_AND_WAIT = bytes.fromhex("01000014 7f2003d5")
"""b .+4; wfi"""

_SCR_EL3 = 0x5B1  # EL1 is non-secure and AArch64; HVC enabled
_HCR = 1 << 31 | 1 << 4 | 1 << 3  # RW, IMO, FMO
_HCR_VI, _HCR_VF = 1 << 7, 1 << 6
_SCTLR_RESET = 0x00C5_0838
_UNKNOWN_EXCEPTIONS = {
    library.ERR_READ_UNMAPPED: env.DATA_ABORT,
    library.ERR_WRITE_UNMAPPED: env.DATA_ABORT,
    library.ERR_READ_PROT: env.DATA_ABORT,
    library.ERR_WRITE_PROT: env.DATA_ABORT,
    library.ERR_FETCH_UNMAPPED: env.PREFETCH_ABORT,
    library.ERR_FETCH_PROT: env.PREFETCH_ABORT,
}
_WRITES = (library.ERR_WRITE_UNMAPPED, library.ERR_WRITE_PROT)
_EXTERNAL_ABORT = 0x10
_FAR_NOT_VALID, _WRITE_NOT_READ, _LONG_INSTRUCTION = 1 << 10, 1 << 6, 1 << 25
_FROM_EL0_DATA, _FROM_EL0_FETCH = 0x24, 0x20


class Core(hart.Hart):
    """One core: `registers` by the specification's names, interrupt inputs IRQ (0) and FIQ (1)."""

    arch = "aarch64"
    general = [*env.INTEGER_NAMES, "sp", "pstate"]
    system = (
        *("ELR_EL1", "SPSR_EL1", "ESR_EL1", "FAR_EL1", "VBAR_EL1", "SCTLR_EL1", "TCR_EL1"),
        *("TTBR0_EL1", "TTBR1_EL1", "SP_EL0", "SP_EL1", "TPIDR_EL1"),
    )
    link = "x30"
    causes = env.CAUSES
    registers: Registers

    def __init__(self, index: int, clock: ClockCell) -> None:
        engine = Engine(ARCH_ARM64, MODE_ARM, CORTEX_A72, PAGE)
        engine.prime(_JUMP_AND_WAIT)
        native = callbacks()
        state = find_env(engine)
        super().__init__(index, clock, engine, state, state + env.PC, native)
        self.registers = Registers(engine, self.env, self.cell, clock)
        self._identity = choose_features(self.env)
        self._answers = adapt(self.env, self.cell, native)
        self.timers: list[GenericTimer] = []
        """The virtual and the physical one, where an interrupt controller takes their lines."""
        self._internals = internals()
        self._exclusive = c_uint64.from_address(self.env + env.EXCLUSIVE_ADDRESS)
        self._hcr = c_uint64.from_address(self.env + env.HCR_EL2)
        self._lines = (Line(f"core{index}.irq"), Line(f"core{index}.fiq"))
        for line in self._lines:
            line.connect(self._line_changed)
        self._seen = (False, False)
        """Levels that the engine has been told."""

    @property
    def mode(self) -> str:
        return f"EL{self.registers.level}"

    @property
    def last_trap(self) -> str | None:
        taken = any(self.cell.traps)
        return env.CLASSES.get(self.registers["ESR_EL1"] >> 26) if taken else None

    def disassembler(self) -> Any:
        import capstone

        return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)

    # -- power --------------------------------------------------------------------------------

    def _reset_registers(self, firmware: bool) -> None:
        """EL1 with the MMU off and interrupts masked. PSCI is ours with `firmware` too: a guest's
        own runs at EL1."""
        registers = self.registers
        for name in registers:
            registers[name] = 0
        registers["exclusive_address"] = NEVER
        registers["SCR_EL3"] = _SCR_EL3
        registers["CNTHCTL_EL2"] = 3
        registers["VMPIDR_EL2"] = 1 << 31 | self.index  # EL1 reads it as MPIDR_EL1
        registers["pstate"] = env.EL1H_MASKED
        registers["CNTFRQ_EL0"] = TIMEBASE
        registers["SCTLR_EL1"] = _SCTLR_RESET
        registers["HCR_EL2"] = _HCR
        self._seen = (False, False)
        self.cell.firmware_calls = 1
        self.cell.timer_changed = 0
        self._update_timers()

    def begin(self, pc: int, *arguments: int) -> None:
        """Start at `pc` in EL1, the MMU off and interrupts masked, with x0, x1, ... as given."""
        self._reset_registers(firmware=False)
        for number, value in enumerate(arguments):
            self.registers[f"x{number}"] = value
        self._start_at(pc)

    # -- interrupts ---------------------------------------------------------------------------

    def interrupt(self, number: int) -> Line:
        """The IRQ (0) or the FIQ (1) input."""
        return self._lines[number]

    def _line_changed(self, level: bool) -> None:
        if level:
            self.clock.deadline = 0
        else:  # nothing has to stop for what is no longer pending
            self._tell_engine()

    def take_interrupt_lines(self) -> bool:
        """Raise HCR_EL2.VI and VF as the lines are; whether one is high."""
        if self._seen != (self._lines[IRQ].level, self._lines[FIQ].level):
            self._tell_engine(raised=True)
        return any(self._seen)

    def _tell_engine(self, raised: bool = False) -> None:
        """Lines that fell, and those that rose where a run is not going on."""
        levels = [
            line.level and (raised or seen)
            for line, seen in zip(self._lines, self._seen, strict=True)
        ]
        if self._seen == (levels[IRQ], levels[FIQ]):
            return
        self._seen = (levels[IRQ], levels[FIQ])
        self._hcr.value = _HCR | _HCR_VI * levels[IRQ] | _HCR_VF * levels[FIQ]
        self._internals.update_virq(self.cpu)
        self._internals.update_vfiq(self.cpu)

    def add_registers(self, registers: SystemRegisters) -> None:
        """The interrupt controller's interface, which the core has by instructions."""
        self._answers += define(self.cpu, registers)
        self._identity[2] |= env.GIC_REGISTERS

    def connect_timers(self, clock: Any, lines: Sequence[Line]) -> None:
        """Lead the virtual and the physical timer's interrupts to `lines`."""
        self.timers = [
            GenericTimer(self.cell, register, clock, f"core{self.index}.{register}", line)
            for register, line in zip(("cntv", "cntp"), lines, strict=True)
        ]

    def _update_timers(self) -> None:
        for timer in self.timers:
            timer.update()

    # -- running ------------------------------------------------------------------------------

    def run(self) -> int:
        reason = super().run()
        if self.cell.timer_changed:
            self.cell.timer_changed = 0
            self._update_timers()
        return reason

    def stop(self) -> None:
        """Its timers stop with it."""
        super().stop()
        self.cell.cntv_ctl = self.cell.cntp_ctl = 0
        self._update_timers()

    def drop_reservation(self) -> None:
        self._exclusive.value = NEVER

    def flush_tlb(self) -> None:
        self._internals.tlb_flush(self.cpu)

    def page_walk(self, address: int) -> tuple[list[Step], int | None]:
        return walk(self.registers, self._read_ram, address)

    def _access_fault(self, error: int) -> None:
        """An access to a physical address where nothing is: an external abort (Arm ARM D13.2.37).

        Its virtual address is decoded from the instruction; FnV says where it cannot be.
        """
        cause = _UNKNOWN_EXCEPTIONS.get(error)
        if cause is None:
            self.engine.check(error, f"run the guest at {self.pc:#x}")
            return
        registers, pc, level = self.registers, self.pc, self.registers.level
        if cause == env.PREFETCH_ABORT:
            self.cell.previous_end = NEVER
            exception_class, details = _FROM_EL0_FETCH, 0
            registers["FAR_EL1"] = pc
        else:
            self._leave_block(pc)
            exception_class = _FROM_EL0_DATA
            details = _WRITE_NOT_READ if error in _WRITES else 0
            word = int.from_bytes(self.read_virtual(pc, 4) or b"", "little")
            address = data_address(word, pc, registers)
            if address is None:
                details |= _FAR_NOT_VALID
            else:
                registers["FAR_EL1"] = address
        self.cell.traps[cause] += 1
        syndrome = (exception_class | level) << 26 | _LONG_INSTRUCTION | details | _EXTERNAL_ABORT
        self._take_exception(syndrome)
        stuck = self.pc == pc and level == 1
        self.cell.reason = Reason.DOUBLE_FAULT if stuck else Reason.DEADLINE
        self.cell.trapped_at = pc

    def _take_exception(self, syndrome: int) -> None:
        """Enter EL1's handler for a synchronous exception (AArch64.TakeException)."""
        registers, pstate = self.registers, self.registers["pstate"]
        stack = registers["SP_EL1"]
        registers["SP_EL0"] = registers["SP_EL0"]  # out of the register that is in use
        vector = 0x400 if registers.level == 0 else 0x200 if pstate & 1 else 0
        registers["SPSR_EL1"] = pstate
        registers["ELR_EL1"] = self.pc
        registers["pstate"] = env.EL1H_MASKED
        registers["sp"] = stack
        registers["ESR_EL1"] = syndrome
        self.pc = registers["VBAR_EL1"] + vector
        self._internals.rebuild_hflags(self.env)

    # -- snapshots ----------------------------------------------------------------------------

    def _save_lines(self) -> dict[str, Any]:
        return {
            "lines": [line.level for line in self._lines],
            "seen": list(self._seen),
            "timers": [timer.line.level for timer in self.timers],
        }

    def _load_lines(self, state: Mapping[str, Any]) -> None:
        for line, level in zip(self._lines, state["lines"], strict=True):
            line.level = level
        for timer, level in zip(self.timers, state["timers"], strict=True):
            timer.line.level = level
        self._seen = (False, False)

    def _load_registers(self, saved: Mapping[str, int]) -> None:
        super()._load_registers(saved)
        self.cell.timer_changed = 0
        self.registers["HCR_EL2"] = _HCR  # makes the engine look at all of the above

    def _restored(self, state: Mapping[str, Any]) -> None:
        irq, fiq = state["seen"]
        self._hcr.value = _HCR | _HCR_VI * irq | _HCR_VF * fiq
        self._seen = (irq, fiq)
        self._internals.update_virq(self.cpu)
        self._internals.update_vfiq(self.cpu)

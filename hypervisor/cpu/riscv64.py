"""A RISC-V hart (RV64GC, privileged specification 1.10-1.12) on one Unicorn instance.

Traps, time and the fence.i rule run natively (`riscv64_native`); what is rare is here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int32, c_uint64
from typing import Any

from hypervisor.cpu import hart, library
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.cells import NEVER, ClockCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import EngineError
from hypervisor.cpu.page_walk import Step
from hypervisor.cpu.riscv64_decode import data_address, is_read_modify_write
from hypervisor.cpu.riscv64_internals import ARCH_RISCV, MODE_RISCV64, find_env, internals
from hypervisor.cpu.riscv64_native import callbacks
from hypervisor.cpu.riscv64_registers import PMP_NAMES, Registers
from hypervisor.cpu.riscv64_walk import walk
from hypervisor.device.line import Line

SSIP, MSIP, STIP, MTIP, SEIP, MEIP = 1, 3, 5, 7, 9, 11
_SIE = 0x2
_JUMP_AND_WAIT = bytes.fromhex("6f004000 73005010")
"""jal zero, .+4; wfi"""
SUPERVISOR_INTERRUPTS = 0x222
EXCEPTIONS_TO_SUPERVISOR = 0xB1FF
"""What firmware hands to S-mode: all but ecalls from S- and M-mode."""
ALL_COUNTERS = 0x7
_MODES = {env.USER: "U-mode", env.SUPERVISOR: "S-mode", env.MACHINE: "M-mode"}

_ACCESS_FAULT = {
    library.ERR_READ_UNMAPPED: 5,
    library.ERR_WRITE_UNMAPPED: 7,
    library.ERR_FETCH_UNMAPPED: 1,
    library.ERR_READ_PROT: 5,
    library.ERR_WRITE_PROT: 7,
    library.ERR_FETCH_PROT: 1,  # a device's page
}


class Hart(hart.Hart):
    """One hart: `registers` by the specification's names, interrupt inputs by bits of `mip`."""

    arch = "riscv64"
    general = env.INTEGER_NAMES
    system = (
        *("sepc", "scause", "stval", "stvec", "satp"),
        *("mepc", "mcause", "mtval", "mtvec", "mstatus"),
    )
    link = "ra"
    causes = env.CAUSES
    registers: Registers

    def __init__(self, index: int, clock: ClockCell, exception_index: int) -> None:
        engine = Engine(ARCH_RISCV, MODE_RISCV64)
        engine.prime(_JUMP_AND_WAIT)
        native = callbacks()
        state = find_env(engine)
        super().__init__(index, clock, engine, state, state + env.PC, native)
        self.registers = Registers(self.env)
        self._internals = internals()
        self._exception_index = c_int32.from_address(self.cpu + exception_index)
        self._load_res = c_uint64.from_address(self.env + env.LOAD_RES)
        self._mip = c_uint64.from_address(self.env + env.MIP)
        self._mie = c_uint64.from_address(self.env + env.MIE)
        self._lines: dict[int, Line] = {}
        self._changed = 0
        self._levels = 0
        user_data = ctypes.addressof(self.cell)
        c_uint64.from_address(self.env + env.HART_SLOT).value = user_data
        c_uint64.from_address(self.env + env.MHARTID).value = index
        engine.hook(library.HOOK_INSN_INVALID, native["breakpoint_trap"], user_data)
        self._trap_fence_i()

    @property
    def mode(self) -> str:
        return _MODES.get(self.registers["priv"], "?-mode")

    @property
    def last_trap(self) -> str | None:
        cause = self.registers["mcause" if self.registers["priv"] == env.MACHINE else "scause"]
        return env.CAUSES[cause] if cause in env.CAUSES and self.cell.traps[cause] else None

    def disassembler(self) -> Any:
        import capstone

        mode = capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC
        return capstone.Cs(capstone.CS_ARCH_RISCV, mode)

    def _trap_fence_i(self) -> None:
        """Make fence.i an illegal instruction, which the native exception callback emulates.

        The engine's own does nothing, and stores through another mapping of a page leave stale
        translations behind. `cfg` is a run of booleans behind `env`: i e g m a f d c s u h
        counters ifencei icsr.
        """
        pattern = bytes([1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1])
        tail = ctypes.string_at(self.env, 0x4000)
        position = tail.find(pattern)
        if position < 0:
            raise EngineError(f"{library.wheel()} keeps its CPU options where they cannot be found")
        ctypes.c_uint8.from_address(self.env + position + 12).value = 0

    # -- power ----------------------------------------------------------------------------

    def _reset_registers(self, firmware: bool) -> None:
        """`firmware`: M-mode software will run; else S-mode is entered directly, with the
        delegations that firmware would have made."""
        registers = self.registers
        for name in [*env.INTEGER_NAMES[1:], *env.FLOAT_NAMES]:
            registers[name] = 0
        for name in env.FIELDS:
            registers[name] = 0
        for name in ("fflags", "frm", "sscratch", "mscratch", "scounteren", "mcounteren"):
            registers[name] = 0
        self._unlock_memory_protection()
        for name in PMP_NAMES:
            registers[name] = 0
        registers["mstatus"] = 0x0000_000A_0000_0000  # SXL, UXL: 64 bits
        registers["load_res"] = NEVER
        self._internals.update_mip(self.cpu, 0xFFFF, 0)
        if firmware:
            registers["priv"] = env.MACHINE
        else:
            registers["priv"] = env.SUPERVISOR
            registers["mideleg"] = SUPERVISOR_INTERRUPTS
            registers["medeleg"] = EXCEPTIONS_TO_SUPERVISOR
            registers["mcounteren"] = ALL_COUNTERS
        self.cell.firmware_calls = 0 if firmware else 1
        self._changed = sum(1 << number for number in self._lines)

    def _unlock_memory_protection(self) -> None:
        """What a guest locked stays locked until a reset, which is here."""
        for entry in range(len(env.PMP_ADDRESSES)):
            at = self.env + env.PMP_TABLE + env.PMP_ENTRY * entry + 8
            ctypes.c_uint8.from_address(at).value &= 0x7F

    def begin(self, pc: int, *arguments: int) -> None:
        """Start executing at `pc` in the present mode with a0, a1, ... as given."""
        for number, value in enumerate(arguments):
            self.registers[f"a{number}"] = value
        self._start_at(pc)

    def begin_supervisor(self, pc: int, opaque: int) -> None:
        """Start in S-mode as SBI's hart_start does: no paging, interrupts off."""
        self.registers["priv"] = env.SUPERVISOR
        self.registers["satp"] = 0
        self.registers["mstatus"] &= ~_SIE
        self.begin(pc, self.index, opaque)

    # -- interrupts -------------------------------------------------------------------------

    def interrupt(self, number: int) -> Line:
        """The input line of local interrupt `number`, a bit of `mip`. Raised it acts at the next
        safe point, lowered at once."""
        line = self._lines.get(number)
        if line is None:
            line = self._lines[number] = Line(f"hart{self.index}.{number}")
            line.level = bool(self._levels >> number & 1)  # high already in a restored hart
            line.connect(lambda level: self._line_changed(number, level))
        return line

    def _line_changed(self, number: int, level: bool) -> None:
        bit = 1 << number
        if level:
            self._levels |= bit
            self._changed |= bit
            self.clock.deadline = 0
        else:  # nothing has to stop for what is no longer pending
            self._levels &= ~bit
            self._changed &= ~bit
            self._mip.value &= ~bit

    def set_pending(self, number: int, level: bool) -> None:
        """Write a software interrupt's bit in `mip` now; no line holds it."""
        self._internals.update_mip(self.cpu, 1 << number, int(level) << number)

    def take_interrupt_lines(self) -> bool:
        """Copy changed lines into `mip`; whether an enabled interrupt is pending."""
        if self._changed:
            self._internals.update_mip(self.cpu, self._changed, self._levels & self._changed)
            self._changed = 0
        return bool(self._mip.value & self._mie.value)

    def drop_reservation(self) -> None:
        self._load_res.value = NEVER

    def flush_tlb(self) -> None:
        self._internals.tlb_flush(self.cpu)

    def page_walk(self, address: int) -> tuple[list[Step], int | None]:
        return walk(self.registers, self._read_ram, address)

    # -- faults -------------------------------------------------------------------------------

    def _access_fault(self, error: int) -> None:
        """An access to a physical address where nothing is: the guest's exception."""
        cause = _ACCESS_FAULT.get(error)
        if cause is None:
            self.engine.check(error, "run the guest")
            return
        pc = self._pc.value
        address = pc
        if cause == 1:
            self.cell.previous_end = NEVER
        else:
            self._leave_block(pc)
            instruction = self.instruction_at(pc)
            address = data_address(instruction, self.registers) or 0
            if is_read_modify_write(instruction):
                cause = 7
        self.cell.traps[cause] += 1
        self._exception_index.value = cause
        c_uint64.from_address(self.env + env.BADADDR).value = address
        mode = self.registers["priv"]
        self._internals.do_interrupt(self.cpu)
        self._exception_index.value = -1
        if self._pc.value == pc and self.registers["priv"] == mode:
            self.cell.reason = Reason.DOUBLE_FAULT
        else:
            self.cell.reason = Reason.DEADLINE
            self.cell.trapped_at = pc

    def instruction_at(self, pc: int) -> int:
        """The instruction word at virtual `pc` (its low half when compressed), 0 if unreadable."""
        data = self.read_virtual(pc, 4) or self.read_virtual(pc, 2) or b""
        word = int.from_bytes(data, "little")
        return word if word & 3 == 3 else word & 0xFFFF

    # -- snapshots ------------------------------------------------------------------------

    def _save_lines(self) -> dict[str, Any]:
        return {"lines": self._levels, "changed": self._changed}

    def _load_lines(self, state: Mapping[str, Any]) -> None:
        for number, line in self._lines.items():
            line.level = bool(state["lines"] >> number & 1)
        self._levels = state["lines"]
        self._changed = state["changed"]

    def _load_registers(self, saved: Mapping[str, int]) -> None:
        self._unlock_memory_protection()
        super()._load_registers(saved)
        # Once more, as writing fflags and frm has marked the floating-point state dirty.
        self.registers["mstatus"] = saved["mstatus"]

    def _restored(self, state: Mapping[str, Any]) -> None:
        self._mip.value = 0
        self._internals.update_mip(self.cpu, 0xFFFF, state["registers"]["mip"])

"""A RISC-V hart (RV64GC, privileged specification 1.10-1.12) on one Unicorn instance.

Traps, time and the fence.i rule run natively (`riscv64_native`); what is rare is here.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from ctypes import c_int32, c_uint64
from typing import Any

from hypervisor.cpu import library
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.cells import NEVER, ClockCell, HartCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import EngineError
from hypervisor.cpu.riscv64_decode import data_address, is_read_modify_write
from hypervisor.cpu.riscv64_internals import ARCH_RISCV, MODE_RISCV64, find_env, internals
from hypervisor.cpu.riscv64_native import callbacks
from hypervisor.cpu.riscv64_registers import PMP_NAMES, Registers
from hypervisor.cpu.riscv64_walk import Step, walk
from hypervisor.cpu.stopping import HartStops
from hypervisor.device.line import Line

SSIP, MSIP, STIP, MTIP, SEIP, MEIP = 1, 3, 5, 7, 9, 11
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_SIE = 0x2
LOAD, _FETCH = 1, 4
"""Kinds of access, as the engine's permissions."""
_JUMP_AND_WAIT = bytes.fromhex("6f004000 73005010")
"""jal zero, .+4; wfi"""
SUPERVISOR_INTERRUPTS = 0x222
EXCEPTIONS_TO_SUPERVISOR = 0xB1FF
"""What firmware hands to S-mode: all but ecalls from S- and M-mode."""
ALL_COUNTERS = 0x7

_ACCESS_FAULT = {
    library.ERR_READ_UNMAPPED: 5,
    library.ERR_WRITE_UNMAPPED: 7,
    library.ERR_FETCH_UNMAPPED: 1,
    library.ERR_READ_PROT: 5,
    library.ERR_WRITE_PROT: 7,
    library.ERR_FETCH_PROT: 1,  # a device's page
}


class Hart:
    """One hart: its engine, registers and interrupt inputs.

    `run` executes until a deadline, a firmware call, WFI or a failure. Everything else may
    only be called while it does not run.
    """

    def __init__(self, index: int, clock: ClockCell, exception_index: int) -> None:
        self.index = index
        self.clock = clock
        self.engine = Engine(ARCH_RISCV, MODE_RISCV64)
        self.engine.prime(_JUMP_AND_WAIT)
        self.env = find_env(self.engine)
        self.cpu = self.engine.find_cpu(self.env)
        self.registers = Registers(self.env)
        self.waiting = False
        """In WFI, until an enabled interrupt is pending."""
        self.stopped = True
        """Not started (SBI HSM); it executes nothing."""
        self.executed = 0
        """Bytes of code retired on this hart."""
        self.cell = HartCell(
            clock=ctypes.addressof(clock),
            uc=self.engine.handle,
            env=self.env,
            cpu=self.cpu,
            previous_end=NEVER,
        )
        self._internals = internals()
        self._exception_index = c_int32.from_address(self.cpu + exception_index)
        self._pc = c_uint64.from_address(self.env + env.PC)
        self._load_res = c_uint64.from_address(self.env + env.LOAD_RES)
        self._mip = c_uint64.from_address(self.env + env.MIP)
        self._mie = c_uint64.from_address(self.env + env.MIE)
        self._lines: dict[int, Line] = {}
        self._changed = 0
        self._levels = 0
        self._place_hooks()
        self.stops = HartStops(self, callbacks())

    def _place_hooks(self) -> None:
        native = callbacks()
        user_data = ctypes.addressof(self.cell)
        c_uint64.from_address(self.env + env.HART_SLOT).value = user_data
        c_uint64.from_address(self.env + env.MHARTID).value = self.index
        self.engine.hook(library.HOOK_INTR, native["exception"], user_data)
        self.engine.hook(library.HOOK_INSN_INVALID, native["breakpoint_trap"], user_data)
        self.engine.hook(library.HOOK_BLOCK, native["block"], user_data)
        self.engine.hook(library.HOOK_EDGE_GENERATED, native["translated"], user_data)
        self._trap_fence_i()

    def map_ram(self, base: int, size: int, host: int) -> None:
        """Guest-physical RAM at `base` on host memory at `host`, in whole pages."""
        self.engine.map_ram(base, size, host)
        self._shadow = mmap.mmap(-1, size, _PRIVATE)
        self._listed = mmap.mmap(-1, max(size >> 12, 1), _PRIVATE)
        self._pages = mmap.mmap(-1, max(size >> 10, 4), _PRIVATE)
        self.cell.ram_host = host
        self.cell.ram_base = base
        self.cell.ram_size = size
        for name, area in (
            ("shadow", self._shadow),
            ("listed", self._listed),
            ("pages", self._pages),
        ):
            setattr(self.cell, name, ctypes.addressof(ctypes.c_char.from_buffer(area)))

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

    def reset(self, firmware: bool) -> None:
        """Registers as at power-on. `firmware`: M-mode software will run; else S-mode is entered
        directly, with the delegations that firmware would have made."""
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
        self.cell.flush_fence_i = 1 if self.index else 0
        self.cell.previous_end = NEVER
        self.waiting = False
        self.stopped = True
        self._changed = sum(1 << number for number in self._lines)
        self.flush()

    def _unlock_memory_protection(self) -> None:
        """What a guest locked stays locked until a reset, which is here."""
        for entry in range(len(env.PMP_ADDRESSES)):
            at = self.env + env.PMP_TABLE + env.PMP_ENTRY * entry + 8
            ctypes.c_uint8.from_address(at).value &= 0x7F

    def begin(self, pc: int, *arguments: int) -> None:
        """Start executing at `pc` in the present mode with a0, a1, ... as given."""
        for number, value in enumerate(arguments):
            self.registers[f"a{number}"] = value
        self.pc = pc
        self.waiting = False
        self.stopped = False
        self.flush()

    def begin_supervisor(self, pc: int, opaque: int) -> None:
        """Start in S-mode as SBI's hart_start does: no paging, interrupts off."""
        self.registers["priv"] = env.SUPERVISOR
        self.registers["satp"] = 0
        self.registers["mstatus"] &= ~_SIE
        self.begin(pc, self.index, opaque)

    def stop(self) -> None:
        """Execute nothing until the next `begin`."""
        self.stopped = True
        self.waiting = False

    def step_over(self, size: int) -> None:
        """Count the instruction at pc as retired and go on behind it."""
        self.pc = self.pc + size
        self.clock.units += size
        self.clock.visible = self.clock.units
        self.executed += size

    def close(self) -> None:
        self.engine.close()

    # -- running --------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        return self._pc.value

    @pc.setter
    def pc(self, value: int) -> None:
        self._pc.value = value
        self.cell.previous_end = NEVER

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

    def run(self) -> int:
        """Execute until something ends it: a `Reason`; Reason.NONE means it waits (WFI)."""
        cell, clock = self.cell, self.clock
        cell.reason = Reason.NONE
        before = clock.units
        cell.executed_base = (self.executed - before) & NEVER
        error = self.engine.start(self._pc.value)
        if cell.reason >= Reason.BREAKPOINT:
            self._stop_between_instructions()
            self.executed += clock.units - before
            cell.resume_at = self.executed
            return cell.reason
        if error and not (error == library.ERR_EXCEPTION and cell.reason):  # ebreak leaves that
            self._access_fault(error)
        elif cell.reason == Reason.NONE:
            self.waiting = True
            self._leave_block(self._pc.value)
        self.executed += clock.units - before
        clock.visible = clock.units
        return cell.reason

    @property
    def is_midway(self) -> bool:
        """Stopped within straight-line code, where nothing but this hart may act."""
        return self.cell.previous_end == self._pc.value and not self.waiting and not self.stopped

    def _stop_between_instructions(self) -> None:
        """Leave the block as if it had been cut before pc."""
        cell, pc = self.cell, self._pc.value
        if cell.reason == Reason.WATCHPOINT:
            self.engine.allow_all(cell.ram_base, cell.ram_size)
        self.clock.units -= cell.previous_end - pc
        cell.previous_end = pc
        cell.resume_pc = pc

    def drop_reservation(self) -> None:
        """SC compares values here: without this an A-B-A by another hart would go unnoticed."""
        self._load_res.value = NEVER

    def _leave_block(self, pc: int) -> None:
        if self.cell.previous_end != NEVER:
            self.clock.units -= self.cell.previous_end - pc
            self.cell.previous_end = NEVER

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

    def read_virtual(self, address: int, size: int, access: int = _FETCH) -> bytes | None:
        """Bytes as the hart would fetch (or `LOAD`) them in its present mode; None where it would
        fault."""
        buffer = ctypes.create_string_buffer(size)
        lib = library.load()
        if lib.uc_vmem_read(self.engine.handle, address, access, buffer, size) != 0:
            return None
        return buffer.raw

    def translate(self, address: int) -> int | None:
        """The guest-physical address of virtual `address` in the present mode, None where it is
        not mapped. Leaves no trace in page tables or TLB."""
        return self.page_walk(address)[1]

    def page_walk(self, address: int) -> tuple[list[Step], int | None]:
        """The tables that a translation of virtual `address` looks into, and where it ends."""
        return walk(self.registers, self._read_ram, address)

    def _read_ram(self, address: int) -> int | None:
        offset = address - self.cell.ram_base
        if not 0 <= offset <= self.cell.ram_size - 8:
            return None
        return c_uint64.from_address(self.cell.ram_host + offset).value

    # -- translations ---------------------------------------------------------------------

    def flush(self) -> None:
        """Forget all translations and the TLB."""
        self.flush_translations()
        self.flush_tlb()

    def flush_translations(self) -> None:
        self.cell.code_changed = 1
        self.synchronize_code()
        self.cell.host_writes_seen = self.clock.host_writes

    def synchronize_code(self) -> None:
        """Forget the translations if the code they were made from has changed."""
        self._internals.synchronize(ctypes.addressof(self.cell))

    def notice_host_writes(self) -> None:
        """Before a run: code that the host wrote while nothing ran needs no fence.i."""
        if self.cell.host_writes_seen != self.clock.host_writes:
            self.synchronize_code()

    def flush_tlb(self) -> None:
        self._internals.tlb_flush(self.cpu)

    # -- snapshots ------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {
            "registers": dict(self.registers.items()),
            "pc": self.pc,
            "previous_end": self.cell.previous_end,
            "flush_fence_i": self.cell.flush_fence_i,
            "waiting": self.waiting,
            "stopped": self.stopped,
            "executed": self.executed,
            "lines": self._levels,
            "changed": self._changed,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        mip = state["registers"]["mip"]
        self._unlock_memory_protection()
        for name, value in state["registers"].items():
            self.registers[name] = value
        # Once more, as writing fflags and frm has marked the floating-point state dirty.
        self.registers["mstatus"] = state["registers"]["mstatus"]
        self._pc.value = state["pc"]
        self.cell.previous_end = state["previous_end"]
        self.cell.flush_fence_i = state["flush_fence_i"]
        self.waiting = state["waiting"]
        self.stopped = state["stopped"]
        self.executed = state["executed"]
        self.stops.forget_resumption()
        for number, line in self._lines.items():
            line.level = bool(state["lines"] >> number & 1)
        self._levels = state["lines"]
        self._changed = state["changed"]
        self.flush()
        self._mip.value = 0
        self._internals.update_mip(self.cpu, 0xFFFF, mip)

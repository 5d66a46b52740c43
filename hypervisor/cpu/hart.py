"""A hart (core) of any architecture on one Unicorn instance: running, lines, translations, state.

What differs is in a class per architecture: registers, reset, interrupts, and what an access to
nothing does.
"""

from __future__ import annotations

import ctypes
import mmap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from ctypes import c_uint64, c_void_p
from typing import Any, ClassVar

from hypervisor.cpu import library
from hypervisor.cpu.cells import NEVER, ClockCell, HartCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.native_code import CHECK_ALL
from hypervisor.cpu.page_walk import Step
from hypervisor.cpu.registers import Registers
from hypervisor.cpu.stopping import HartStops
from hypervisor.device.line import Line

LOAD, FETCH = 1, 4
"""Kinds of access, as the engine's permissions."""
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Hart(ABC):
    """One hart: its engine, registers and interrupt inputs.

    `run` executes until a deadline, a firmware call, a wait or a failure. Everything else may
    only be called while it does not run.
    """

    arch: ClassVar[str]
    """The description's name of it."""
    general: ClassVar[Sequence[str]]
    """Names of the general-purpose registers, in the order to show them."""
    system: ClassVar[Sequence[str]]
    """Names of the system registers that tell most of where a guest is."""
    link: ClassVar[str]
    """The register that holds a function's return address."""
    causes: ClassVar[Mapping[int, str]]
    """What the numbers in `cell.traps` count, in words."""

    registers: Registers

    def __init__(
        self,
        index: int,
        clock: ClockCell,
        engine: Engine,
        env: int,
        pc: int,
        native: Mapping[str, int],
    ) -> None:
        """`env`: address of the engine's CPU state, `pc`: of the program counter in it. `native`:
        compiled callbacks, name -> address."""
        self.index = index
        self.clock = clock
        self.engine = engine
        self.env = env
        self.cpu = engine.find_cpu(env)
        self.waiting = False
        """It waits until an enabled interrupt is pending."""
        self.stopped = True
        """Not started, or switched off; it executes nothing."""
        self.executed = 0
        """Bytes of code retired on this hart."""
        self.cell = HartCell(
            clock=ctypes.addressof(clock),
            uc=engine.handle,
            env=env,
            cpu=self.cpu,
            previous_end=NEVER,
        )
        self._pc = c_uint64.from_address(pc)
        self._find_ram = library.declare(
            f"qemu_ram_addr_from_host_{self.arch}", c_uint64, c_void_p, c_void_p
        )
        self._synchronize = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(native["synchronize"])
        user_data = ctypes.addressof(self.cell)
        engine.hook(library.HOOK_INTR, native["exception"], user_data)
        engine.hook(library.HOOK_BLOCK, native["block"], user_data)
        engine.hook(library.HOOK_EDGE_GENERATED, native["translated"], user_data)
        self._store_failed = native["store_failed"]
        self.stops = HartStops(self, native)

    # -- what an architecture says ----------------------------------------------------------

    @property
    @abstractmethod
    def mode(self) -> str:
        """The present privilege, as people write it: `S-mode`, `EL1`."""

    @property
    @abstractmethod
    def last_trap(self) -> str | None:
        """What the present mode's handler was entered for last, in words; None if nothing."""

    @abstractmethod
    def disassembler(self) -> Any:
        """A capstone.Cs for what the present mode executes."""

    @abstractmethod
    def _reset_registers(self, firmware: bool) -> None:
        """Registers and interrupt inputs as at power-on."""

    @abstractmethod
    def begin(self, pc: int, *arguments: int) -> None:
        """Start executing at `pc` in the present mode with the first argument registers given."""

    @abstractmethod
    def interrupt(self, number: int) -> Line:
        """The input line of local interrupt `number`. Raised it acts at the next safe point,
        lowered at once."""

    @abstractmethod
    def take_interrupt_lines(self) -> bool:
        """Let the hart see raised lines; whether one would end a wait."""

    @abstractmethod
    def drop_reservation(self) -> None:
        """Another hart ran meanwhile: the engine compares values where hardware watches writes,
        and would not see that one was changed and changed back."""

    @abstractmethod
    def flush_tlb(self) -> None: ...

    @abstractmethod
    def _access_fault(self, error: int) -> None:
        """The engine ended with `error`: give the guest its exception, or raise EngineError."""

    # -- memory -------------------------------------------------------------------------------

    def map_ram(self, base: int, size: int, host: int) -> None:
        """Guest-physical RAM at `base` on host memory at `host`, in whole pages."""
        self.engine.map_ram(base, size, host)
        # Not on RAM: with a hook there the engine has no fast way for a store.
        for first, last in ((0, base - 1), (base + size, NEVER)):
            if first <= last:
                self.engine.hook(
                    library.HOOK_MEM_WRITE_UNMAPPED,
                    self._store_failed,
                    ctypes.addressof(self.cell),
                    first,
                    last,
                )
        sizes = {"shadow": size, "translated_words": size >> 2}
        sizes |= {"listed": max(size >> 12, 1), "pages": max(size >> 10, 4)}
        self._areas = {name: mmap.mmap(-1, bytes_, _PRIVATE) for name, bytes_ in sizes.items()}
        self.cell.ram_host = host
        self.cell.ram_base = base
        self.cell.ram_addr = self._find_ram(self.engine.handle, host)
        self.cell.ram_size = size
        for name, area in self._areas.items():
            setattr(self.cell, name, ctypes.addressof(ctypes.c_char.from_buffer(area)))

    def read_virtual(self, address: int, size: int, access: int = FETCH) -> bytes | None:
        """Bytes as the hart would fetch (or `LOAD`) them in its present mode; None where it would
        fault."""
        buffer = ctypes.create_string_buffer(size)
        lib = library.load()
        if lib.uc_vmem_read(self.engine.handle, address, access, buffer, size) != 0:
            return None
        return buffer.raw

    @abstractmethod
    def page_walk(self, address: int) -> tuple[list[Step], int | None]:
        """The tables that a translation of virtual `address` looks into, and where it ends."""

    def translate(self, address: int) -> int | None:
        """The guest-physical address of virtual `address` in the present mode, None where it is
        not mapped. Leaves no trace in page tables or TLB."""
        return self.page_walk(address)[1]

    def _read_ram(self, address: int) -> int | None:
        """The 8 bytes at a guest-physical address."""
        offset = address - self.cell.ram_base
        if not 0 <= offset <= self.cell.ram_size - 8:
            return None
        return c_uint64.from_address(self.cell.ram_host + offset).value

    # -- running ------------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        return self._pc.value

    @pc.setter
    def pc(self, value: int) -> None:
        self._pc.value = value
        self.cell.previous_end = NEVER

    def run(self) -> int:
        """Execute until something ends it: a `Reason`; Reason.NONE means it waits."""
        cell, clock = self.cell, self.clock
        before = clock.units
        if cell.code_check:
            self._check_code()
        if cell.tlb_stale:
            cell.tlb_stale = 0
            self.flush_tlb()
        cell.executed_base = (self.executed - before) & NEVER
        cell.reason = Reason.NONE
        error = self.engine.start(self._pc.value)
        while cell.reason == Reason.CODE_CHECK:
            self._check_code()
            cell.reason = Reason.NONE
            error = self.engine.start(self._pc.value)
        if cell.failed_store:
            error, cell.failed_store = cell.failed_store, 0
        if error:
            self.engine.forget_access()
        if cell.reason >= Reason.BREAKPOINT:
            self._stop_between_instructions()
            self.executed += clock.units - before
            cell.resume_at = self.executed
            return cell.reason
        if error and not (error == library.ERR_EXCEPTION and cell.reason):  # ebreak leaves that
            self._access_fault(error)
        elif cell.reason == Reason.NONE:
            self._leave_block(self._pc.value)
            self.waiting = True
        self.executed += clock.units - before
        clock.visible = clock.units
        if cell.code_check:
            self._check_code()
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

    def reset(self, firmware: bool) -> None:
        """Power-on state, stopped. `firmware`: the guest's own runs, ours answers no calls."""
        self._reset_registers(firmware)
        self.cell.watch_code = 1 if self.index else 0
        self.cell.previous_end = NEVER
        self.waiting = False
        self.stopped = True
        self.flush()

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

    def _start_at(self, pc: int) -> None:
        self.pc = pc
        self.waiting = False
        self.stopped = False
        self.flush()

    def _leave_block(self, pc: int) -> None:
        if self.cell.previous_end != NEVER:
            self.clock.units -= self.cell.previous_end - pc
            self.cell.previous_end = NEVER

    def close(self) -> None:
        self.engine.close()

    # -- translations -------------------------------------------------------------------------

    def flush(self) -> None:
        """Forget all translations and the TLB."""
        self.flush_translations()
        self.flush_tlb()

    def flush_translations(self) -> None:
        self.cell.drop_all = 1
        self._check_code()
        self.cell.host_writes_seen = self.clock.host_writes

    def synchronize_code(self) -> None:
        """Forget the translations of code that has changed since."""
        self.cell.code_check = CHECK_ALL
        self._check_code()

    def _check_code(self) -> None:
        self._synchronize(ctypes.addressof(self.cell))

    def watch_code(self) -> None:
        """Take every barrier for code at its word from now on: others may write it."""
        self.cell.watch_code = 1

    def notice_host_writes(self) -> None:
        """Before a run: code that the host wrote while nothing ran needs no barrier."""
        if self.cell.host_writes_seen != self.clock.host_writes:
            self.synchronize_code()

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {
            "registers": dict(self.registers.items()),
            "pc": self.pc,
            "previous_end": self.cell.previous_end,
            "watch_code": self.cell.watch_code,
            "waiting": self.waiting,
            "stopped": self.stopped,
            "executed": self.executed,
            **self._save_lines(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._load_registers(state["registers"])
        self._pc.value = state["pc"]
        self.cell.previous_end = state["previous_end"]
        self.cell.watch_code = state["watch_code"]
        self.cell.code_check = 0
        self.waiting = state["waiting"]
        self.stopped = state["stopped"]
        self.executed = state["executed"]
        self.stops.forget_resumption()
        self._load_lines(state)
        self.flush()
        self._restored(state)

    @abstractmethod
    def _save_lines(self) -> dict[str, Any]: ...

    @abstractmethod
    def _load_lines(self, state: Mapping[str, Any]) -> None: ...

    def _load_registers(self, saved: Mapping[str, int]) -> None:
        for name, value in saved.items():
            self.registers[name] = value

    @abstractmethod
    def _restored(self, state: Mapping[str, Any]) -> None:
        """All is loaded and nothing translated: what only now may be set."""

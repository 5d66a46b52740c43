"""One hart's stops for a debugger: hooks placed in its engine while they are wanted."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Protocol

from hypervisor.cpu import library
from hypervisor.cpu.cells import NEVER, HartCell, WatchCell
from hypervisor.cpu.engine import Engine

READ, WRITE = 1, 2
"""Kinds of access a watchpoint is for; both may be."""
_HOOKS = {READ: library.HOOK_MEM_READ, WRITE: library.HOOK_MEM_WRITE, 3: 3 << 10}
_WIDEST = 16
"""Bytes of one access at most: it may begin so far before the watched bytes."""


class Stoppable(Protocol):
    """A hart, as far as stopping it goes."""

    engine: Engine
    cell: HartCell
    executed: int

    @property
    def pc(self) -> int: ...
    def flush_translations(self) -> None: ...


class HartStops:
    """Breakpoints, watchpoints and the step of one hart. `native`: the compiled callbacks.

    Placing or removing anything drops the hart's translations, which changes nothing in a run.
    """

    def __init__(self, hart: Stoppable, native: Mapping[str, int]) -> None:
        self._hart = hart
        self._native = native
        self._breakpoints: dict[int, int] = {}
        self._watches: dict[int, tuple[int, WatchCell]] = {}
        self._every: int | None = None
        self._choose_exits()
        self.forget_resumption()

    def place_breakpoint(self, address: int) -> None:
        """Stop before an instruction at virtual `address`, in whatever mode."""
        self._breakpoints[address] = self._hart.engine.hook(
            library.HOOK_CODE,
            self._native["stop_here"],
            ctypes.addressof(self._hart.cell),
            address,
            address,
        )
        self._changed()

    def remove_breakpoint(self, address: int) -> None:
        self._unhook(self._breakpoints.pop(address))

    def place_watchpoint(self, number: int, address: int, length: int, access: int) -> None:
        """Stop before a load or store (`access`: READ, WRITE or both) of RAM that touches `length`
        bytes at guest-physical `address`."""
        hart = self._hart
        watch = WatchCell(
            watch_hart=ctypes.addressof(hart.cell), watch_begin=address, watch_length=length
        )
        handle = hart.engine.hook(
            _HOOKS[access],
            self._native["watched"],
            ctypes.addressof(watch),
            address - _WIDEST + 1,
            address + length - 1,
        )
        self._watches[number] = (handle, watch)
        self._changed()

    def remove_watchpoint(self, number: int) -> None:
        handle, _ = self._watches.pop(number)
        self._unhook(handle)

    def hit(self) -> tuple[int, WatchCell] | None:
        """After a run that ended at a watchpoint: its number and what met it."""
        for number, (_, watch) in self._watches.items():
            if watch.watch_type:
                seen = WatchCell.from_buffer_copy(watch)
                watch.watch_type = 0
                return number, seen
        return None

    def watch_instructions(
        self, inside: tuple[int, int] = (0, 0), until: int = NEVER, *, resume: bool = True
    ) -> None:
        """From now on stop before every instruction outside the addresses `inside` (from, to), and
        before the first that finds `until` bytes retired by this hart. `resume`: not before the
        one that the hart is at now, which is for a hart that goes on from there at once."""
        cell = self._hart.cell
        cell.step_from, cell.step_to = inside
        cell.until = until
        cell.last_pc = NEVER
        if resume:
            cell.resume_pc, cell.resume_at = self._hart.pc, self._hart.executed
        else:
            self.forget_resumption()
        if self._every is None:
            self._every = self._hart.engine.hook(
                library.HOOK_CODE, self._native["each_instruction"], ctypes.addressof(cell)
            )
            self._changed()

    def has_stepped(self) -> bool:
        """At a safe point: whether the hart has left the instruction that a step began at, and the
        addresses that it may step through."""
        cell, pc = self._hart.cell, self._hart.pc
        if (pc, self._hart.executed) == (cell.resume_pc, cell.resume_at):
            return False
        return not cell.step_from <= pc < cell.step_to

    def let_run(self) -> None:
        """Watch instructions no longer."""
        if self._every is not None:
            handle, self._every = self._every, None
            self._unhook(handle)

    def forget_resumption(self) -> None:
        """The hart is elsewhere now (restored): every stop counts again."""
        self._hart.cell.resume_pc = NEVER

    def _unhook(self, handle: int) -> None:
        self._hart.engine.unhook(handle)
        self._changed()

    def _changed(self) -> None:
        self._choose_exits()
        self._hart.flush_translations()

    def _choose_exits(self) -> None:
        """Within a block a hook stops only where the engine looks for that."""
        hooks = self._breakpoints or self._watches or self._every is not None
        self._hart.engine.check_exits(bool(hooks))

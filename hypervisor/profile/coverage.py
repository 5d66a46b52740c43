"""Exact coverage: every stretch of straight-line code that harts executed, and how often.

    coverage = Coverage(machine)
    machine.run()
    for run in coverage.runs(): ...

What is counted are runs (see hypervisor.cpu.native_coverage), so neither where the engine cuts
blocks nor stops, flushes and tools show in the numbers. Counting changes nothing in the run; it
takes a few nanoseconds for each taken transfer.
"""

from __future__ import annotations

import ctypes
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.cpu import library
from hypervisor.cpu.cells import NEVER
from hypervisor.cpu.native_coverage import ENTRY_WORDS, CoverCell, callbacks
from hypervisor.profile.convention import CONVENTIONS

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_ENTRY = 8 * len(ENTRY_WORDS)
FIRST_ENTRIES = 1 << 16
KERNEL_SPACES = 4096
"""Address spaces below are privilege levels, those from here on are processes."""


class Run(NamedTuple):
    """Straight-line code from `start` to `end` (virtual, exclusive) that was executed `times`
    on a hart, and then left for `next` (NEVER: it has not been left)."""

    hart: int
    space: int
    start: int
    end: int
    next: int
    times: int


class Coverage:
    """Counts what a machine executes from now on."""

    def __init__(self, machine: Machine, entries: int = FIRST_ENTRIES) -> None:
        """`entries`: room for kinds of runs at first, a power of two; it grows in `look`."""
        self._machine = machine
        native = callbacks(CONVENTIONS[machine.description.cpu.arch].space)
        self._move = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)(
            native["move"]
        )
        self._cells: list[CoverCell] = []
        self._tables: list[mmap.mmap] = []
        self._hooks: list[int] = []
        self._ended: list[Run] | None = None
        for hart in machine.cpu:
            cell = CoverCell(cover_hart=ctypes.addressof(hart.cell), run_start=NEVER)
            self._cells.append(cell)
            self._tables.append(self._new_table(cell, entries))
            self._hooks.append(
                hart.engine.hook(library.HOOK_BLOCK, native["cover"], ctypes.addressof(cell))
            )
            hart.flush_translations()

    def close(self) -> None:
        """Count no more. What was counted stays."""
        if self._ended is None:
            self._ended = list(self.runs())
        for hart, hook in zip(self._machine.cpu, self._hooks, strict=False):
            hart.engine.unhook(hook)
            hart.flush_translations()
        self._hooks.clear()

    def look(self) -> None:
        """Give tables that are half full more room. To be called between stretches of a run."""
        for index, cell in enumerate(self._cells):
            if 2 * cell.table_used > cell.table_mask:
                old, length = self._tables[index], cell.table_mask + 1
                self._tables[index] = self._new_table(cell, 4 * length)
                self._move(ctypes.addressof(cell), _address(old), length)

    @property
    def lost(self) -> int:
        """Runs that found no room; 0 where `look` was called often enough."""
        return sum(cell.runs_lost for cell in self._cells)

    def runs(self) -> Iterator[Run]:
        """All kinds of runs, and last of each hart the one that it is in."""
        if self._ended is not None:
            yield from self._ended
            return
        import numpy as np

        for hart, (cell, table) in enumerate(zip(self._cells, self._tables, strict=True)):
            words = np.frombuffer(table, "<u8").reshape(-1, len(ENTRY_WORDS))
            for start, end, after, space, count in words[words[:, 4] > 0].tolist():
                yield Run(hart, space, start, end, after, count)
            if cell.run_start != NEVER:
                retired = self._machine.cpu[hart].executed - cell.block_entry
                length = cell.block_end - cell.block_start
                end = cell.block_start + min(retired, length)
                yield Run(hart, cell.run_space, cell.run_start, end, NEVER, 1)

    def _new_table(self, cell: CoverCell, entries: int) -> mmap.mmap:
        table = mmap.mmap(-1, entries * _ENTRY, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        cell.table = _address(table)
        cell.table_mask = entries - 1
        cell.table_used = 0
        cell.table_limit = entries - max(entries // 8, 1)
        return table


def _address(table: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(table))


class Stretch(NamedTuple):
    """Addresses from `start` to `end` (exclusive), every byte of which was executed as many
    `times`."""

    start: int
    end: int
    times: int


def stretches(runs: Iterable[Run]) -> list[Stretch]:
    """How often each byte was executed, as stretches in order; what was never executed is in
    none."""
    changes: Counter[int] = Counter()
    for run in runs:
        changes[run.start] += run.times
        changes[run.end] -= run.times
    found: list[Stretch] = []
    count, before = 0, 0
    for address in sorted(changes):
        if count:
            found.append(Stretch(before, address, count))
        count, before = count + changes[address], address
    return found


def edges(runs: Iterable[Run]) -> dict[tuple[int, int], int]:
    """Taken transfers: (end of the code that was left, where the hart went) and how often. Traps
    and interrupts are among them."""
    total: Counter[tuple[int, int]] = Counter()
    for run in runs:
        if run.next != NEVER:
            total[run.end, run.next] += run.times
    return dict(total)


def blocks(runs: Iterable[Run]) -> list[tuple[int, int]]:
    """Basic blocks that were executed, as (start, size): cut where anything begins or ends."""
    return [(each.start, each.end - each.start) for each in stretches(runs)]

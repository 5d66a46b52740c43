"""Breakpoints, watchpoints and steps of a whole machine, for debuggers and tests.

    machine.breakpoints.add(0xffffffff80201000)
    outcome = machine.run()          # outcome.kind == "breakpoint"
    outcome = machine.step(0)        # one instruction of hart 0

None of them changes the run: with them, and without, a machine executes the same, bit for bit.
They cost nothing while none is set; a watchpoint sends all loads and stores the slow way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hypervisor.cpu import library
from hypervisor.cpu.cells import Reason
from hypervisor.cpu.stopping import READ, WRITE

if TYPE_CHECKING:
    from hypervisor.cpu.hart import Hart
    from hypervisor.machine import Machine

Access = Literal["read", "write", "access"]
_ACCESSES = {"read": READ, "write": WRITE, "access": READ | WRITE}


class StopError(Exception):
    """A breakpoint or watchpoint cannot be set: one sentence."""


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """Stops every hart before the instruction at a virtual address, whatever is mapped there."""

    number: int
    address: int


@dataclass(frozen=True, slots=True)
class Watchpoint:
    """Stops before a hart's load or store that touches watched bytes of RAM, and behind a device's
    (DMA), at the next safe point."""

    number: int
    address: int
    """As it was given: virtual, or physical."""
    size: int
    kind: Access
    physical: int
    """Where the bytes were when it was set: these are watched, by whatever address."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and where a debugger has the machine."""

    hart: int
    pc: int
    breakpoint: Breakpoint | None = None
    watchpoint: Watchpoint | None = None
    address: int = 0
    """For a watchpoint: guest-physical address of the access that is about to happen."""
    size: int = 0
    is_write: bool = False
    value: int = 0
    """What a store will write."""
    device: str = ""
    """Whose DMA met the watchpoint: that has happened, unlike a hart's access."""

    def __str__(self) -> str:
        if not self.device:
            return f"hart {self.hart} stopped at {self.pc:#x}"
        did = "wrote" if self.is_write else "read"
        return (
            f"{self.device} {did} {self.size} bytes at {self.address:#x}; "
            f"hart {self.hart} is at {self.pc:#x}"
        )


class Breakpoints:
    """What a machine stops at. Change it only while the machine does not run."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._harts: Sequence[Hart] = machine.cpu
        self._memory = machine.memory
        self._transfer: tuple[Watchpoint, str, int, int, bool] | None = None
        self._numbers = itertools.count(1)
        self._at: dict[int, list[Breakpoint]] = {}
        self._watching: dict[int, Watchpoint] = {}

    def __iter__(self) -> itertools.chain[Breakpoint | Watchpoint]:
        points = itertools.chain.from_iterable(self._at.values())
        return itertools.chain(points, self._watching.values())

    def __len__(self) -> int:
        return sum(map(len, self._at.values())) + len(self._watching)

    def add(self, address: int) -> Breakpoint:
        """Stop before the instruction at virtual `address`."""
        point = Breakpoint(next(self._numbers), address)
        there = self._at.setdefault(address, [])
        there.append(point)
        if len(there) == 1:
            for hart in self._harts:
                hart.stops.place_breakpoint(address)
        return point

    def watch(
        self, address: int, size: int, kind: Access = "write", *, hart: int | None = None
    ) -> Watchpoint:
        """Stop before a load or store that touches `size` bytes at guest-physical `address`; with
        `hart`, at the virtual address as that hart sees it now.

        Raises StopError where no RAM is.
        """
        physical: int | None = address
        if hart is not None:
            physical = self._harts[hart].translate(address)
            last = self._harts[hart].translate(address + size - 1)
            if physical is None or last != physical + size - 1:
                raise StopError(f"{address:#x} is not mapped on hart {hart} now")
        assert physical is not None
        if size < 1 or not self._memory.contains(physical, size):
            raise StopError(f"{size} bytes at {address:#x} are not RAM: they cannot be watched")
        point = Watchpoint(next(self._numbers), address, size, kind, physical)
        self._watching[point.number] = point
        for each in self._harts:
            each.stops.place_watchpoint(point.number, physical, size, _ACCESSES[kind])
        self._follow_devices()
        return point

    def remove(self, point: Breakpoint | Watchpoint) -> None:
        """Stop there no more. KeyError when it is not set."""
        if isinstance(point, Watchpoint):
            del self._watching[point.number]
            for hart in self._harts:
                hart.stops.remove_watchpoint(point.number)
            self._follow_devices()
            return
        there = self._at.get(point.address, [])
        if point not in there:
            raise KeyError(point)
        there.remove(point)
        if not there:
            del self._at[point.address]
            for hart in self._harts:
                hart.stops.remove_breakpoint(point.address)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Meanwhile none of those that are set now stops anything."""
        points, watching = self._at, self._watching
        for hart in self._harts:
            for address in points:
                hart.stops.remove_breakpoint(address)
            for number in watching:
                hart.stops.remove_watchpoint(number)
        self._at, self._watching = {}, {}
        self._follow_devices()
        try:
            yield
        finally:
            self.clear()
            self._at, self._watching = points, watching
            for hart in self._harts:
                for address in points:
                    hart.stops.place_breakpoint(address)
                for point in watching.values():
                    kind = _ACCESSES[point.kind]
                    hart.stops.place_watchpoint(point.number, point.physical, point.size, kind)
            self._follow_devices()

    def clear(self) -> None:
        for point in list(self):
            self.remove(point)

    def _follow_devices(self) -> None:
        self._transfer = None
        self._machine.observer.follow_dma(self._transferred if self._watching else None)

    def _transferred(self, device: str, address: int, size: int, is_write: bool) -> None:
        wanted = WRITE if is_write else READ
        for point in self._watching.values():
            first = max(address, point.physical)
            length = min(address + size, point.physical + point.size) - first
            if length > 0 and _ACCESSES[point.kind] & wanted and self._transfer is None:
                self._transfer = point, device, first, length, is_write
                self._machine.kick()

    def take_transfer(self) -> Stop | None:
        """At a safe point: what a device did to watched bytes since the last one."""
        if self._transfer is None:
            return None
        point, device, address, size, is_write = self._transfer
        self._transfer = None
        hart = self._machine.turns.present
        return Stop(
            *(hart.index, hart.pc, None, point, address, size, is_write),
            device=device,
        )

    def stop_of(self, hart: Hart, reason: int) -> Stop:
        """What a hart's run ended at."""
        if reason == Reason.BREAKPOINT:
            return Stop(hart.index, hart.pc, breakpoint=self._at[hart.pc][0])
        if reason == Reason.STEP:
            return Stop(hart.index, hart.pc)
        hit = hart.stops.hit()
        assert hit is not None
        number, seen = hit
        return Stop(
            hart.index,
            hart.pc,
            watchpoint=self._watching[number],
            address=seen.watch_address,
            size=seen.watch_size,
            is_write=seen.watch_type == library.MEM_WRITE,
            value=seen.watch_value & (1 << 8 * seen.watch_size) - 1,
        )

"""The memory bus: from a guest's load or store to the device at that address.

The engine maps whole pages; a window dispatches inside its pages. Whatever a device raises is
kept for the run loop, as an exception may not pass through the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns
from typing import Any

from hypervisor.cpu.cells import ClockCell
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import MmioRead, MmioWrite
from hypervisor.device.device import Device
from hypervisor.device.registers import SystemRegisters

PAGE = 0x1000

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]
Seen = Callable[[Device, int, int, int, bool], None]


@dataclass
class Window:
    """A device's place in guest-physical address space, and what went through it."""

    device: Device
    base: int
    size: int
    reads: int = 0
    writes: int = 0
    load: Read = field(init=False)
    """What gives a load's value: the device, or a fault before it."""
    nanoseconds: int | None = None
    """Host time spent in the device; None: it is not measured."""
    read: Read = field(init=False)
    """What a load calls, with (offset, size): the device's, or a watcher before it."""
    write: Write = field(init=False)

    def __post_init__(self) -> None:
        self.load = self.device.read
        self._seen: Seen | None = None
        self._connect()

    @property
    def end(self) -> int:
        return self.base + self.size

    def unwatch(self) -> None:
        """Tell nobody of accesses."""
        self._seen = None
        self._connect()

    def watch(self, seen: Seen) -> None:
        """Tell `seen` (device, offset, size, value, is_write) of every access: of a load when
        its value is known, of a store before it acts."""
        self._seen = seen
        self._connect()

    def answer(self, load: Read) -> None:
        """Have `load` give the values of loads."""
        self.load = load
        self._connect()

    def measure(self, wanted: bool) -> None:
        """Add up host time in `nanoseconds` from now on, or do so no longer."""
        self.nanoseconds = 0 if wanted else None
        self._connect()

    def _connect(self) -> None:
        """The shortest way that does what is wanted."""
        self.read, self.write = self.load, self.device.write
        if self.nanoseconds is not None:
            self.read, self.write = self._measured(self.read, self.write)
        if self._seen is not None:
            self.read, self.write = self._watched(self._seen, self.read, self.write)

    def _watched(self, seen: Seen, load: Read, store: Write) -> tuple[Read, Write]:
        device = self.device

        def read(offset: int, size: int) -> int:
            value = load(offset, size)
            seen(device, offset, size, value, False)
            return value

        def write(offset: int, size: int, value: int) -> None:
            seen(device, offset, size, value, True)
            store(offset, size, value)

        return read, write

    def _measured(self, load: Read, store: Write) -> tuple[Read, Write]:
        def read(offset: int, size: int) -> int:
            began = perf_counter_ns()
            value = load(offset, size)
            self._took(began)
            return value

        def write(offset: int, size: int, value: int) -> None:
            began = perf_counter_ns()
            store(offset, size, value)
            self._took(began)

        return read, write

    def _took(self, began: int) -> None:
        assert self.nanoseconds is not None
        self.nanoseconds += perf_counter_ns() - began


@dataclass
class Bus:
    """All windows of a machine. `clock` is stopped when a device fails."""

    clock: ClockCell
    guest_error: Callable[[str], None]
    """Told of accesses to where nothing is."""
    windows: list[Window] = field(default_factory=list)
    failure: BaseException | None = None
    """What a device raised, or Ctrl-C while it worked; the run loop raises it at the next safe
    point."""
    _unknown: set[int] = field(default_factory=set)

    def add(self, device: Device, base: int, size: int) -> None:
        self.windows.append(Window(device, base, size))
        self.windows.sort(key=lambda window: window.base)

    def connect(self, engine: Engine) -> None:
        """Map every window into a hart's engine."""
        group: list[Window] = []
        for window in [*self.windows, None]:
            if group and (window is None or window.base >= _page_up(group[-1].end)):
                self._map(engine, group)
                group = []
            if window is not None:
                group.append(window)

    def _map(self, engine: Engine, group: Sequence[Window]) -> None:
        base = group[0].base & ~(PAGE - 1)
        size = _page_up(group[-1].end) - base
        if len(group) == 1 and group[0].base == base:
            read, write = self._direct(group[0])
        else:
            read, write = self._shared(base, group)
        engine.map_mmio(base, size, MmioRead(read), MmioWrite(write))

    def _direct(self, window: Window) -> tuple[Any, Any]:
        """The short way, for a device that begins its page."""
        limit = window.size

        def read(uc: int, offset: int, size: int, data: int) -> int:
            window.reads += 1
            try:
                return window.read(offset, size) if offset < limit else self._hole(window, offset)
            except BaseException as error:
                return self._failed(error)

        def write(uc: int, offset: int, size: int, value: int, data: int) -> None:
            window.writes += 1
            try:
                if offset < limit:
                    window.write(offset, size, value)
                else:
                    self._hole(window, offset)
            except BaseException as error:
                self._failed(error)

        return read, write

    def _shared(self, base: int, group: Sequence[Window]) -> tuple[Any, Any]:
        """Several devices in one run of pages."""

        def find(offset: int) -> Window | None:
            address = base + offset
            for window in group:
                if window.base <= address < window.end:
                    return window
            return None

        def read(uc: int, offset: int, size: int, data: int) -> int:
            window = find(offset)
            try:
                if window is None:
                    return self._hole(group[0], offset)
                window.reads += 1
                return window.read(base + offset - window.base, size)
            except BaseException as error:
                return self._failed(error)

        def write(uc: int, offset: int, size: int, value: int, data: int) -> None:
            window = find(offset)
            try:
                if window is None:
                    self._hole(group[0], offset)
                    return
                window.writes += 1
                window.write(base + offset - window.base, size, value)
            except BaseException as error:
                self._failed(error)

        return read, write

    def _hole(self, window: Window, offset: int) -> int:
        """An access to a mapped page beside the device: named once a page, read as zero."""
        address = (window.base & ~(PAGE - 1)) + offset
        page = address & ~(PAGE - 1)
        if page not in self._unknown:
            self._unknown.add(page)
            self.guest_error(
                f"access to {address:#x}, beside {window.device.name}, where no device is"
            )
        return 0

    def guarded(self, registers: SystemRegisters) -> SystemRegisters:
        """The same registers, but what a hook raises is kept for the run loop."""

        def read(hook: Callable[[], int]) -> int:
            try:
                return hook()
            except BaseException as error:
                return self._failed(error)

        def write(hook: Callable[[int], None], value: int) -> None:
            try:
                hook(value)
            except BaseException as error:
                self._failed(error)

        return {
            encoding: (load and partial(read, load), store and partial(write, store))
            for encoding, (load, store) in registers.items()
        }

    def _failed(self, error: BaseException) -> int:
        if self.failure is None:
            self.failure = error
        self.clock.deadline = 0
        return 0


def _page_up(address: int) -> int:
    return (address + PAGE - 1) & ~(PAGE - 1)

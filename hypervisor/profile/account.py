"""Where a machine's time went besides its functions: devices, interrupts, waiting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypervisor.events import InterruptAcknowledge, InterruptChange, InterruptTaken, Trap

if TYPE_CHECKING:
    from hypervisor.machine import Machine


@dataclass
class DeviceTime:
    """A device's accesses by the guest, and the host time (ns) that they took."""

    name: str
    reads: int
    writes: int
    host_ns: int


@dataclass
class Durations:
    """Several times (ns)."""

    count: int = 0
    total: int = 0
    worst: int = 0

    def add(self, time: int) -> None:
        self.count += 1
        self.total += time
        self.worst = max(self.worst, time)

    @property
    def mean(self) -> int:
        return self.total // self.count if self.count else 0


@dataclass
class InterruptTime:
    """A device's interrupt line: how often it rose, and virtual time (ns) until a hart took it up
    at the controller, and until it fell, which is when the driver had served it."""

    name: str
    raised: int = 0
    taken_up: Durations = field(default_factory=Durations)
    high: Durations = field(default_factory=Durations)


class Account:
    """Keeps account of a machine from now on, until `close`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._windows = list(machine.bus.windows)
        self._before = [(window.reads, window.writes) for window in self._windows]
        for window in self._windows:
            window.measure(True)
        self.interrupts: dict[str, InterruptTime] = {}
        self._since: dict[str, int] = {}
        self.traps: Counter[tuple[int, bool, str]] = Counter()
        """Traps by hart, whether they are interrupts, and name."""
        events = machine.events
        self._subscriptions = [
            events.subscribe(InterruptChange, self._changed),
            events.subscribe(InterruptAcknowledge, self._acknowledged),
            events.subscribe(InterruptTaken, self._trapped),
            events.subscribe(Trap, self._trapped),
        ]
        self._start = self._now()
        self._end: tuple[int, int] | None = None
        self._devices: list[DeviceTime] = []

    def close(self) -> None:
        self._end = self._now()
        self._devices = self._measured()
        for subscription in self._subscriptions:
            subscription.cancel()
        for window in self._windows:
            window.measure(False)

    @property
    def executed(self) -> int:
        """Bytes of code that harts executed meanwhile."""
        return (self._end or self._now())[0] - self._start[0]

    @property
    def idle(self) -> int:
        """Units of virtual time that passed while all harts waited."""
        return (self._end or self._now())[1] - self._start[1]

    def devices(self) -> list[DeviceTime]:
        """Those that were accessed, the slowest first."""
        return self._devices if self._end is not None else self._measured()

    def _measured(self) -> list[DeviceTime]:
        found = [
            DeviceTime(
                window.device.name,
                window.reads - reads,
                window.writes - writes,
                window.nanoseconds or 0,
            )
            for window, (reads, writes) in zip(self._windows, self._before, strict=True)
        ]
        found = [each for each in found if each.reads or each.writes]
        return sorted(found, key=lambda each: -each.host_ns)

    def _now(self) -> tuple[int, int]:
        clock = self._machine.clock
        return clock.executed, clock.cell.idle

    def _acknowledged(self, event: InterruptAcknowledge) -> None:
        if event.line and event.latency >= 0:
            line = self.interrupts.setdefault(event.line, InterruptTime(event.line))
            line.taken_up.add(event.latency)

    def _trapped(self, event: InterruptTaken | Trap) -> None:
        self.traps[event.hart, isinstance(event, InterruptTaken), event.name] += 1

    def _changed(self, event: InterruptChange) -> None:
        line = self.interrupts.setdefault(event.device, InterruptTime(event.device))
        if event.level:
            line.raised += 1
            self._since[event.device] = event.time
        elif event.device in self._since:
            line.high.add(event.time - self._since.pop(event.device))

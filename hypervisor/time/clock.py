"""Virtual time: the machine's clock and what is due on it.

The clock counts units (bytes of retired code, and idle time passed over) in a cell that native
code advances; everything here speaks nanoseconds. 32 units are 25 ns, 128 are one tick of the
10 MHz timebase.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from hypervisor.cpu.cells import NEVER, ClockCell


def to_nanoseconds(units: int) -> int:
    return units * 25 >> 5


def to_units(nanoseconds: int) -> int:
    """The first unit at which `nanoseconds` have passed."""
    return -(-nanoseconds * 32 // 25)


END_OF_TIME = to_nanoseconds(1 << 63)
"""228 years on: no timer fires later, and idle time does not pass beyond."""
_STALE_ENTRIES = 64
"""Queue entries of timers armed anew or cancelled that may wait to be dropped."""


class VirtualTimer:
    """A named call at a virtual time; see hypervisor.device.Timer."""

    __slots__ = ("_callback", "_clock", "_entry", "deadline", "name")

    def __init__(self, clock: VirtualClock, name: str, callback: Callable[[], None]) -> None:
        self.name = name
        self.deadline: int | None = None
        self._clock = clock
        self._callback = callback
        self._entry = 0

    def arm(self, deadline: int) -> None:
        self.deadline = deadline
        self._entry = self._clock.push(deadline, self)

    def cancel(self) -> None:
        self.deadline = None
        self._entry = 0

    def fire(self, entry: int) -> None:
        """Run the callback, unless the timer was cancelled or armed anew since `entry`."""
        if entry == self._entry:
            self.deadline = None
            self._entry = 0
            self._callback()

    def is_current(self, entry: int) -> bool:
        return entry == self._entry


class VirtualClock:
    """The clock devices see, and the queue of timers.

    Timers due at one time fire in the order they were armed.
    """

    def __init__(self, epoch: int) -> None:
        self.cell = ClockCell(deadline=NEVER)
        self.epoch = epoch
        """Wall-clock time of virtual time 0, ns since 1970."""
        self._queue: list[tuple[int, int, VirtualTimer]] = []
        self._order = 0
        self.timers: dict[str, VirtualTimer] = {}
        self.on_fire: Callable[[str, int], None] | None = None
        """Told of every timer that fires: its name and deadline."""

    def now(self) -> int:
        """Nanoseconds since the machine started, as the guest sees them."""
        return self.cell.visible * 25 >> 5

    def timer(self, name: str, callback: Callable[[], None]) -> VirtualTimer:
        timer = self.timers[name] = VirtualTimer(self, name, callback)
        return timer

    def push(self, deadline: int, timer: VirtualTimer) -> int:
        """Queue `timer`; the entry's number. A run in progress notices a nearer deadline."""
        queue = self._queue
        if len(queue) > 2 * len(self.timers) + _STALE_ENTRIES:
            queue[:] = [entry for entry in queue if entry[2].is_current(entry[1])]
            heapq.heapify(queue)
        self._order += 1
        heapq.heappush(queue, (deadline, self._order, timer))
        self.cell.deadline = max(0, min(self.cell.deadline, to_units(deadline)))
        return self._order

    def next_deadline(self) -> int | None:
        """When the next timer fires (ns), None when none is armed."""
        queue = self._queue
        while queue and not queue[0][2].is_current(queue[0][1]):
            heapq.heappop(queue)
        return queue[0][0] if queue and queue[0][0] <= END_OF_TIME else None

    def run_due(self) -> None:
        """Fire everything due now."""
        queue = self._queue
        while queue and queue[0][0] <= self.now():
            deadline, entry, timer = heapq.heappop(queue)
            if self.on_fire is not None and timer.is_current(entry):
                self.on_fire(timer.name, deadline)
            timer.fire(entry)

    def pass_idle(self, until: int) -> None:
        """Let time go on to `until` (ns) with nothing executed."""
        self.pass_idle_to(to_units(min(until, END_OF_TIME)))

    def pass_idle_to(self, units: int) -> None:
        """The same, in units."""
        gap = units - self.cell.units
        if gap > 0:
            self.cell.units += gap
            self.cell.idle += gap
        self.cell.visible = self.cell.units

    @property
    def armed(self) -> list[tuple[int, str]]:
        """Deadline (ns) and name of every armed timer, in the order in which they will fire."""
        return [
            (deadline, timer.name)
            for deadline, entry, timer in sorted(self._queue, key=lambda e: e[:2])
            if timer.is_current(entry)
        ]

    @property
    def executed(self) -> int:
        """Bytes of code retired by all harts."""
        return self.cell.units - self.cell.idle

    def save(self) -> dict[str, object]:
        """Time, and the armed timers in the order they would fire."""
        armed = [
            t for _, entry, t in sorted(self._queue, key=lambda e: e[:2]) if t.is_current(entry)
        ]
        return {
            "units": self.cell.units,
            "visible": self.cell.visible,
            "idle": self.cell.idle,
            "timers": [[timer.name, timer.deadline] for timer in armed],
        }

    def load(self, state: dict[str, object]) -> None:
        """Take saved time; the timers must exist again by name (ValueError else)."""
        for name in ("units", "visible", "idle"):
            setattr(self.cell, name, state[name])
        self._queue.clear()
        for timer in self.timers.values():
            timer.cancel()
        timers = state["timers"]
        assert isinstance(timers, list)
        for name, deadline in timers:
            if name not in self.timers:
                raise ValueError(f"the snapshot's timer {name} is not of this machine")
            self.timers[name].arm(deadline)

"""What comes into a machine from outside, stamped with the moment at which it came in.

Everything outside that a run depends on passes here, at safe points only: keys, the pointer,
frames, buttons. So a run can be written down (`listeners`) and made again (`replay`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hypervisor.outcome import Outcome

if TYPE_CHECKING:
    from hypervisor.machine import Machine

Sink = Callable[[bytes], None]
_OVERHEAD = 200
"""Bytes of an input's object and its numbers."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that came in."""

    at: int
    """The machine's clock, in units: exactly there, at a safe point."""
    pc: int
    """Of the hart whose turn it was: a trap takes no time, and may separate two safe points."""
    late: bool
    """After the timers that were due there had fired."""
    kind: str
    """`console`, `channel`, `frame`, `seat` or `power`; of a recording also `check`, `change`,
    `end`."""
    name: str
    data: bytes


class ReplayError(Exception):
    """A run is not the one that was recorded: one sentence."""


class Inputs:
    """A machine's inputs. Everything here belongs to the machine's thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._sinks: dict[tuple[str, str], Sink] = {}
        self._held: list[tuple[str, str, bytes]] = []
        self.log: list[Input] = []
        """What came in so far, where it is kept, and of a replay what will."""
        self.log_size = 0
        """Bytes that it takes, about."""
        self.keeps_log = False
        self._cursor = 0
        self._trimmed = 0
        self.present_at: int | None = None
        """Where the machine was taken back: the clock at which it is live again."""
        self.on_present: Callable[[], None] = lambda: None
        self._timers_ran_at: int | None = None
        self.listeners: list[Callable[[Input], None]] = []
        """Told of everything that comes in, and not of what is replayed."""
        self.on_outside: Callable[[str], bool] | None = None
        """While a run is replayed: whether what comes from outside (its kind) ends the replay, and
        is taken; else it is dropped."""
        self.checks: Callable[[Input], None] = lambda item: None
        """Takes those inputs of a replay that no device does."""
        self.is_replaying = False
        self.outcome: Outcome | None = None
        """What runs end with from now on, as there is nothing more to replay."""

    def connect(self, kind: str, name: str, sink: Sink) -> Sink:
        """Where an input of that kind and name goes. What is returned takes it from outside."""
        self._sinks[kind, name] = sink
        return partial(self.enter, kind, name)

    def enter(self, kind: str, name: str, data: bytes) -> None:
        """Something comes in. Where the machine is within straight-line code it waits."""
        if self.is_replaying and (self.on_outside is None or not self.on_outside(kind)):
            return
        machine = self._machine
        if machine.loop.is_executing or machine.turns.present.is_midway:
            self._held.append((kind, name, bytes(data)))
            machine.kick()
            return
        if self.listeners or self.keeps_log:
            self.tell(kind, name, bytes(data))
        self._sinks[kind, name](data)

    def tell(self, kind: str, name: str, data: bytes) -> None:
        """Let the listeners have an input that is stamped with this moment."""
        at = self._machine.clock.cell.units
        pc = self._machine.turns.present.pc
        item = Input(at, pc, at == self._timers_ran_at, kind, name, data)
        if self.keeps_log:
            self.log.append(item)
            self.log_size += _size(item)
            self._cursor = len(self.log)
        for listener in self.listeners:
            listener(item)

    # -- the run loop's part ------------------------------------------------------------------

    def before_timers(self) -> None:
        """At a safe point, first."""
        if self.is_replaying:
            self._take(late=False)
            at = self.present_at
            if at is not None and not self._is_coming and self._machine.clock.cell.units >= at:
                self.go_live()
                self.on_present()
        while self._held:
            self.enter(*self._held.pop(0))

    def after_timers(self) -> None:
        """At a safe point, when what is due has been done."""
        self._timers_ran_at = self._machine.clock.cell.units
        if self.is_replaying:
            self._take(late=True)

    def moved(self) -> None:
        """The machine is elsewhere (restored, reset)."""
        self._timers_ran_at = None
        self._held.clear()

    # -- replaying ----------------------------------------------------------------------------

    def replay(self, items: Iterable[Input]) -> None:
        """From now on these come in, at their moments, and nothing from outside."""
        self.log = list(items)
        self.log_size = sum(map(_size, self.log))
        self._trimmed = 0
        self.go_back(0, None)

    @property
    def position(self) -> int:
        """How many inputs have come in, of all that were ever in the log."""
        return self._trimmed + self._cursor

    def trim(self, position: int) -> None:
        """Nobody will go back to before `position`."""
        count = position - self._trimmed
        self.log_size -= sum(map(_size, self.log[:count]))
        del self.log[:count]
        self._trimmed += count
        self._cursor -= count

    def go_back(self, position: int, present_at: int | None) -> None:
        """What came in after `position` comes in again; at the clock `present_at` (units) the
        machine is live again, unless it never was."""
        self._cursor = position - self._trimmed
        self.present_at = present_at
        self.is_replaying = True
        self.outcome = None

    def go_live(self) -> None:
        """Inputs come from outside again; what had not come in yet never will."""
        self.log_size -= sum(map(_size, self.log[self._cursor :]))
        del self.log[self._cursor :]
        self.present_at = None
        self.is_replaying = False
        self.outcome = None

    @property
    def _is_coming(self) -> bool:
        return self._cursor < len(self.log)

    @property
    def next_at(self) -> int | None:
        """The clock, in units, of the next moment that a replay knows."""
        return self.log[self._cursor].at if self._is_coming else self.present_at

    @property
    def is_behind(self) -> bool:
        """At a safe point where the next input's time has come, but not yet its place."""
        return (
            self.is_replaying
            and self._is_coming
            and self.log[self._cursor].at <= self._machine.clock.cell.units
        )

    def _take(self, *, late: bool) -> None:
        """Hand on what comes in now. Raises ReplayError where the run has passed it."""
        machine = self._machine
        now = machine.clock.cell.units
        while self._is_coming and self.log[self._cursor].at <= now:
            item = self.log[self._cursor]
            is_change = item.kind == "change"  # between any instructions; nothing counts beyond it
            if item.at < now and not is_change:
                raise ReplayError(
                    f"the run is not the one recorded: it passed {item.at} units, where "
                    f"{item.kind} {item.name} comes in, and is at {now}"
                )
            elsewhere = (item.late and not late) or item.pc != machine.turns.present.pc
            if elsewhere and not is_change:
                return
            self._cursor += 1
            sink = self._sinks.get((item.kind, item.name))
            if sink is not None:
                sink(item.data)
            else:
                self.checks(item)


def _size(item: Input) -> int:
    """Bytes that an input takes in memory, about."""
    return len(item.data) + _OVERHEAD

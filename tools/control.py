"""Runs a machine for several masters: debuggers and monitors may stop it, look, and let it go on.

Everything they do with the machine happens on its thread and between runs, where it is whole.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hypervisor.outcome import Outcome

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_LOOKED_AT = ("failed", "replayed", "beginning")
"""Ends of a run at which a debugger wants to look."""

_GLANCE = 0.1
"""Seconds between looks at whether the user wants to leave, while the machine is paused."""


class ClientWork:
    """What one client asks of the machine: at most `most` requests wait for it at a time."""

    def __init__(self, control: Control, most: int, is_gone: Callable[[], bool]) -> None:
        self._control = control
        self._is_gone = is_gone
        self._room = threading.Semaphore(most)

    def post(self, work: Callable[[], None]) -> None:
        """Have work done on the machine's thread, unless the client has gone by then. From the
        client's thread, which waits while much of it waits."""

        def run() -> None:
            self._room.release()
            if not self._is_gone():
                work()

        while not self._room.acquire(timeout=_GLANCE):
            if self._is_gone():
                return
        self._control.post(run)


class Control:
    """Who may run, pause and change a machine. `is_over`: whether to leave a paused machine."""

    def __init__(self, machine: Machine, is_over: Callable[[], bool] = lambda: False) -> None:
        self.machine = machine
        self.paused = False
        self.debuggers = 0
        """How many want to look at a machine that has failed before it is gone."""
        self.on_pause: list[Callable[[Outcome], None]] = []
        """Told why the machine has just paused, on its thread."""
        self.on_resume: list[Callable[[], None]] = []
        self.on_end: list[Callable[[Outcome], None]] = []
        """Told how the run ended, before `run` returns."""
        self._is_over = is_over
        self._work: deque[Callable[[], None]] = deque()
        self._arrived = threading.Event()
        self._next: Callable[[], Outcome] | None = None
        self._end: Outcome | None = None

    # -- from any thread ----------------------------------------------------------------------

    def post(self, work: Callable[[], None]) -> None:
        """Have `work` done on the machine's thread, between runs, soon. It must not raise."""
        self._work.append(work)
        self._arrived.set()
        self.machine.pause()

    # -- on the machine's thread --------------------------------------------------------------

    def pause(self, outcome: Outcome | None = None) -> None:
        """The machine does not go on by itself any more."""
        if not self.paused:
            self.paused = True
            self._announce(outcome or Outcome("paused", "paused by its user"))

    def resume(self, how: Callable[[], Outcome] | None = None) -> None:
        """Go on: by `Machine.run`, or as `how` says, a step for instance."""
        self._next = how
        if self.paused:
            self.paused = False
            for each in self.on_resume:
                each()

    def end(self, outcome: Outcome) -> None:
        """Leave `run`."""
        self._end = outcome

    def run(self, timeout: float | None = None) -> Outcome:
        """Run the machine until its end, or until `timeout` seconds have passed in all."""
        outcome = self._run(timeout)
        for each in self.on_end:
            each(outcome)
        return outcome

    def _run(self, timeout: float | None) -> Outcome:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._do_work()
            if self._end is not None:
                outcome, self._end = self._end, None
                return outcome
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return Outcome("timeout", f"{timeout:g} seconds ran out", 124)
            if self._is_over():
                return Outcome("stopped", "stopped by its user")
            if self.paused:
                self._arrived.wait(_GLANCE if left is None else min(left, _GLANCE))
                self._arrived.clear()
                continue
            how, self._next = self._next, None
            outcome = self.machine.run(timeout=left) if how is None else how()
            if outcome.kind == "paused":  # for work that waits, or was done meanwhile
                self._next = how
            elif outcome.stop is not None or (self.debuggers and outcome.kind in _LOOKED_AT):
                self.pause(outcome)
            elif outcome.kind == "timeout":  # of all the time, of which this run had what was left
                said = outcome.sentence.replace(f"{left:g} seconds", f"{timeout:g} seconds", 1)
                return replace(outcome, sentence=said)
            else:
                return outcome

    def _do_work(self) -> None:
        while self._work:
            self._work.popleft()()

    def _announce(self, outcome: Outcome) -> None:
        for each in self.on_pause:
            each(outcome)

"""How virtual time keeps to the wall's: which time is skipped, and where the machine waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Protocol

from hypervisor.time.clock import VirtualClock

Pace = Literal["auto", "free", "realtime"]

LONGEST_WAIT = 0.25
"""Seconds slept at a time, so that a run's own time limit is noticed."""

SHORTEST_LATENCY = 1_000_000
"""ns that a disk's answer takes if it is to be slept for at pace auto."""

LEAST_HOLD = 1_000_000
"""ns that busy time may run ahead of the wall before it is held."""


class Mail(Protocol):
    """What may arrive while the machine sleeps (hypervisor.host_io.Inbox)."""

    def wait(self, seconds: float) -> bool: ...


class Pacer:
    """Lets time pass while nothing runs, by the description's `clock.pace`.

    auto: idle time is skipped while nothing can arrive from outside, and passes at the wall's
    rate while something can; free: it is always skipped; realtime: it always passes at the
    wall's rate, and busy time is held to the wall too. `wall` is a clock in ns, for tests.
    """

    def __init__(
        self,
        pace: Pace,
        clock: VirtualClock,
        mail: Mail,
        live: set[str],
        wall: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._mail = mail
        self._live = live
        self._wall = wall
        self._start: tuple[int, int] | None = None

    @property
    def holds_busy_time(self) -> bool:
        return self._pace == "realtime"

    def begin(self) -> None:
        """A run begins: virtual and wall time are matched from here."""
        self._start = (self._clock.now(), self._wall())

    def hold(self) -> None:
        """Busy time that is ahead of the wall waits for it."""
        if self._pace != "realtime" or self._start is None:
            return
        virtual, wall = self._start
        ahead = (self._clock.now() - virtual) - (self._wall() - wall)
        if ahead > LEAST_HOLD:
            self._mail.wait(min(ahead / 1e9, LONGEST_WAIT))

    def idle(self, due: int | None, modelled: bool = False) -> None:
        """All harts wait until virtual time `due` (ns; None: for ever): move the clock on.

        `modelled`: what is due is a disk's answer. Its latency is our model's, and a short one is
        less than a sleep takes, so auto skips it even when something may arrive.
        """
        if due is not None and not self._sleeps(due - self._clock.now(), modelled):
            self._clock.pass_idle(due)
            return
        now, began = self._clock.now(), self._wall()
        seconds = LONGEST_WAIT if due is None else min((due - now) / 1e9, LONGEST_WAIT)
        arrived = self._mail.wait(seconds)
        passed = now + (self._wall() - began)
        if due is not None and (passed > due or (not arrived and seconds < LONGEST_WAIT)):
            passed = due
        self._clock.pass_idle(passed)

    def _sleeps(self, gap: int, modelled: bool) -> bool:
        if self._pace == "auto":
            return bool(self._live) and not (modelled and gap <= SHORTEST_LATENCY)
        return self._pace == "realtime"

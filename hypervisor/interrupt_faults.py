"""Faults on the way of an interrupt line: stages between a device and where its line leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.config.faults import DelayedInterrupt, Fault, LostInterrupt, SpuriousInterrupt

if TYPE_CHECKING:
    from hypervisor.faults import Injection
    from hypervisor.machine import Machine

Sink = Callable[[bool], None]
"""Where a line leads: called with its level."""


class Stage:
    """One fault on a line's way. `held`: what it does to the line now."""

    def __init__(
        self,
        injection: Injection,
        machine: Machine,
        sink: Sink,
        is_loading: Callable[[], bool],
    ) -> None:
        self.injection = injection
        self.sink = sink
        self.level = False
        self.output = False
        self.held = False
        self.clock = machine.clock
        self.device = injection.fault.device
        self.timer = self.clock.timer(injection.name, self.due)
        self._is_loading = is_loading

    def begin(self, level: bool) -> None:
        """Take a line that is at `level` now."""
        self.level = self.output = level

    def set(self, level: bool) -> None:
        self.level = level
        if not self._is_loading():
            self.changed(level)
        self.drive()

    def drive(self) -> None:
        output = self.passes()
        if output != self.output:
            self.output = output
            self.sink(output)

    def passes(self) -> bool:
        """The level that goes on."""
        return self.level and not self.held

    def changed(self, level: bool) -> None:
        """The level that comes in changed."""

    def due(self) -> None:
        """The stage's timer."""


class _Lose(Stage):
    def changed(self, level: bool) -> None:
        self.held = level and self.injection.takes(self.clock.now())
        if self.held:
            self.injection.say(f"the interrupt of {self.device} was lost")


class _Delay(Stage):
    def changed(self, level: bool) -> None:
        fault = self.injection.fault
        assert isinstance(fault, DelayedInterrupt)
        now = self.clock.now()
        self.held = level and self.injection.takes(now)
        if self.held:
            self.timer.arm(now + fault.delay)
            self.injection.say(
                f"the interrupt of {self.device} comes {fault.delay / 1e6:g} ms late"
            )
        else:
            self.timer.cancel()

    def due(self) -> None:
        self.held = False
        self.drive()


class _Raise(Stage):
    def begin(self, level: bool) -> None:
        super().begin(level)
        self.timer.arm(max(self.injection.fault.at, self.clock.now()))

    def passes(self) -> bool:
        return self.level or self.held

    def due(self) -> None:
        fault = self.injection.fault
        assert isinstance(fault, SpuriousInterrupt)
        now = self.clock.now()
        if self.held:
            self.held = False
            self._arm_next(fault, now)
        elif self.injection.takes(now):
            self.held = True
            self.timer.arm(now + fault.width)
            self.injection.say(f"a spurious interrupt of {self.device}")
        else:
            self._arm_next(fault, now)
        self.drive()

    def _arm_next(self, fault: SpuriousInterrupt, now: int) -> None:
        if fault.every is not None and self.injection.taken != fault.limit:
            passed = max(now - fault.at, 0) // fault.every
            self.timer.arm(fault.at + (passed + 1) * fault.every)


STAGES: dict[type[Fault], type[Stage]] = {
    LostInterrupt: _Lose,
    DelayedInterrupt: _Delay,
    SpuriousInterrupt: _Raise,
}

"""Interrupts of a device that finishes many short requests: a driver that was told of some just now
is told of the next a little later, of all at once. The first after a pause comes at once."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.device import Device


class Moderation:
    """Calls `interrupt` when it is asked for, but not within `window` ns of the last time: then
    once, at the window's end."""

    def __init__(self, device: Device, window: int, interrupt: Callable[[], None]) -> None:
        self._clock = device.clock
        self._window = window
        self._interrupt = interrupt
        self._timer = device.timer("interrupt", self._tell)
        self.told: int | None = None
        """The virtual time of the last; snapshots carry it."""

    def ask(self) -> None:
        """There is something to tell of."""
        if self._timer.deadline is not None:
            return
        if self.told is None or self._clock.now() >= self.told + self._window:
            self._tell()
        else:
            self._timer.arm(self.told + self._window)

    def hurry(self) -> None:
        """What is to be told of at the window's end is told of now."""
        if self._timer.deadline is not None:
            self._timer.cancel()
            self._tell()

    def _tell(self) -> None:
        self.told = self._clock.now()
        self._interrupt()

    def reset(self) -> None:
        self._timer.cancel()
        self.told = None

"""Interrupts of a device that finishes many short requests: a driver that was told of some just now
is told of the next a little later, of all at once. The first after a pause comes at once."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.device import Board


class Moderation:
    """Calls `interrupt` when it is asked for, but not within `window` ns of the last time: then
    once, at the window's end."""

    def __init__(self, name: str, board: Board, window: int, interrupt: Callable[[], None]) -> None:
        self._clock = board.clock
        self._window = window
        self._interrupt = interrupt
        self._timer = board.clock.timer(f"{name}.interrupt", self._tell)
        self._told: int | None = None
        """The virtual time of the last."""

    def ask(self) -> None:
        """There is something to tell of."""
        if self._timer.deadline is not None:
            return
        if self._told is None or self._clock.now() >= self._told + self._window:
            self._tell()
        else:
            self._timer.arm(self._told + self._window)

    def _tell(self) -> None:
        self._told = self._clock.now()
        self._interrupt()

    def reset(self) -> None:
        self._timer.cancel()
        self._told = None

    def save(self) -> dict[str, int | None]:
        return {"told": self._told, "due": self._timer.deadline}

    def load(self, state: dict[str, int | None]) -> None:
        self.reset()
        self._told = state["told"]
        if state["due"] is not None:
            self._timer.arm(state["due"])

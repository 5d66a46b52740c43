"""Whose turn it is: several harts on one thread, in an order that virtual time alone decides."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.cpu.cells import ClockCell
from hypervisor.cpu.hart import Hart

SLICE_UNITS = 64_000 * 32 // 25
"""How long one hart runs while others wait for their turn: 64 us."""


class Turns:
    """Round robin among the harts that can run; one alone has no slices."""

    def __init__(self, harts: Sequence[Hart], clock: ClockCell) -> None:
        self._harts = harts
        self._clock = clock
        self.index = 0
        """Of the hart that runs, or ran last."""
        self.slice_end: int | None = None
        """When its turn ends, in units of the clock; None: nobody else can run."""
        self.only: Hart | None = None
        """While set, no other has a turn."""

    def reset(self) -> None:
        self.index = 0
        self.slice_end = None

    @property
    def present(self) -> Hart:
        return self._harts[self.index]

    @property
    def is_over(self) -> bool:
        """The present hart has had its turn, if another can run."""
        return self.slice_end is not None and self._clock.units >= self.slice_end

    def next(self) -> Hart | None:
        """Whose turn it is; None when all wait."""
        if self.only is not None:
            return self._take(self.only) if _is_runnable(self.only) else None
        if len(self._harts) == 1:
            hart = self._harts[0]
            return hart if _is_runnable(hart) else None
        runnable = [hart for hart in self._harts if _is_runnable(hart)]
        if not runnable:
            return None
        current = self.present
        alone = len(runnable) == 1
        if current not in runnable or self.is_over:
            later = [hart for hart in runnable if hart.index > current.index]
            current = (later or runnable)[0]
            self.slice_end = None
            self._take(current)
        if alone:
            self.slice_end = None
        elif self.slice_end is None:
            self.slice_end = self._clock.units + SLICE_UNITS
        return current

    def _take(self, hart: Hart) -> Hart:
        if hart.index != self.index:
            hart.drop_reservation()
            self._clock.host_writes += 1  # or another hart, before it
        self.index = hart.index
        return hart

    def give_way(self) -> None:
        """The present hart has nothing to do: others come first."""
        if self.slice_end is not None:
            self.slice_end = self._clock.units

    def save(self) -> dict[str, int | None]:
        return {"turn": self.index, "slice_end": self.slice_end}

    def load(self, state: dict[str, int]) -> None:
        self.index = state["turn"]
        self.slice_end = state["slice_end"]


def _is_runnable(hart: Hart) -> bool:
    if hart.stopped:
        return False
    if hart.take_interrupt_lines():
        hart.waiting = False
    return not hart.waiting

"""A core's generic timers: interrupt lines and deadlines (Arm ARM D11.2).

Native code keeps the registers; this follows when they were written or a deadline has come.
"""

from __future__ import annotations

from hypervisor.cpu.cells import HartCell
from hypervisor.device.board import Clock
from hypervisor.device.line import Line

TIMEBASE = 10_000_000
_NANOSECONDS_PER_TICK = 1_000_000_000 // TIMEBASE
_ENABLE, _MASK = 1, 2


class GenericTimer:
    """One of the timers: high while it is enabled, not masked, and the count has reached it."""

    def __init__(self, cell: HartCell, register: str, clock: Clock, name: str, line: Line) -> None:
        """`register`: `cntv` or `cntp`. `line`: where its interrupt goes."""
        self._cell = cell
        self._control, self._compare = f"{register}_ctl", f"{register}_cval"
        self._clock = clock
        self._timer = clock.timer(name, self.update)
        self.line = line

    def update(self) -> None:
        """Drive the line, or arm for the time from which it is to be high."""
        control: int = getattr(self._cell, self._control)
        due: int = getattr(self._cell, self._compare) * _NANOSECONDS_PER_TICK
        is_due = self._clock.now() >= due
        self._timer.cancel()
        if control & (_ENABLE | _MASK) == _ENABLE and not is_due:
            self._timer.arm(due)
        self.line.set(control & (_ENABLE | _MASK) == _ENABLE and is_due)

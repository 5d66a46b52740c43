"""Interrupt lines: a level driven by one device and watched by one sink."""

from __future__ import annotations

from collections.abc import Callable


class Line:
    """A wire. `set` tells the sink of every change of level, and of nothing else."""

    __slots__ = ("_sink", "level", "name")

    def __init__(self, name: str = "", sink: Callable[[bool], None] | None = None) -> None:
        self.name = name
        self.level = False
        self._sink = sink

    def set(self, level: bool) -> None:
        if level != self.level:
            self.level = level
            if self._sink is not None:
                self._sink(level)

    def connect(self, sink: Callable[[bool], None]) -> None:
        """Attach the sink; it is told the present level only when that is high."""
        self._sink = sink
        if self.level:
            sink(True)

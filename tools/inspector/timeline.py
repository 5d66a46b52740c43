"""What a GPU's queues did, drawn as a line each: time goes to the right, a command is a bar."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

_KEPT = 200
"""Commands of a queue that are kept."""
_BAR, _IDLE = "█", "·"


@dataclass
class Span:
    """A command, from `begin` to `end` (virtual ns); None while it executes."""

    name: str
    begin: int
    end: int | None = None


class Timeline:
    """Takes GpuCommand events, draws queues."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Span]] = {}
        self._open: dict[tuple[str, int], Span] = {}

    def take(self, event: dict[str, Any]) -> None:
        """An X_TRACE event of kind `gpu`."""
        fields, queue, time = event["fields"], event["subject"], event["time"]
        key = (queue, fields["number"])
        if fields["is_end"]:
            if (span := self._open.pop(key, None)) is not None:
                span.end = time
            return
        span = self._open[key] = Span(fields["command"], time)
        self._queues.setdefault(queue, deque(maxlen=_KEPT)).append(span)

    def draw(self, width: int) -> list[str]:
        """A line for each queue: its name, its bars, the last command; and one for the scale."""
        spans = [span for queue in self._queues.values() for span in queue]
        if not spans or width < 10:
            return ["no GPU command was seen yet"]
        begin = min(span.begin for span in spans)
        end = max(*(span.end or span.begin for span in spans), begin + 1)
        lines = []
        for name, queue in self._queues.items():
            cells = [_IDLE] * width
            for span in queue:
                first = (span.begin - begin) * (width - 1) // (end - begin)
                last = ((span.end or end) - begin) * (width - 1) // (end - begin)
                cells[first : last + 1] = _BAR * (last + 1 - first)
            lines.append(f"{name:<16} {''.join(cells)} {queue[-1].name}")
        lines.append(f"{'':<16} {begin / 1e9:.6f} s to {end / 1e9:.6f} s")
        return lines

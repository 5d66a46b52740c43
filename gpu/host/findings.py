"""What a worker says that its runtime found wrong with kernels, as far as it makes sense."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpu.worker.reports import MOST

_MOST_ENTRIES = 10_000
"""Of one context: as many errors as the runtime itself reports (see gpu.worker.reports)."""
_MOST_TEXT = 256
_MOST_TIMES = 1 << 32


@dataclass(frozen=True)
class Finding:
    """The same mistake of one kernel: `what` it is, with the line of the program, an `example` of
    it (an address, work-items), and how many times it was found."""

    kernel: str
    what: str
    example: str
    times: int


class Untold:
    """What a context's workers found at messages whose time has not come. One that was taken over
    may say anything, and as often as it likes: kinds and entries are counted over the context's
    whole life, so that what is left out does not depend on when the rest is told."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], Finding] = {}
        """The first of each kernel and mistake."""
        self._entries: deque[tuple[int, Finding, int]] = deque()
        """Of each its message, its kind, and how many times."""
        self._count = 0

    def add(self, message: int, findings: Sequence[Finding]) -> None:
        """Keep what was found at a message, which is later than all that were added before."""
        for each in findings:
            if self._count >= _MOST_ENTRIES:
                return
            key = each.kernel, each.what
            if key not in self._kinds and len(self._kinds) >= MOST:
                each = _MORE
                key = each.kernel, each.what
            kind = self._kinds.setdefault(key, each)
            self._entries.append((message, kind, each.times))
            self._count += 1
            if self._count == _MOST_ENTRIES:
                self._entries.append((message, _MORE, 1))

    def take(self, message: int) -> list[Finding]:
        """What was found at messages up to this one and was not taken before."""
        found = []
        while self._entries and self._entries[0][0] <= message:
            _, kind, times = self._entries.popleft()
            found.append(replace(kind, times=times))
        return found

    def peek(self) -> dict[int, list[Finding]]:
        """What would be taken, by its message."""
        found: dict[int, list[Finding]] = {}
        for message, kind, times in self._entries:
            found.setdefault(message, []).append(replace(kind, times=times))
        return found


_MORE = Finding("", "more was found than is told", "", 1)


def parse_findings(data: Any) -> list[Finding]:
    """Raises ValueError where it is none."""
    if not isinstance(data, list) or len(data) > MOST:
        raise ValueError("findings")
    return [_finding(each) for each in data]


def _finding(data: Any) -> Finding:
    if not isinstance(data, list) or len(data) != 4:
        raise ValueError("finding")
    *texts, times = data
    if type(times) is not int or not 0 < times <= _MOST_TIMES:
        raise ValueError("times")
    kernel, what, example = (_text(each) for each in texts)
    return Finding(kernel, what, example, times)


def _text(data: Any) -> str:
    """A line that a terminal can show: some of it the guest chose."""
    if not isinstance(data, str):
        raise ValueError("text")
    return "".join(each if each.isprintable() else "?" for each in data[:_MOST_TEXT])

"""What a worker says that its runtime found wrong with kernels, as far as it makes sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST = 64
"""Findings that one message may have."""
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

"""Where two runs part: the first event of their traces that differs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest

from hypervisor.events import Event
from hypervisor.trace.file import fields_of, kind_of

_BEFORE = 3


@dataclass(frozen=True)
class Difference:
    """The first event that is not the same in both; None where a trace has ended."""

    index: int
    first: Event | None
    second: Event | None
    before: list[Event] = field(default_factory=list)
    """The last events that were the same."""


def first_difference(
    first: Iterable[Event], second: Iterable[Event], *, times: bool = True
) -> Difference | None:
    """Compare two traces, without their times if so told; None where they are the same."""
    before: deque[Event] = deque(maxlen=_BEFORE)
    for index, (one, other) in enumerate(zip_longest(first, second)):
        if one is None or other is None or not _same(one, other, times):
            return Difference(index, one, other, list(before))
        before.append(one)
    return None


def _same(one: Event, other: Event, times: bool) -> bool:
    if times and one.time != other.time:
        return False
    # Derived from times, as the rest of an acknowledgement is not.
    ignored = () if times else ("latency", "taken", "deadline")
    here, there = fields_of(one), fields_of(other)
    for name in ignored:
        here.pop(name, None)
        there.pop(name, None)
    return kind_of(one) == kind_of(other) and here == there

"""Which events a trace has: `mmio:uart0.LSR,irq:uart*,virtqueue,!dma:disk0`.

A term is KIND or KIND:SUBJECT; `*` and `?` match as in file names, and a device's name stands for
all that is in it. `!` takes away what the terms before it chose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from hypervisor.events import KINDS, Event

COSTLY = ("trap", "taken")
"""Kinds that `all` leaves out: they place a hook in every block of guest code."""

GROUPS: dict[str, tuple[str, ...]] = {
    "interrupts": ("irq", "ack", "eoi", "taken"),
    "virtqueue": ("request", "completion"),
}


class FilterError(ValueError):
    """A filter that says nothing sensible: one sentence."""


@dataclass(frozen=True, slots=True)
class _Term:
    kinds: tuple[str, ...]
    pattern: str
    removes: bool

    def matches(self, kind: str, subject: str) -> bool:
        if kind not in self.kinds:
            return False
        return (
            not self.pattern
            or fnmatchcase(subject, self.pattern)
            or fnmatchcase(subject, f"{self.pattern}.*")
        )


@dataclass(frozen=True)
class Filter:
    """A choice of events."""

    text: str
    terms: tuple[_Term, ...]

    @classmethod
    def parse(cls, text: str, others: Collection[str] = ()) -> Filter:
        """Read a filter over all kinds that are known, and `others`. Raises FilterError."""
        known = list(dict.fromkeys([*KINDS, *others]))
        terms = [_term(part.strip(), known) for part in text.split(",") if part.strip()]
        if not terms or all(term.removes for term in terms):
            raise FilterError(f"the filter '{text}' chooses nothing; say all, or {_list(known)}")
        return cls(text, tuple(terms))

    @property
    def kinds(self) -> list[str]:
        """The kinds of which it may choose some."""
        return list(dict.fromkeys(k for t in self.terms if not t.removes for k in t.kinds))

    def chooses(self, kind: str, subject: str) -> bool:
        chosen = False
        for term in self.terms:
            if chosen == term.removes and term.matches(kind, subject):
                chosen = not term.removes
        return chosen

    def where(self, kind: str) -> Callable[[Event], bool] | None:
        """The condition on events of a kind; None where all are chosen."""
        relevant = [term for term in self.terms if kind in term.kinds]
        if not any(term.removes for term in relevant) and any(not t.pattern for t in relevant):
            return None
        return lambda event: self.chooses(kind, event.subject)


def _term(text: str, known: list[str]) -> _Term:
    removes = text.startswith("!")
    name, _, pattern = text.removeprefix("!").partition(":")
    if name == "all":
        kinds = tuple(kind for kind in known if removes or kind not in COSTLY)
    elif name in GROUPS:
        kinds = GROUPS[name]
    elif name in known:
        kinds = (name,)
    else:
        near = get_close_matches(name, [*known, *GROUPS, "all"], 1)
        meant = f"; did you mean '{near[0]}'?" if near else f"; there are {_list(known)}"
        raise FilterError(f"no events of kind '{name}'{meant}")
    return _Term(kinds, pattern, removes)


def _list(kinds: Collection[str]) -> str:
    return ", ".join([*sorted(kinds), *GROUPS])

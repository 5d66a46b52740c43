"""How a run of a machine ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.stops import Stop


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `kind`: power-off, until, failed, timeout, stopped or paused; for debuggers
    breakpoint, watchpoint or step; reached, where a run was to stop at a time; replayed, where a
    recording ends; beginning, where the history does that a debugger went back in."""

    kind: str
    sentence: str
    code: int = 0
    """The command line's exit code; a guest's own power-off code is in `sentence`."""
    report: str = ""
    """For a failure: where, with registers and disassembly."""
    stop: Stop | None = None
    """For breakpoint, watchpoint and step: which and where."""


class GuestFailure(Exception):
    """A run did not end as its caller wanted; `outcome` says how it did."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("\n".join(filter(None, [outcome.sentence, outcome.report])))
        self.outcome = outcome

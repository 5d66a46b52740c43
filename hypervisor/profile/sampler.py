"""Samples of where a machine's harts are, in equal distances of executed code.

A sample is taken at the first taken transfer behind its time, where the run stops anyway for what
is due; so the run does not change, and samples are the same in every run. What a sample counts for
is the code that the hart was in when the time came, not what it has just gone to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.profile.stack import Stack, Walker
from hypervisor.time.clock import to_units

if TYPE_CHECKING:
    from hypervisor.cpu.hart import Hart
    from hypervisor.machine import Machine

PERIOD = 100_000
"""ns of executed code between samples."""
SHORTEST = 1_000


class Sample(NamedTuple):
    """A hart and where it was."""

    hart: int
    stack: Stack


class Sampler:
    """Takes samples of a machine from now on, until `close`.

    `samples` counts them: each stands for `period` ns of executed code. `order` has them one after
    the other, as (virtual time in ns, sample, weight).
    """

    def __init__(
        self,
        machine: Machine,
        walker: Walker,
        period: int = PERIOD,
        arrived: Callable[[Hart], None] | None = None,
    ) -> None:
        """`arrived` is called before each sample with the hart it is of."""
        if period < SHORTEST:
            raise ValueError(f"the period must be at least {SHORTEST} ns, not {period}")
        self.period = period
        self.samples: Counter[Sample] = Counter()
        self.order: list[tuple[int, Sample, int]] = []
        self._machine = machine
        self._walker = walker
        self._arrived = arrived
        self._units = to_units(period)
        self._due = machine.clock.executed + self._units
        if machine.sampler is not None:
            raise ValueError("the machine is sampled already")
        machine.sampler = self

    @property
    def due(self) -> int:
        """Bytes of executed code at which the next sample is taken."""
        executed = self._machine.clock.executed
        if self._due - executed > self._units:  # the machine was restored to an earlier time
            self._due = executed + self._units
        return self._due

    def close(self) -> None:
        self._machine.sampler = None

    def ran(self, hart: Hart) -> None:
        """`hart` has run and stopped at a safe point."""
        clock = self._machine.clock
        behind = clock.executed - self.due
        if behind < 0:
            return
        weight = behind // self._units + 1
        self._due += weight * self._units
        if self._arrived is not None:
            self._arrived(hart)
        sample = Sample(hart.index, self._walker.stack(hart))
        self.samples[sample] += weight
        self.order.append((clock.now(), sample, weight))

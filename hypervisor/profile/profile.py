"""A profile of a machine's run: who executed how much, and called by whom.

    profile = Profile(machine)
    machine.run(until="# ")
    profile.close()
    for row in profile.functions()[:10]: print(row)

Profiling changes nothing in the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.profile.account import Account
from hypervisor.profile.convention import CONVENTIONS, Mode
from hypervisor.profile.coverage import KERNEL_SPACES, Coverage, Run
from hypervisor.profile.sampler import PERIOD, Sample, Sampler
from hypervisor.profile.stack import Walker
from hypervisor.profile.symbols import SymbolFile, SymbolTable

if TYPE_CHECKING:
    from hypervisor.cpu.hart import Hart
    from hypervisor.machine import Machine

MODES: tuple[Mode, ...] = ("user", "kernel", "machine")


class FunctionRow(NamedTuple):
    """A function and its time: ns of executed code, by samples, of itself and with what it called;
    and exactly, in bytes of code, where everything is counted (else None)."""

    name: str
    own: int
    total: int
    exact: int | None


class Profile:
    """Profiles a machine from now on, until `close`."""

    def __init__(
        self,
        machine: Machine,
        period: int = PERIOD,
        symbols: Sequence[SymbolFile] = (),
        exact: bool = False,
    ) -> None:
        """`period`: ns of executed code between samples. `exact`: count all code too, which is
        what coverage is made of; the run takes about a quarter longer."""
        self.machine = machine
        convention = CONVENTIONS[machine.description.cpu.arch]()
        self.table = SymbolTable(machine.programs, symbols, convention)
        self.account = Account(machine)
        self.coverage = Coverage(machine) if exact else None
        walker = Walker(convention, machine.memory, self.table.function)
        self.sampler = Sampler(machine, walker, period, self._arrived)

    def close(self) -> None:
        """Profile no more; what was found stays."""
        self.sampler.close()
        self.account.close()
        if self.coverage is not None:
            self.coverage.close()

    @property
    def samples(self) -> int:
        return sum(self.sampler.samples.values())

    def runs(self) -> list[Run]:
        """Everything that was executed; ValueError unless `exact`."""
        if self.coverage is None:
            raise ValueError("the profile was not to be exact")
        return list(self.coverage.runs())

    def names(self, sample: Sample) -> list[str]:
        """A sample's functions, the innermost first; a process's are below its own name."""
        stack = sample.stack
        names = [self.table.name(address) for address in stack.addresses]
        return (
            [*names, f"process {stack.root:#x}"] if stack.mode == "user" and stack.root else names
        )

    def functions(self) -> list[FunctionRow]:
        """All functions that were met, who took most time itself first."""
        own: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for sample, weight in self.sampler.samples.items():
            names = [self.table.name(address) for address in sample.stack.addresses]
            own[names[0]] += weight
            for name in set(names):
                total[name] += weight
        exact = self._exact() if self.coverage is not None else None
        period = self.sampler.period
        rows = [
            FunctionRow(
                name,
                own[name] * period,
                total[name] * period,
                None if exact is None else exact.get(name, 0),
            )
            for name in total.keys() | (exact or {}).keys()
        ]
        return sorted(rows, key=lambda row: (-(row.exact or 0), -row.own, -row.total, row.name))

    def modes(self) -> dict[Mode, int]:
        """Bytes of code executed in each mode: counted where everything is, else by samples."""
        found: Counter[Mode] = Counter()
        if self.coverage is not None:
            for run in self.runs():
                found[_mode(run.space)] += (run.end - run.start) * run.times
            return dict(found)
        units = self.account.executed
        for sample, weight in self.sampler.samples.items():
            found[sample.stack.mode] += weight
        taken = self.samples
        return {mode: units * weight // taken for mode, weight in found.items()}

    def _exact(self) -> Counter[str]:
        """Bytes of code executed in each function."""
        found: Counter[str] = Counter()
        for run in self.runs():
            for start, end in self._parts(run.start, run.end):
                found[self.table.name(start)] += (end - start) * run.times
        return found

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """A run cut where it goes from one function straight into the next."""
        while start < end and self.table.function(start) != self.table.function(end - 1):
            low, high = start, end - 1
            while high - low > 1:
                middle = (low + high) // 2
                if self.table.function(middle) == self.table.function(start):
                    low = middle
                else:
                    high = middle
            yield start, high
            start = high
        yield start, end

    def _arrived(self, hart: Hart) -> None:
        self.table.place_kernel(hart.registers)
        if self.coverage is not None:
            self.coverage.look()


def _mode(space: int) -> Mode:
    if space == 0 or space >= KERNEL_SPACES:
        return "user"
    return "machine" if space == 3 else "kernel"

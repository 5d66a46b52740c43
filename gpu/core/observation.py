"""What can be seen of a GPU's work: figures and mistakes of each kernel, events of each command."""

from __future__ import annotations

from dataclasses import dataclass

from gpu.core.objects import Kernel
from gpu.core.work import Submission, Work
from gpu.host.findings import Finding
from hypervisor.device import GpuCommand, GpuFinding
from hypervisor.device.board import Board

MAX_KERNELS = 1024
"""Kernels that figures are kept of; a guest that makes more up gets no more."""

MAX_FOUND = 64
"""Mistakes of kernels that are told and counted."""

_LONGEST_LABEL = 128


@dataclass(slots=True)
class KernelFigures:
    """Of all runs of the kernels of one name: `time` is what they cost in virtual time, ns."""

    runs: int = 0
    items: int = 0
    time: int = 0
    longest: int = 0


class Observation:
    """Counts what is sent to workers, and publishes commands when they are complete."""

    def __init__(self, name: str, board: Board) -> None:
        self._name = name
        self._board = board
        self._number = 0
        self.kernels: dict[str, KernelFigures] = {}
        self.mistakes: dict[tuple[str, str], int] = {}
        """How often a checking runtime found each: the kernel, and what is wrong."""
        self._has_more = False

    def sent(self, work: Work, submission: Submission | None) -> None:
        """A command was sent to its worker; its start and end are known where time is modelled."""
        if work.arguments is not None:
            label = label_of(work)
            figures = self.kernels.get(label)
            if figures is None and len(self.kernels) < MAX_KERNELS:
                figures = self.kernels[label] = KernelFigures()
            if figures is not None:
                time = work.end - work.start
                figures.runs += 1
                figures.items += work.items
                figures.time += time
                figures.longest = max(figures.longest, time)
        if submission is not None and self._board.wants(GpuCommand):
            submission.works.append(work)

    def completed(self, context: int, submission: Submission, at: int) -> None:
        """Publish what a submission did, and its fence. Times of commands are those that they
        had on the device's timeline, so they lie before the time of publishing."""
        if not self._board.wants(GpuCommand):
            return
        for work in submission.works:
            queue = f"{context}.{work.queue.number if work.queue is not None else 0}"
            detail = f"{work.items} work-items" if work.arguments is not None else ""
            self._publish(work.start, work.end, queue, label_of(work), detail)
        self._publish(at, at, f"{context}.ring{submission.ring}", "fence", f"tag {submission.tag}")

    def found(self, context: int, label: str, finding: Finding) -> None:
        """A runtime that checks kernels found a mistake: a line of the log says so, the first time,
        and a trace always."""
        now, key = self._board.clock.now(), (finding.kernel, finding.what)
        fields = finding.kernel, finding.what, finding.example, finding.times
        self._board.publish(GpuFinding(now, self._name, context, *fields))
        if key in self.mistakes:
            self.mistakes[key] += finding.times
        elif len(self.mistakes) < MAX_FOUND:
            self.mistakes[key] = finding.times
            example = f" ({finding.example})" if finding.example else ""
            what = f"kernel {finding.kernel}: {finding.what}{example}"
            self._board.log(f"{self._name}: context {label}: {what}")
        elif not self._has_more:
            self._has_more = True
            self._board.log(f"{self._name}: kernels have more mistakes than are told here")

    def _publish(self, start: int, end: int, queue: str, command: str, detail: str) -> None:
        self._number += 1
        number, publish = self._number, self._board.publish
        publish(GpuCommand(start, self._name, queue, number, command, False, detail))
        publish(GpuCommand(end, self._name, queue, number, command, True, detail))


def label_of(work: Work) -> str:
    """The kernel's name, shortened, or what else it is that a worker does."""
    if work.arguments is None:
        return str(work.operation[0]) if work.operation else "marker"
    kernel = work.objects[0]
    assert isinstance(kernel, Kernel)
    name = kernel.description.name if kernel.description is not None else "kernel"
    return name[:_LONGEST_LABEL]

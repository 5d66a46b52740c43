"""A context's line to its worker: what is to be done, in messages, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpu.core.blobs import Blob
from gpu.core.device import Device, Waiting
from gpu.core.objects import Object
from gpu.core.work import Operation, Work
from gpu.host.findings import Finding, Untold, parse_findings
from gpu.host.process import Worker, WorkerLostError
from gpu.opencl import Status

Concern = Work | Object | None
"""What an operation is for, and is told when it failed."""

_MOST_CODE = (1 << 31) - 1
_MOST_COPIED = (1 << 64) - 1


class Link:
    """Messages are numbered from 1. What came of one is known when it has arrived, and the
    guest's to see when it is taken: at virtual times, whenever the host was done."""

    def __init__(self, gpu: Device, on_loss: Callable[[str], None]) -> None:
        self._gpu = gpu
        self._on_loss = on_loss
        self.worker: Worker | None = None
        self.message = 0
        """The last that was sent."""
        self.arrived = 0
        self.taken = 0
        self._outbox: list[Operation] = []
        self._concerned: list[Concern] = []
        """What each in the outbox is for."""
        self._sent: dict[int, list[Concern]] = {}
        self.replies: dict[int, list[tuple[int, int]]] = {}
        """Of messages that arrived and were not taken: index and error of what failed."""
        self.found = Untold()
        """Kernels' mistakes that the runtime found at messages that were not taken."""
        self._sequence = 0
        """Operations that this worker was given."""
        self._copied = 0
        self._is_ready = False
        self._fd = -1
        """The worker's socket, which a worker that is lost has closed."""

    def start(self, blobs: Sequence[Blob]) -> None:
        """Get a worker, and let it map `blobs`. WorkerLostError where there is none."""
        self.worker = self._gpu.workers.take("execute")
        self._fd = self.worker.fileno()
        self._is_ready = False
        self._copied = 0
        self._sequence = len(self._outbox)
        for blob in blobs:
            self.send_blob(blob)

    def end(self) -> None:
        if self.worker is not None:
            self._gpu.unwatch(self._fd)
            self.worker.close()
            self.worker = None

    def abandon(self) -> list[Concern]:
        """The worker is gone: all that was under way, to be failed."""
        pending = [concern for number in sorted(self._sent) for concern in self._sent[number]]
        pending += self._concerned
        self._sent.clear()
        self.replies.clear()
        self._outbox, self._concerned = [], []
        self.arrived = self.taken = self.message
        self.end()
        return pending

    # -- to the worker ------------------------------------------------------------------------

    def operate(
        self, operation: Operation, concern: Concern = None, after: Sequence[int] = ()
    ) -> int:
        """Have an operation done; its number. It fails where one of those in `after` did."""
        if after:
            operation = ("after", list(after), operation)
        self._outbox.append(operation)
        self._concerned.append(concern)
        self._sequence += 1
        return self._sequence

    @property
    def waiting(self) -> int:
        """Operations that are not sent yet."""
        return len(self._outbox)

    @property
    def last(self) -> int:
        """The message after which all that was asked for is done."""
        return self.message + 1 if self._outbox else self.message

    def send_blob(self, blob: Blob) -> None:
        memory = self._gpu.board.memory
        if blob.has_shadow:
            pieces, fd = [(0, blob.size)], blob.shadow_fd
        else:
            pieces = [(address - memory.base, size) for address, size in blob.pieces]
            fd = memory.fd
        self.flush()
        self.operate(("grant", blob.number, pieces))
        self.flush(fd)

    def flush(self, fd: int | None = None) -> None:
        """Send what is to be done."""
        if not self._outbox:
            return
        if self.worker is None:
            self._on_loss("it has no worker")
            return
        outbox, self._outbox = self._outbox, []
        self.message += 1
        self._sent[self.message], self._concerned = self._concerned, []
        self.worker.count(len(outbox))
        try:
            self.worker.send((self.message, outbox), fd)
        except WorkerLostError as error:
            self._on_loss(str(error))

    # -- from the worker ----------------------------------------------------------------------

    def wait(self, message: int) -> None:
        """Until the host has done all up to `message`. What came of it is kept."""
        while self.arrived < message and self.worker is not None:
            try:
                self._arrive(self.worker.receive())
            except WorkerLostError as error:
                self._on_loss(str(error))

    def watch(self, context: Waiting) -> None:
        """Have the context look when there is something."""
        if self.worker is not None:
            self._gpu.watch(self._fd, context)

    def look(self) -> None:
        """Keep what has come, without waiting. Ends a worker that takes too long."""
        while self.worker is not None and self.arrived < self.message:
            try:
                reply = self.worker.poll()
                if reply is None:
                    self.worker.check()
                    return
                self._arrive(reply)
            except WorkerLostError as error:
                self._on_loss(str(error))

    def _arrive(self, reply: dict[str, Any]) -> None:
        assert self.worker is not None
        if reply.get("ready") is True and not self._is_ready:
            self._is_ready = True
            return
        number, copied = reply.get("done"), reply.get("copied")
        failed: Any = reply.get("failed")
        if not (
            type(number) is int
            and type(copied) is int
            and number == self.arrived + 1
            and number <= self.message
            and self._copied <= copied <= _MOST_COPIED
            and _are_failures(failed, len(self._sent[number]))
        ):
            raise self.worker.lose("the GPU's worker sent nonsense")
        if "found" in reply:
            try:
                self.found.add(number, parse_findings(reply["found"]))
            except ValueError:
                raise self.worker.lose("the GPU's worker sent nonsense") from None
        self.replies[number] = [(index, code) for index, code in failed]
        self.arrived = number
        self._gpu.bounced_bytes += copied - self._copied
        self._copied = copied

    def take(self, message: int) -> list[tuple[Concern, Status]]:
        """All that arrived up to `message` and was not taken before, with what came of it."""
        found: list[tuple[Concern, Status]] = []
        while self.taken < min(message, self.arrived):
            self.taken += 1
            concerned = self._sent.pop(self.taken)
            failed = self.replies.pop(self.taken)
            if not self._gpu.is_modelled:
                found += [(concern, Status.SUCCESS) for concern in concerned]
            found += [(concerned[index], _status(code)) for index, code in failed]
        return found

    # -- snapshots ----------------------------------------------------------------------------

    def untaken(self) -> list[tuple[int, list[tuple[Concern, int]], list[Finding]]]:
        """Messages that arrived, of which there is something to tell, and which were not taken;
        with what failed and what was found."""
        told = []
        found = self.found.peek()
        for number, failed in sorted(self.replies.items()):
            if failed or number in found:
                concerned = [(self._sent[number][i], code) for i, code in failed]
                told.append((number, concerned, found.get(number, [])))
        return told

    def restore(
        self,
        failures: Sequence[Sequence[tuple[Concern, int]]],
        found: Sequence[Sequence[Finding]],
    ) -> int:
        """Put back what `untaken` had; the number before the first of its messages."""
        lost = [each for failed in failures for each, _ in failed if isinstance(each, Work)]
        for number, work in enumerate(lost, 1):
            work.sequence = -number
        if lost:
            self.operate(("failed", [work.sequence for work in lost]))
        self.flush()
        self.wait(self.message)
        self.take(self.message)
        first = self.message
        for failed, findings in zip(failures, found, strict=True):
            self.message += 1
            self.found.add(self.message, findings)
            self._sent[self.message] = [concern for concern, _ in failed]
            self.replies[self.message] = [(i, code) for i, (_, code) in enumerate(failed)]
            self.arrived = self.message
        return first


def _are_failures(failed: Any, count: int) -> bool:
    """Whether these say of some of a message's operations, each once, with what error it failed."""
    return (
        isinstance(failed, list)
        and len(failed) <= count
        and all(_is_failure(each, count) for each in failed)
        and len({index for index, _ in failed}) == len(failed)
    )


def _is_failure(pair: Any, count: int) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(each) is int for each in pair)
        and 0 <= pair[0] < count
        and abs(pair[1]) <= _MOST_CODE
    )


def _status(code: int) -> Status:
    known = code < 0 and code in Status._value2member_map_
    return Status(code) if known else Status.OUT_OF_RESOURCES

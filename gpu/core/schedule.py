"""The order of a guest context's commands, and their completion.

A command is sent to the worker when all it waits for has been, in an order that virtual time
alone decides. A submission is complete when all of it is, at its virtual time; if the host is not
done by then, it is waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain

from gpu import protocol
from gpu.core.answers import answer_bytes, build_info
from gpu.core.arguments import changed_arguments
from gpu.core.device import Device
from gpu.core.handles import Handles
from gpu.core.link import Concern, Link
from gpu.core.objects import Buffer, Event, Image, Kernel, execution_of
from gpu.core.observation import label_of
from gpu.core.work import Operation, Producer, Submission, Work
from gpu.host.builds import Build
from gpu.host.process import WorkerLostError
from gpu.opencl import Status

MAX_HELD = 1 << 12
"""Commands of a context that wait for others."""
MAX_PENDING = 1 << 16
"""Commands and submissions of a context that are not complete: who has more takes no more."""


class Schedule(Handles):
    """What commands are given of their context: its handles, its queues' order, its worker."""

    def __init__(self, gpu: Device, number: int, label: str) -> None:
        super().__init__(gpu, number, label, Link(gpu, self.lose))
        self.is_closed = False
        self.lost = ""
        """Why the worker is gone, until a new CreateContext."""
        self.submission: Submission | None = None
        """The one whose packets are being read."""
        self.rings: dict[int, deque[Submission]] = {}
        self.held: dict[Work, None] = {}
        """Commands that wait for others, as they were enqueued."""
        self.pending = 0
        """Commands and submissions that are not complete."""

    @property
    def is_full(self) -> bool:
        """Whether it should be given nothing more until something is complete. Where all waits
        for user events, it takes as much again: the packet that sets one may be among it."""
        return self.pending >= MAX_PENDING and (
            self.pending >= 2 * MAX_PENDING or not self.is_stuck
        )

    @property
    def is_stuck(self) -> bool:
        """Whether nothing will be complete unless it is given more: all waits for user events."""
        return not any(waiting and not waiting[0].unsent for waiting in self.rings.values())

    def enqueue(self, work: Work, waits: Sequence[Work], event: int = 0) -> None:
        """Put a command into its queue. It is sent when `waits` and what its queue's order puts
        before it have been."""
        queue, submission = work.queue, self.submission
        assert queue is not None
        assert submission is not None
        work.waits = waits
        before = queue.tail if queue.is_in_order else queue.barrier
        if before is not None and before.is_sent:
            work.start = max(work.start, before.end)
            before = None
        if before is not None or (waits and not all(other.is_sent for other in waits)):
            work.host = work.held_bytes
            self.hold(work.host)
        work.queued = submission.now
        work.submission = submission
        work.command = self.reading
        if event:
            self.table[event] = Event(
                self.new_number(), queue.scope, work=work, is_profiling=queue.is_profiling
            )
        if before is not None:
            self._follow(work, before)
        for other in waits:
            self._follow(work, other)
            if other.status is not None and other.status < 0:
                work.status = Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
        queue.tail = work
        submission.unsent += 1
        if work.needs:
            assert queue.unsent is not None
            assert queue.since is not None
            queue.unsent[work] = queue.since[work] = None
            self.held[work] = None
            work.has_waited = True
            self.retain(work.objects)
        else:
            self._send_one(work)

    def do(self, work: Work) -> None:
        """Send a command that is in no queue and waits for nothing."""
        submission = self.submission
        assert submission is not None
        work.queued = submission.now
        work.submission = submission
        work.command = self.reading
        submission.unsent += 1
        self._send_one(work)

    def gather(self, work: Work, event: int = 0) -> None:
        """Enqueue a command that waits for all that its queue has before it. Of what such a one
        waits for already the next has no list of its own: so lists stay as long as the queue."""
        queue = work.queue
        assert queue is not None
        assert queue.since is not None
        earlier = queue.gathered
        waits = [] if earlier is None or earlier.is_sent else [earlier]
        self.enqueue(work, [*waits, *queue.since], event)
        if not work.is_sent:
            queue.gathered = work
            queue.since = {}

    @staticmethod
    def _follow(work: Work, other: Work) -> None:
        if not other.is_sent:
            work.needs += 1
            other.dependents.append(work)
        elif other.end > work.start:
            work.start = other.end

    def send(self, work: Work) -> None:
        """Send what waits for nothing more, and then what waited only for that."""
        ready = deque((work,))
        while ready:
            work = ready.popleft()
            self._send_one(work)
            for other in work.dependents:
                other.needs -= 1
                other.start = max(other.start, work.end)
                has_failed = work.status is not None and work.status < 0
                if has_failed and other.status is None and self._waits_for(other, work):
                    other.status = Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
                if not other.needs:
                    assert other.queue is not None
                    self._is_held_no_more(other)
                    ready.append(other)
            work.dependents = []
            if work.has_waited:
                self.give_back(work.objects)

    def _is_held_no_more(self, work: Work) -> None:
        queue = work.queue
        assert queue is not None
        assert queue.unsent is not None
        assert queue.since is not None
        del self.held[work]
        del queue.unsent[work]
        queue.since.pop(work, None)
        if queue.gathered is work:
            queue.gathered = None
        self.hold(-work.host)
        work.host = 0

    @staticmethod
    def _waits_for(work: Work, other: Work) -> bool:
        """Whether it names the other's event, rather than merely following it in its queue."""
        return other.queue is not work.queue or other in work.waits

    def _send_one(self, work: Work) -> None:
        gpu, queue, submission, link = self.gpu, work.queue, work.submission, self.link
        reading = self.submission
        start = reading.now if reading is not None else self.now()
        start = max(start, work.start)
        work.is_sent = True
        after: Sequence[int] = ()
        if work.waits:
            after = self._undecided(work)
            work.waits = ()
        if work.operation is not None and work.status is None:
            if self.lost:
                work.status = Status.OUT_OF_RESOURCES
            elif work.has_waited and _has_lost_memory(work):
                work.status = Status.INVALID_MEM_OBJECT
            else:
                if work.cost and gpu.is_modelled:
                    start, work.end = gpu.engine.reserve(start, work.cost, work.priority)
                if gpu.capture is not None:
                    gpu.capture.uses(work, submission)
                for blob, offset, size in work.inputs:
                    gpu.bring_in(blob, offset, size)
                for blob, offset, size in work.outputs:
                    blob.owe(offset, size)
                    if gpu.capture is not None:
                        gpu.capture.writes(blob, offset, size)
                    if submission is not None:
                        submission.outputs.append((blob, offset, size))
                is_last = gpu.fault is not None and self._is_ended_by(label_of(work))
                work.sequence = link.operate(self._operation(work), work, after)
                work.drop_payload()
                if is_last:
                    self.lose("a fault ended its worker")
        elif after and work.status is None and not self.lost:
            work.sequence = link.operate(("nothing",), work, after)
        work.start = start
        work.end = end = max(work.end, start)
        gpu.observation.sent(work, submission)
        work.message = link.last
        if queue is not None and end > queue.end:
            queue.end = end
        if submission is not None:
            submission.ready = max(submission.ready, end)
            submission.message = work.message
            submission.unsent -= 1
            if not submission.unsent and submission is not self.submission:
                self._resolved(submission)

    def _undecided(self, work: Work) -> Sequence[int]:
        """Commands that it waits for by name, which the worker has and may yet fail at."""
        taken = self.link.taken
        return [
            other.sequence
            for other in work.waits
            if other.sequence and other.message > taken and other.status is None
        ]

    @staticmethod
    def _operation(work: Work) -> Operation:
        operation = work.operation
        assert operation is not None
        if work.arguments is None:
            return operation
        kernel = work.objects[0]
        assert isinstance(kernel, Kernel)
        if work.arguments is kernel.sent:
            return operation
        name, number, _, *sizes = operation
        return (name, number, changed_arguments(kernel, work.arguments), *sizes)

    # -- completion ---------------------------------------------------------------------------

    def _resolved(self, submission: Submission) -> None:
        waiting = self.rings.get(submission.ring)
        if waiting and waiting[0] is submission and submission.at is None:
            self.expect(submission.ring)

    def expect(self, ring: int) -> None:
        """Tell when the first submission of a ring will be complete, if that is known."""
        submission = self.rings[ring][0]
        if submission.unsent or submission.at is not None:
            return
        if not self.gpu.is_modelled and self.link.arrived < submission.message:
            self.link.watch(self)
            return
        at = submission.saved_at
        if at is None:
            at = self.gpu.round_up(max(submission.ready, self.now()))
            if self.gpu.fault is not None:
                at += self.gpu.fault("fence", f"submission {submission.tag}")
        submission.at = at
        self.gpu.expect(submission.at, self, ring)

    def look(self) -> None:
        """What the host has done by now is complete (timing `host`)."""
        self.link.look()
        for ring, waiting in list(self.rings.items()):
            if waiting:
                self.expect(ring)

    def complete(self, ring: int, at: int) -> None:
        """The time of a ring's first submission has come."""
        waiting = self.rings.get(ring)
        if not waiting or waiting[0].at != at:
            return
        submission = waiting[0]
        self.collect(submission.message)
        waiting.popleft()
        self.pending -= submission.weight
        for blob, offset, size in submission.outputs:
            self.gpu.bounced_bytes += blob.copy_out(offset, size)
        for answer in submission.answers:
            self._answer(*answer, at)
            self._forget(answer[3])
        if self.gpu.capture is not None:
            self.gpu.capture.completed(self.number, submission)
        self.gpu.observation.completed(self.number, submission, at)
        if waiting:
            self.expect(ring)
        submission.signal()

    def _forget(self, producer: Producer | None) -> None:
        """An answer was made."""
        if producer is not None and isinstance(producer[1], Build):
            self.let_go(producer[1])

    def _answer(
        self,
        place: protocol.AnswerPlace | None,
        command: tuple[int, int],
        status: Status,
        producer: Producer | None,
        at: int,
    ) -> None:
        answer = None
        if status == Status.SUCCESS:
            status, answer = self._produce(producer, at)
        if place is None:
            if status != Status.SUCCESS:
                self.latch(*command, status)
            return
        blob = self.blobs.get(place.blob)
        if blob is not None and blob.holds(place.offset, place.size):  # it may be another by now
            data = answer_bytes(place.size, status, answer)
            blob.write(place.offset, data)
            if self.gpu.capture is not None:
                self.gpu.capture.answered(blob, place.offset, data)

    def _produce(self, producer: Producer | None, at: int) -> tuple[Status, protocol.Answer | None]:
        """What comes of a producer at virtual time `at`."""
        if producer is None:
            return Status.SUCCESS, None
        kind, subject = producer
        if kind == "record":
            return Status.SUCCESS, subject
        if kind == "error":
            latched, self.latched = self.latched, None
            return Status.SUCCESS, latched or protocol.LatchedError(index=0, opcode=0, error=0)
        if kind == "build":
            built = subject.join()
            if built.is_lost:
                reason = built.log.strip()
                self.gpu.say_lost_build(self.label, f"a program was not built: {reason}")
            return built.status, None
        if kind == "build_info":
            return Status.SUCCESS, build_info(subject)
        if kind == "event":
            return Status.SUCCESS, protocol.EventStatus(execution=self._execution(subject, at))
        return self._profile(subject, at)

    def _execution(self, event: Event, at: int) -> int:
        work = event.work
        assert work is not None
        if not self.gpu.is_modelled and work.message > self.link.arrived:
            return execution_of(work.status, work.start, at + 1, work.is_sent, at)
        if work.is_sent and work.end <= at:
            self.collect(work.message)
        return execution_of(work.status, work.start, work.end, work.is_sent, at)

    def _profile(self, event: Event, at: int) -> tuple[Status, protocol.Answer | None]:
        work = event.work
        assert work is not None
        if self._execution(event, at) != 0:
            return Status.PROFILING_INFO_NOT_AVAILABLE, None
        return Status.SUCCESS, protocol.EventProfile(
            queued=work.queued, submit=work.queued, start=work.start, end=work.end
        )

    # -- the worker ---------------------------------------------------------------------------

    def collect(self, message: int) -> None:
        """Wait for all up to `message`, and let the guest see what came of it."""
        self.link.wait(message)
        if self.link.taken < message:
            self.gpu.board.memory.wrote()
            now = self.now()
            for concern, status in self.link.take(message):
                if status != Status.SUCCESS:
                    self._fail(concern, status)
                elif not self.gpu.is_modelled and isinstance(concern, Work):
                    concern.end = now
        for finding in self.link.found.take(message):
            self.gpu.observation.found(self.number, self.label, finding)

    def _fail(self, concern: Concern, status: Status) -> None:
        if isinstance(concern, Work):
            if concern.status is None:
                concern.status = status
                self.latch(*concern.command, status)
        elif concern is not None:
            if status in _NO_MEMORY and isinstance(concern, Buffer | Image):
                status = Status.MEM_OBJECT_ALLOCATION_FAILURE
            concern.failure = status
            self.losses += 1
            self.latch(*concern.command, status)

    def revive(self) -> None:
        """A new worker for a context that lost its own, or had none."""
        self.lost = ""
        if self.link.worker is None:
            try:
                self.link.start(list(self.blobs.values()))
            except WorkerLostError as error:
                self.lose(str(error))

    def lose(self, reason: str) -> None:
        """The worker is no more: what was under way has failed, and what there was is lost."""
        pending = self.link.abandon()
        if self.is_closed:
            return
        if not self.lost:
            self.gpu.board.log(f"{self.gpu.name}: context {self.label} is lost: {reason}")
        self.lost = self.lost or reason
        for thing in self.table.values():
            if not isinstance(thing, Event):
                thing.failure = Status.OUT_OF_RESOURCES
        self.losses += 1
        for concern in pending:
            self._fail(concern, Status.OUT_OF_RESOURCES)
        self._lose_held()

    def _is_ended_by(self, what: str) -> bool:
        """Whether a fault wants the worker ended before a command. Then all before it is done."""
        assert self.gpu.fault is not None
        if not self.gpu.fault("worker", f"a {what} of context {self.number}"):
            return False
        self.link.flush()
        self.link.wait(self.link.message)
        return True

    def _lose_held(self) -> None:
        """Complete what waits, whatever it waits for."""
        while self.held:
            work = next(iter(self.held))
            self._is_held_no_more(work)
            work.status = Status.OUT_OF_RESOURCES
            work.needs = -1
            self.send(work)


_NO_MEMORY = (
    Status.OUT_OF_RESOURCES,
    Status.OUT_OF_HOST_MEMORY,
    Status.MEM_OBJECT_ALLOCATION_FAILURE,
)


def _has_lost_memory(work: Work) -> bool:
    """Whether something that it needs went while it waited."""
    return any(thing.failure for thing in work.objects) or any(
        blob.is_revoked for blob, _, _ in chain(work.inputs, work.outputs)
    )

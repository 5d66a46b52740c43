"""A guest context: its handles, what it enqueued, and the worker that executes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from gpu import protocol
from gpu.answers import answer_bytes, produce
from gpu.blobs import Blob, check_pieces
from gpu.commands import PLANS
from gpu.kernel_commands import changed_arguments
from gpu.link import Concern, Link
from gpu.objects import (
    Buffer,
    ClContext,
    Event,
    Image,
    Kernel,
    Mapping,
    Object,
    Program,
    Queue,
    RefusedError,
)
from gpu.observation import label_of
from gpu.opencl import Status
from gpu.process import WorkerLostError
from gpu.protocol_fields import Kind, Ref
from gpu.work import Operation, Producer, Submission, Work
from hypervisor.device.board import MemoryAccessError

if TYPE_CHECKING:
    from gpu.core import Gpu, Resume

MAX_PIECES = 1 << 14
"""Pieces of guest memory that a worker maps; blobs beyond are copied."""
MAX_BLOBS = 1 << 16

MAX_HELD = 1 << 12
"""Commands of a context that wait for others."""

AT_ONCE = 256
"""Operations of a message to the worker, about."""

_ALWAYS = (protocol.GetError, protocol.Release, protocol.GetEventStatus)
"""Commands that a context without its device can be given."""
_ENQUEUED = (protocol.Enqueue, protocol.Finish)


class Context:
    """Isolated from all others: own handles, own process, own quota."""

    def __init__(self, gpu: Gpu, number: int, label: str) -> None:
        self.gpu = gpu
        self.number = number
        self.label = label
        self.table: dict[int, Object] = {}
        self.blobs: dict[int, Blob] = {}
        self.used = 0
        """Bytes of device memory in use."""
        self.is_closed = False
        self.lost = ""
        """Why the worker is gone, until a new CreateContext."""
        self.commands = 0
        self.latched: protocol.LatchedError | None = None
        self.reading = (0, 0)
        """Number and opcode of the command that is being read."""
        self.submission: Submission | None = None
        """The one whose packets are being read."""
        self.front_end: Callable[[protocol.Command], Status] | None = None
        """Executes the commands that are the front end's own, where it has any."""
        self._known: protocol.Known = {}
        self.numbers = 1
        self.rings: dict[int, deque[Submission]] = {}
        self.held: dict[Work, None] = {}
        """Commands that wait for others, as they were enqueued."""
        self.link = Link(gpu, self.lose)

    # -- what front ends call -----------------------------------------------------------------

    def grant(self, blob: int, pieces: Sequence[tuple[int, int]]) -> Status:
        """Make guest-physical (address, bytes) pieces, whole pages, the blob. The id of a blob
        that is there is refused, as is what is not RAM."""
        memory = self.gpu.board.memory
        try:
            check_pieces(pieces, memory)
        except MemoryAccessError:
            return Status.INVALID_VALUE
        if blob == 0 or blob in self.blobs or not pieces or len(self.blobs) >= MAX_BLOBS:
            return Status.INVALID_VALUE
        mapped = sum(len(b.pieces) for b in self.blobs.values() if not b.has_shadow)
        shadow = (
            self.gpu.options.isolation == "strict"
            or memory.fd < 0
            or mapped + len(pieces) > MAX_PIECES
        )
        size = sum(size for _, size in pieces)
        if shadow and not self.charge(size):
            return Status.MEM_OBJECT_ALLOCATION_FAILURE
        try:
            granted = Blob(self.new_number(), pieces, memory, shadow)
        except OSError:  # the host has no more files or address space for it
            self.used -= size
            self.gpu.used -= size
            return Status.MEM_OBJECT_ALLOCATION_FAILURE
        self.blobs[blob] = granted
        if self.gpu.capture is not None:
            self.gpu.capture.granted(self, blob, pieces)
        if self.link.worker is not None:
            self.link.send_blob(granted)
        return Status.SUCCESS

    def revoke(self, blob: int) -> Status:
        """End a blob: when this returns, the device does not touch its memory any more."""
        granted = self.blobs.pop(blob, None)
        if granted is None:
            return Status.INVALID_VALUE
        granted.is_revoked = True
        if self.gpu.capture is not None:
            self.gpu.capture.revoked(self, blob)
        for thing in self.table.values():
            if isinstance(thing, Buffer | Image) and thing.blob is granted:
                thing.failure = Status.INVALID_MEM_OBJECT
        if self.link.worker is not None:
            self.operate("revoke", granted.number)
            self.link.flush()
            self.link.wait(self.link.message)
        self._let_go(granted)
        return Status.SUCCESS

    def submit(self, ring: int, stream: bytes, signal: Callable[[], None], tag: int = 0) -> None:
        """Execute packets. `signal` is called on the machine's thread when all of the stream and
        what it waits for is complete, in order per ring (0 to 63); an empty stream is a fence
        only. Snapshots carry `tag`, by which a front end finds its `signal` again."""
        if self.is_closed or not 0 <= ring < protocol.RINGS:
            raise ValueError(f"{self.label}: ring {ring} can not be submitted to")
        submission = Submission(ring, tag, self.now(), signal)
        self.submission = submission
        before = self.link.last
        capture = self.gpu.capture
        if capture is not None:
            capture.begin_submission()
        for packet in protocol.decode(stream, self._known):
            self._take(packet, submission)
            if self.link.waiting >= AT_ONCE:  # the worker begins while more is read
                self.link.flush()
        self.submission = None
        if capture is not None:
            capture.submitted(self, submission, stream)
        self.link.flush()
        if self.link.message > before:
            submission.message = self.link.message
        waiting = self.rings.setdefault(ring, deque())
        waiting.append(submission)
        if len(waiting) == 1:
            self.expect(ring)
        if self.gpu.options.timing == "strict" and not submission.unsent:
            self.link.wait(submission.message)

    def close(self) -> None:
        """Give up everything. No signal is called any more."""
        if self.gpu.capture is not None:
            self.gpu.capture.closed(self)
        self.is_closed = True
        self.link.end()
        for thing in self.table.values():
            if isinstance(thing, Program) and thing.build is not None:
                thing.build.close()
        for blob in list(self.blobs.values()):
            self._let_go(blob)
        self.gpu.used -= self.used
        self.used = 0
        self.table.clear()
        self.blobs.clear()
        self.rings.clear()
        self.held.clear()
        self.gpu.forget(self)

    # -- packets ------------------------------------------------------------------------------

    def _take(self, packet: protocol.Packet, submission: Submission) -> None:
        index = self.commands
        self.commands += 1
        self.gpu.commands += 1
        self.reading = (index, packet.opcode)
        place, status, producer = packet.answer, packet.status, None
        command = packet.command
        if place is not None:
            blob = self.blobs.get(place.blob)
            fits = blob is not None and blob.holds(place.offset, place.size)
            if not fits or place.size < protocol.ANSWER_HEADER.size:
                self._latch(index, packet.opcode, Status.INVALID_VALUE)
                return
        if command is not None:
            try:
                producer = self._handle(command)
            except RefusedError as refusal:
                status = refusal.status
        if status != Status.SUCCESS and place is None:
            self._latch(index, packet.opcode, status)
            event = getattr(command, "event", 0) if command is not None else 0
            if isinstance(command, protocol.Enqueue) and event and event not in self.table:
                self._failed_event(event, status)
        if place is not None or (producer is not None and producer[0] == "build"):
            submission.answers.append((place, self.reading, status, producer))

    def _handle(self, command: protocol.Command) -> Producer | None:
        kind = type(command)
        if kind.front_end:
            status = self.front_end(command) if self.front_end else Status.INVALID_OPERATION
            if status != Status.SUCCESS:
                raise RefusedError(status)
            return None
        if kind not in _ALWAYS:
            if self.gpu.limits.reason:
                raise RefusedError(Status.DEVICE_NOT_AVAILABLE)
            if self.lost and kind is not protocol.CreateContext:
                raise RefusedError(Status.OUT_OF_RESOURCES)
        if len(self.held) >= MAX_HELD and issubclass(kind, _ENQUEUED):
            raise RefusedError(Status.OUT_OF_HOST_MEMORY)
        plan, table = PLANS[kind], self.table
        fields = command.__dict__
        found: dict[str, Any] = {}
        for name, ref in plan.one:
            thing = table.get(fields[name])
            if thing is None or thing.failure or thing.kind not in ref.kinds:
                thing = self.find(fields[name], ref)
            found[name] = thing
        for name, ref in plan.several:
            found[name] = [self.find(each, ref) for each in fields[name]]
        for name, role in plan.blobs:
            value = fields[name]
            found[name] = None if value == 0 and role.optional else self._find_blob(value)
        for name, new in plan.new:
            value = fields[name]
            if value or not new.optional:
                self._check_new(value)
        return plan.handler(self, command, found)

    def _check_new(self, value: int) -> None:
        if value == 0 or value in self.table:
            raise RefusedError(Status.INVALID_VALUE)
        if len(self.table) >= protocol.MAX_OBJECTS:
            raise RefusedError(Status.OUT_OF_HOST_MEMORY)

    def find(self, value: int, role: Ref) -> Object | None:
        """The object of an id. RefusedError where it is not of that kind, or of no use."""
        if value == 0 and role.optional:
            return None
        thing = self.table.get(value)
        if thing is None or thing.kind not in role.kinds:
            raise RefusedError(role.status)
        if thing.failure and len(role.kinds) < len(Kind):
            raise RefusedError(thing.failure)
        return thing

    def _find_blob(self, value: int) -> Blob:
        blob = self.blobs.get(value)
        if blob is None:
            raise RefusedError(Status.INVALID_VALUE)
        return blob

    def _latch(self, index: int, opcode: int, status: Status) -> None:
        if self.latched is None or index < self.latched.index:
            self.latched = protocol.LatchedError(index=index, opcode=opcode, error=status)

    def _failed_event(self, event: int, status: Status) -> None:
        work = Work(None)
        work.is_sent, work.status = True, status
        work.queued = work.start = work.end = self.now()
        self.table[event] = Event(self.new_number(), work=work)

    # -- what commands use --------------------------------------------------------------------

    def now(self) -> int:
        return self.gpu.board.clock.now()

    def new_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def add(self, identifier: int, thing: Object, *operation: Any, charge: int = 0) -> None:
        """Give an object its id, and have the worker make it. Without quota RefusedError."""
        fault = self.gpu.fault
        if fault is not None and isinstance(thing, Buffer | Image) and not thing.parents():
            what = f"{thing.kind.label} {identifier} of context {self.number}"
            if fault("allocation", what):
                raise RefusedError(Status.MEM_OBJECT_ALLOCATION_FAILURE)
        if charge and not self.charge(charge):
            raise RefusedError(Status.MEM_OBJECT_ALLOCATION_FAILURE)
        thing.command = self.reading
        self.table[identifier] = thing
        for parent in thing.parents():
            parent.uses += 1
        if operation:
            self.operate(*operation, concerns=thing)

    def release(self, identifier: int) -> None:
        thing = self.table.pop(identifier)
        thing.is_released = True
        self._dispose(thing)

    def retain(self, things: Sequence[Object]) -> None:
        for thing in things:
            thing.uses += 1

    def give_back(self, things: Sequence[Object]) -> None:
        for thing in things:
            thing.uses -= 1
            self._dispose(thing)

    def operate(self, *operation: Any, concerns: Concern = None) -> None:
        """Have the worker do something, after all that was sent before."""
        self.link.operate(operation, concerns)

    def revive(self) -> None:
        """A new worker for a context that lost its own, or had none."""
        self.lost = ""
        if self.link.worker is None:
            try:
                self.link.start(list(self.blobs.values()))
            except WorkerLostError as error:
                self.lose(str(error))

    def charge(self, size: int) -> bool:
        """Take device memory from the quota; False where there is not so much."""
        limit = self.gpu.limits.memory
        if self.used + size > limit or self.gpu.used + size > limit:
            return False
        self.used += size
        self.gpu.used += size
        return True

    def _dispose(self, thing: Object) -> None:
        if thing.uses or not thing.is_released:
            return
        if isinstance(thing, Buffer | Image):
            self.used -= thing.charge
            self.gpu.used -= thing.charge
            thing.charge = 0
        if isinstance(thing, Program) and thing.build is not None:
            thing.build.close()
        if isinstance(thing, Kernel) and thing.program is not None:
            thing.program.kernels -= 1
        if not isinstance(thing, ClContext | Queue | Event | Mapping):
            self.operate("drop", thing.number)
        self.give_back(thing.parents())

    def _let_go(self, blob: Blob) -> None:
        if blob.has_shadow:
            self.used -= blob.size
            self.gpu.used -= blob.size
        blob.close()

    # -- order --------------------------------------------------------------------------------

    def enqueue(self, work: Work, waits: Sequence[Work], event: int = 0) -> None:
        """Put a command into its queue. It is sent when `waits` and what its queue's order puts
        before it have been."""
        queue, submission = work.queue, self.submission
        assert queue is not None
        assert submission is not None
        work.queued = submission.now
        work.submission = submission
        work.command = self.reading
        work.waits = waits
        if event:
            self.table[event] = Event(
                self.new_number(), queue.scope, work=work, is_profiling=queue.is_profiling
            )
        before = queue.tail if queue.is_in_order else queue.barrier
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
            queue.unsent[work] = None
            self.held[work] = None
            work.has_waited = True
            self.retain(work.objects)
        else:
            self._send_one(work)

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
                if work.status is not None and work.status < 0 and self._waits_for(other, work):
                    other.status = Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
                if not other.needs:
                    assert other.queue is not None
                    assert other.queue.unsent is not None
                    del other.queue.unsent[other]
                    del self.held[other]
                    ready.append(other)
            work.dependents = []
            if work.has_waited:
                self.give_back(work.objects)

    @staticmethod
    def _waits_for(work: Work, other: Work) -> bool:
        """Whether it names the other's event, rather than merely following it in its queue."""
        return other.queue is not work.queue or other in work.waits

    def _send_one(self, work: Work) -> None:
        queue, submission, link = work.queue, work.submission, self.link
        reading = self.submission
        start = reading.now if reading is not None else self.now()
        work.is_sent = True
        work.waits = ()
        start = max(start, work.start)
        if work.operation is not None and work.status is None:
            if self.lost:
                work.status = Status.OUT_OF_RESOURCES
            elif work.has_waited and _has_lost_memory(work):
                work.status = Status.INVALID_MEM_OBJECT
            else:
                if work.cost and self.gpu.is_modelled:
                    start, work.end = self.gpu.engine.reserve(start, work.cost, work.priority)
                if self.gpu.capture is not None:
                    self.gpu.capture.uses(work, submission)
                for blob, offset, size in work.inputs:
                    self.gpu.bring_in(blob, offset, size)
                for blob, offset, size in work.outputs:
                    blob.owe(offset, size)
                    if self.gpu.capture is not None:
                        self.gpu.capture.writes(blob, offset, size)
                    if submission is not None:
                        submission.outputs.append((blob, offset, size))
                is_last = self.gpu.fault is not None and self._is_ended_by(label_of(work))
                link.operate(self._operation(work), work)
                if is_last:
                    self.lose("a fault ended its worker")
        work.start = start
        work.end = max(work.end, start)
        self.gpu.observation.sent(work, submission)
        end = work.end
        work.message = link.last
        if queue is not None and end > queue.end:
            queue.end = end
        if submission is not None:
            submission.ready = max(submission.ready, end)
            submission.message = work.message
            submission.unsent -= 1
            if not submission.unsent and submission is not self.submission:
                self._resolved(submission)

    @staticmethod
    def _operation(work: Work) -> Operation:
        operation = work.operation
        assert operation is not None
        if work.arguments is None:
            return operation
        kernel = work.objects[0]
        assert isinstance(kernel, Kernel)
        name, number, _, *sizes = operation
        return (name, number, changed_arguments(kernel, work.arguments), *sizes)

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
            self.link.watch()
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
        for blob, offset, size in submission.outputs:
            self.gpu.copied += blob.copy_out(offset, size)
        for answer in submission.answers:
            self._answer(*answer, at)
        if self.gpu.capture is not None:
            self.gpu.capture.completed(self, submission)
        self.gpu.observation.completed(self.number, submission, at)
        if waiting:
            self.expect(ring)
        submission.signal()

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
            status, answer = produce(self, producer, at)
        if place is None:
            if status != Status.SUCCESS:
                self._latch(*command, status)
            return
        blob = self.blobs.get(place.blob)
        if blob is not None and blob.holds(place.offset, place.size):  # it may be another by now
            data = answer_bytes(place.size, status, answer)
            blob.write(place.offset, data)
            if self.gpu.capture is not None:
                self.gpu.capture.answered(blob, place.offset, data)

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

    def _fail(self, concern: Concern, status: Status) -> None:
        if isinstance(concern, Work):
            if concern.status is None:
                concern.status = status
                self._latch(*concern.command, status)
            if concern.arguments is not None:  # nobody knows which of them it took
                kernel = concern.objects[0]
                assert isinstance(kernel, Kernel)
                kernel.sent = [None] * len(concern.arguments)
        elif concern is not None:
            if status in _NO_MEMORY and isinstance(concern, Buffer | Image):
                status = Status.MEM_OBJECT_ALLOCATION_FAILURE
            concern.failure = status
            self._latch(*concern.command, status)

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
            assert work.queue is not None
            assert work.queue.unsent is not None
            del self.held[work]
            del work.queue.unsent[work]
            work.status = Status.OUT_OF_RESOURCES
            work.needs = -1
            self.send(work)

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Plain data; see gpu.state."""
        from gpu.state import save_context

        return save_context(self)

    def load(self, state: dict[str, Any], resume: Resume) -> None:
        from gpu.state import load_context

        load_context(self, state, resume)


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

"""A guest context, as front ends have it: memory that it is granted, and streams of packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from gpu import protocol
from gpu.core.blobs import Blob, check_pieces
from gpu.core.commands.plans import PLANS
from gpu.core.device import Device
from gpu.core.handles import OBJECT_BYTES
from gpu.core.objects import Buffer, Event, Image, RefusedError
from gpu.core.schedule import MAX_HELD, MAX_PENDING, Schedule
from gpu.core.work import Producer, Submission, Work
from gpu.host.builds import Build
from gpu.opencl import Status
from hypervisor.device.board import MemoryAccessError

MAX_PIECES = 1 << 14
"""Pieces of guest memory that a worker maps; blobs beyond are copied."""
MAX_BLOBS = 1 << 16

_RECORD_BYTES = 256
"""Of an answer that is remembered, what counts as a command."""
AT_ONCE = 256
"""Operations of a message to the worker, about."""


class Context(Schedule):
    """Isolated from all others: own handles, own process, own quota."""

    def __init__(
        self, gpu: Device, number: int, label: str, on_close: Callable[[Context], None]
    ) -> None:
        super().__init__(gpu, number, label)
        self._on_close = on_close
        self.front_end: Callable[[protocol.Command], Status] | None = None
        """Executes the commands that are the front end's own, where it has any."""
        self._known: protocol.Known = {}

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
            self.gpu.capture.granted(self.number, blob, pieces)
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
            self.gpu.capture.revoked(self.number, blob)
        for thing in self.table.values():
            if isinstance(thing, Buffer | Image) and thing.blob is granted:
                thing.failure = Status.INVALID_MEM_OBJECT
        self.losses += 1
        if self.link.worker is not None:
            self.operate("revoke", granted.number)
            self.link.flush()
            self.link.wait(self.link.message)
        self.end_blob(granted)
        return Status.SUCCESS

    def submit(self, ring: int, stream: bytes, signal: Callable[[], None], tag: int = 0) -> None:
        """Execute packets. `signal` is called on the machine's thread when all of the stream and
        what it waits for is complete, in order per ring (0 to 63); an empty stream is a fence
        only. Snapshots carry `tag`, by which a front end finds its `signal` again."""
        if self.is_closed or not 0 <= ring < protocol.RINGS:
            raise ValueError(f"{self.label}: ring {ring} can not be submitted to")
        submission = Submission(ring, tag, self.now(), signal)
        self.submission = submission
        before, first = self.link.last, self.commands
        capture = self.gpu.capture
        if capture is not None:
            capture.begin_submission()
        link = self.link
        for packet in protocol.decode(stream, self._known):
            self._take(packet, submission)
            if link.waiting >= AT_ONCE:  # the worker begins while more is read
                link.flush()
        self.submission = None
        self.gpu.commands += self.commands - first
        if capture is not None:
            capture.submitted(self.number, submission, stream)
        link.flush()
        if link.message > before:
            submission.message = link.message
        submission.weight += self.commands - first
        self.pending += submission.weight
        waiting = self.rings.setdefault(ring, deque())
        waiting.append(submission)
        if len(waiting) == 1:
            self.expect(ring)
        if self.gpu.options.timing == "strict" and not submission.unsent:
            self.link.wait(submission.message)

    def close(self) -> None:
        """Give up everything. No signal is called any more."""
        if self.gpu.capture is not None:
            under_way = chain.from_iterable(self.rings.values())
            self.gpu.capture.closed(self.number, under_way, set(self.blobs.values()))
        self.is_closed = True
        self.link.end()
        for build in self.under_way:
            build.close()
        for blob in list(self.blobs.values()):
            self.end_blob(blob)
        self.gpu.used -= self.used
        self.used = 0
        self.gpu.host_used -= self.host_used
        self.host_used = 0
        self.table.clear()
        self.blobs.clear()
        self.rings.clear()
        self.pending = 0
        self.held.clear()
        self._on_close(self)

    # -- packets ------------------------------------------------------------------------------

    def _take(self, packet: protocol.Packet, submission: Submission) -> None:
        index = self.commands
        self.commands = index + 1
        self.reading = (index, packet.opcode)
        place, status, producer = packet.answer, packet.status, None
        command = packet.command
        if place is not None:
            blob = self.blobs.get(place.blob)
            fits = blob is not None and blob.holds(place.offset, place.size)
            if not fits or place.size < protocol.ANSWER_HEADER.size:
                self.latch(index, packet.opcode, Status.INVALID_VALUE)
                return
        if command is not None:
            try:
                producer = self._handle(command)
                if producer is not None:
                    self._weigh(producer, submission)
            except RefusedError as refusal:
                # What could not be accounted for is not remembered.
                status, producer = refusal.status, None
        if status and place is None:
            self.latch(index, packet.opcode, status)
            if isinstance(command, protocol.Enqueue):
                self._failed_event(command.event, status)
        if place is not None or (producer is not None and producer[0] == "build"):
            submission.answers.append((place, self.reading, status, producer))

    def _weigh(self, producer: Producer, submission: Submission) -> None:
        """Account for what an answer has to remember until it is given."""
        kind, subject = producer
        if kind == "record":
            fields = vars(subject).values()
            more = sum(len(field) for field in fields if isinstance(field, bytes))
            more += sum(8 * len(field) for field in fields if isinstance(field, tuple))
            more //= _RECORD_BYTES
            if submission.weight + self.pending + more > 2 * MAX_PENDING:
                raise RefusedError(Status.OUT_OF_HOST_MEMORY)
            submission.weight += more
        elif isinstance(subject, Build):
            self.keep(subject)

    def _handle(self, command: protocol.Command) -> Producer | None:
        plan = PLANS.get(type(command))
        if plan is None:
            status = self.front_end(command) if self.front_end else Status.INVALID_OPERATION
            if status != Status.SUCCESS:
                raise RefusedError(status)
            return None
        if not plan.is_always:
            if self.gpu.limits.reason:
                raise RefusedError(Status.DEVICE_NOT_AVAILABLE)
            if self.lost and not isinstance(command, protocol.CreateContext):
                raise RefusedError(Status.OUT_OF_RESOURCES)
        if plan.is_enqueued and len(self.held) >= MAX_HELD:
            raise RefusedError(Status.OUT_OF_HOST_MEMORY)
        table, fields = self.table, command.__dict__
        found: dict[str, Any] = {}
        for name, ref in plan.one:
            thing = table.get(fields[name])
            if thing is None or thing.failure or thing.kind not in ref.kinds:
                thing = self.find(fields[name], ref)
            found[name] = thing
        for name, ref in plan.several:
            values = fields[name]
            found[name] = [self.find(each, ref) for each in values] if values else ()
        for name, role in plan.blobs:
            value = fields[name]
            found[name] = None if value == 0 and role.optional else self.find_blob(value)
        made: Sequence[int] = ()
        if plan.new:
            made = [fields[name] for name, new in plan.new if fields[name] or not new.optional]
            for value in made:
                self.check_new(value)
            if made and not self.can_hold(OBJECT_BYTES * len(made)):
                raise RefusedError(Status.OUT_OF_HOST_MEMORY)
        producer = plan.handler(self, command, found)
        for value in made:
            self.count(table[value])
        return producer

    def _failed_event(self, event: int, status: Status) -> None:
        if not event or event in self.table:
            return
        if len(self.table) >= protocol.MAX_OBJECTS or not self.can_hold(OBJECT_BYTES):
            return
        work = Work(None)
        work.is_sent, work.status = True, status
        work.queued = work.start = work.end = self.now()
        self.table[event] = Event(self.new_number(), work=work)
        self.count(self.table[event])

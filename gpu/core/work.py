"""Enqueued commands, and the submissions that wait for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpu.core.blobs import Blob
from gpu.core.objects import Object, Queue
from gpu.opencl import Status
from gpu.protocol import AnswerPlace

_WAIT_BYTES = 16
"""Of each that a command waits for, which has it among its dependents."""
Range = tuple[Blob, int, int]
"""A blob, an offset and a size."""
Operation = tuple[Any, ...]
Producer = tuple[str, Any]
"""What an answer's fields are made of when its time has come: "record" and an Answer, or "event",
"profile", "build", "info", and an object."""


Answer = tuple[AnswerPlace | None, tuple[int, int], Status, Producer | None]
"""Where it goes, number and opcode of its command, and what it says."""


class Work:
    """One enqueued command, or a user event. It is sent to the worker when all it waits for has
    been, in an order that depends on virtual time alone."""

    __slots__ = (
        "arguments",
        "command",
        "cost",
        "dependents",
        "end",
        "has_waited",
        "host",
        "inputs",
        "is_sent",
        "items",
        "message",
        "needs",
        "objects",
        "operation",
        "outputs",
        "priority",
        "queue",
        "queued",
        "sequence",
        "start",
        "status",
        "submission",
        "waits",
    )

    def __init__(
        self,
        queue: Queue | None,
        operation: Operation | None = None,
        cost: int = 0,
        objects: Sequence[Object] = (),
        inputs: Sequence[Range] = (),
        outputs: Sequence[Range] = (),
    ) -> None:
        self.queue = queue
        self.operation = operation
        self.cost = cost
        self.objects = objects
        self.inputs = inputs
        self.outputs = outputs
        self.priority = queue.priority if queue is not None else 0
        self.submission: Submission | None = None
        self.command = (0, 0)
        """Number and opcode of its command."""
        self.needs = 0
        """How many of those that it waits for have not been sent."""
        self.dependents: list[Work] = []
        self.waits: Sequence[Work] = ()
        self.arguments: tuple[Any, ...] | None = None
        """A kernel's arguments as they were when it was enqueued."""
        self.items = 0
        """Work-items of a kernel's run."""
        self.has_waited = False
        """Whether other commands ran between its being enqueued and sent."""
        self.host = 0
        """Bytes of the hypervisor's memory that it holds while it waits."""
        self.is_sent = False
        self.message = 0
        self.sequence = 0
        """Its number among the operations that the worker was sent; 0: it has none."""
        self.queued = 0
        self.start = 0
        self.end = 0
        self.status: int | None = None
        """None until known; an error below 0."""

    @property
    def held_bytes(self) -> int:
        """Of the hypervisor's memory: what it brings to the worker, and what it waits for."""
        size = sum(each.size for each in self.arguments or () if each is not None)
        operation: Operation = self.operation or ()
        size += sum(len(each) for each in operation if isinstance(each, bytes))
        return int(size + _WAIT_BYTES * len(self.waits))

    def drop_payload(self) -> None:
        """The worker has it, and who holds on to an event needs no more of it than its name."""
        if self.arguments is not None:
            self.arguments = ()
        elif self.operation is not None and isinstance(self.operation[-1], bytes):
            self.operation = self.operation[:-1]


class Submission:
    """One stream of packets, and what its fence waits for."""

    __slots__ = (
        "answers",
        "at",
        "in_place",
        "message",
        "now",
        "outputs",
        "ready",
        "ring",
        "saved_at",
        "signal",
        "tag",
        "unsent",
        "weight",
        "works",
    )

    def __init__(self, ring: int, tag: int, now: int, signal: Callable[[], None]) -> None:
        self.ring = ring
        self.tag = tag
        self.now = now
        """When it was submitted."""
        self.signal = signal
        self.ready = now
        """Virtual time at which all that was sent is complete."""
        self.at: int | None = None
        """When it is signalled, once that is known."""
        self.saved_at: int | None = None
        """The same, as a snapshot had it."""
        self.message = 0
        """The last message to the worker that has to do with it."""
        self.unsent = 0
        self.weight = 1
        """What it takes of the commands that may be pending."""
        self.answers: list[Answer] = []
        self.outputs: list[Range] = []
        self.in_place: dict[Range, None] = {}
        """Buffers in guest memory that its kernels work on, while a capture is made."""
        self.works: list[Work] = []
        """What was sent of it, while somebody watches."""


class Engine:
    """The device's time: one command at a time, those of higher priority first."""

    def __init__(self) -> None:
        self.busy = [0, 0, 0]
        """When each priority's next command may start: medium, high, low."""

    def reserve(self, earliest: int, cost: int, priority: int) -> tuple[int, int]:
        """Start and end of a command that may start at `earliest`."""
        busy = self.busy
        start = busy[priority] if busy[priority] > earliest else earliest
        for lower in _AT_MOST[priority]:
            free = busy[lower]
            busy[lower] = (free if free > earliest else earliest) + cost
        return start, start + cost


_AT_MOST = {1: (0, 1, 2), 0: (0, 2), 2: (2,)}
"""The priorities that wait for one of this one."""

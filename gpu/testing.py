"""A guest for tests of the GPU: it submits packets, lets time pass, and looks at its memory.

with GuestBench() as guest:
    guest.do(CreateContext(id=1), CreateQueue(id=2, context=1))
    assert guest.ask(GetError()).error == 0
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, cast

from gpu import protocol
from gpu.core.gpu import Gpu
from gpu.opencl import Status
from gpu.options import GpuOptions
from gpu.protocol import AnswerPlace, Command
from hypervisor.device.board import Board
from hypervisor.device.testing import Bench, BenchMemory

RAM = 0x8000_0000
ANSWERS = 1
"""The blob that answers are written to."""
BULK = 2
"""The blob that tests use for data."""
CONTEXT, QUEUE = 1, 2
"""The ids that `set_up` uses."""
ANSWER_ROOM = 1 << 16


class GuestBench:
    """A board, a GPU and one context with two blobs."""

    def __init__(
        self, memory: int = 16 << 20, shared: bool = True, sharing: str = "auto", **options: Any
    ) -> None:
        self.bench = Bench()
        self.bench.memory = BenchMemory(RAM, memory, shared)
        self.gpu = Gpu("gpu0", GpuOptions(type="test", **options), cast(Board, self.bench), sharing)
        self.bulk_at = ANSWER_ROOM
        self.bulk_size = memory - ANSWER_ROOM
        self.signalled: list[int] = []
        """Tags, in the order in which their submissions completed."""
        self._tag = 0
        self.context = self.new_context("test")

    def new_context(self, label: str) -> Any:
        """Another context on the same memory."""
        context = self.gpu.create_context(label)
        context.grant(ANSWERS, [(RAM, ANSWER_ROOM)])
        context.grant(BULK, [(RAM + self.bulk_at, self.bulk_size)])
        return context

    def __enter__(self) -> GuestBench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.gpu.close()

    def set_up(self, properties: int = 0) -> None:
        """An OpenCL context and a queue, with the ids CONTEXT and QUEUE."""
        self.do(
            protocol.CreateContext(id=CONTEXT),
            protocol.CreateQueue(id=QUEUE, context=CONTEXT, properties=properties),
        )

    def submit(self, *commands: Command, ring: int = 0, context: Any = None) -> int:
        """Submit; the tag that appears in `signalled`."""
        return self.submit_bytes(b"".join(c.encode() for c in commands), ring, context)

    def submit_bytes(self, stream: bytes, ring: int = 0, context: Any = None) -> int:
        self._tag += 1
        tag = self._tag
        (context or self.context).submit(ring, stream, lambda: self.signalled.append(tag), tag)
        return tag

    def do(self, *commands: Command, ring: int = 0) -> None:
        """Submit, wait for the fence, and insist that no command failed."""
        tag = self.submit(*commands, ring=ring)
        self.wait(tag)
        error = self.ask(protocol.GetError())
        assert error.error == 0, f"{Status(error.error).name} of command {error.index}"

    def wait(self, tag: int, nanoseconds: int = 1 << 50) -> None:
        """Let time pass until a submission is complete."""
        self.bench.clock.advance(nanoseconds)
        assert tag in self.signalled, "the submission does not complete"

    def ask(self, command: Command, ring: int = 63, context: Any = None) -> Any:
        """Submit one command and return its answer; AssertionError where it has an error."""
        status, answer = self.try_(command, ring, context)
        assert status == 0, f"{command.name}: {Status(status).name}"
        return answer

    def try_(self, command: Command, ring: int = 63, context: Any = None) -> tuple[int, Any]:
        """Submit one command; its status and, where that is SUCCESS, its answer."""
        place = AnswerPlace(ANSWERS, 0, ANSWER_ROOM)
        self.wait(self.submit_bytes(command.encode(place), ring, context))
        status, size = protocol.ANSWER_HEADER.unpack(self.bench.memory.read(RAM, 8))
        body = self.bench.memory.read(RAM + 8, size)
        if status or not command.answer_type.layout.fields:
            return status, None
        return status, command.answer_type.unpack(body, 0, size)

    def status_of(self, command: Command, ring: int = 63) -> int:
        """The error that a command is refused with, or 0."""
        return self.try_(command, ring)[0]

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the blob BULK."""
        self.bench.memory.write(RAM + self.bulk_at + offset, data)

    def read(self, offset: int, size: int) -> bytes:
        return self.bench.memory.read(RAM + self.bulk_at + offset, size)

    def program(self, identifier: int, source: str, options: bytes = b"") -> None:
        """Make and build a program."""
        self.do(
            protocol.CreateProgram(id=identifier, context=CONTEXT, source=source.encode()),
            protocol.BuildProgram(program=identifier, options=options),
        )

"""Does a capture again, without the guest: the same commands on the same memory, at the same
virtual times; and compares what the device writes.

with CaptureReader(Path("run.gpu")) as capture:
    result = replay(capture)
assert not result.differences
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from gpu import protocol
from gpu.capture_file import CaptureError, CaptureReader, Record
from gpu.core.capture import Capture
from gpu.core.context import Context
from gpu.core.gpu import Gpu
from gpu.core.observation import KernelFigures
from gpu.opencl import Status
from gpu.options import GpuOptions, OpenClOptions
from hypervisor.device.board import Board, MemoryAccessError
from hypervisor.device.testing import Bench, BenchMemory

LATEST = 60.0
"""Host seconds that a completion may take where it has no virtual time (timing: host)."""
MAX_RAM = 1 << 40

Sources = Mapping[tuple[int, int], bytes]
"""Source code to use instead, by context and program id."""


@dataclass(frozen=True)
class Difference:
    """Where a replay was not as the capture says."""

    context: int
    tag: int
    what: str

    def __str__(self) -> str:
        return f"context {self.context}, submission {self.tag}: {self.what}"


@dataclass
class Result:
    """What a replay came to. `host_seconds` are of the whole."""

    submissions: int = 0
    completions: int = 0
    output_bytes: int = 0
    host_seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    kernels: dict[str, KernelFigures] = field(default_factory=dict)
    mistakes: dict[tuple[str, str], int] = field(default_factory=dict)
    """What a runtime that checks kernels found: kernel and mistake, and how often."""
    messages: list[str] = field(default_factory=list)


def replay(
    capture: CaptureReader,
    opencl: Mapping[str, Any] | None = None,
    sources: Sources | None = None,
) -> Result:
    """Do a capture again. `opencl`: another platform or device than the captured run's.

    Raises CaptureError where the file is damaged, or the host has no device for it.
    """
    begun = time.perf_counter()
    options = _options(capture.header, opencl or {})
    base, size = capture.header["memory"]
    if not 0 < size <= MAX_RAM:
        raise CaptureError(f"the capture is of a machine with {size} bytes of RAM")
    bench = Bench()
    bench.memory = BenchMemory(base, size, shared=True)
    bench.clock.advance(capture.header["start"])
    gpu = Gpu(capture.header["name"], options, cast(Board, bench))
    try:
        if gpu.limits.reason:
            raise CaptureError(f"it cannot be done again here: {gpu.limits.reason}")
        player = _Player(gpu, bench, sources or {})
        for record in capture.records():
            player.take(record)
        result = player.result
        result.kernels = dict(gpu.observation.kernels)
        result.mistakes = dict(gpu.observation.mistakes)
        result.messages = list(bench.messages)
    finally:
        gpu.close()
    result.host_seconds = time.perf_counter() - begun
    return result


def _options(header: dict[str, Any], opencl: Mapping[str, Any]) -> GpuOptions:
    try:
        names = GpuOptions.model_fields.keys() - {"capture"}
        saved = {name: header["options"][name] for name in names}
        saved["opencl"] = OpenClOptions(**{**saved["opencl"], **opencl})
        return GpuOptions(**saved)
    except (KeyError, ValueError, TypeError) as error:
        raise CaptureError(f"the capture's options are not this version's: {error}") from None


class _Player:
    """Takes one record after the other."""

    def __init__(self, gpu: Gpu, bench: Bench, sources: Sources) -> None:
        self._gpu = gpu
        self._bench = bench
        self._sources = sources
        self._contexts: dict[int, Context] = {}
        self._done: deque[Record] = deque()
        self.result = Result()
        gpu.capture = Capture(gpu.board, self._written)

    def _written(self, record: Record) -> None:
        """What the replay itself would be captured as."""
        if record[0] == "done":
            self._done.append(record)

    def take(self, record: Record) -> None:
        kind, at, *fields = record
        actions: dict[str, Callable[..., object]] = {
            "context": self._context,
            "close": lambda number: self._contexts.pop(number).close(),
            "grant": self._grant,
            "revoke": lambda number, blob: self._contexts[number].revoke(blob),
            "memory": self._memory,
            "submit": self._submit,
            "done": self._compare,
            "reset": self._reset,
        }
        try:
            wait = at - self._bench.clock.now()
            if wait > 0 or kind == "done":
                self._bench.clock.advance(max(wait, 0))
            actions[kind](*fields)
        except (KeyError, TypeError, ValueError, MemoryAccessError) as error:
            raise CaptureError(f"the capture is damaged: {error!r} at a {kind}") from None

    def _context(self, number: int, label: str) -> None:
        context = self._gpu.create_context(label)
        context.front_end = self._front_end(context)
        self._contexts[number] = context

    @staticmethod
    def _front_end(context: Context) -> Callable[[protocol.Command], Status]:
        """The ring's own commands: grants are done, pictures have nobody to see them."""

        def execute(command: protocol.Command) -> Status:
            if isinstance(command, protocol.GrantMemory):
                pieces = list(zip(command.ranges[::2], command.ranges[1::2], strict=False))
                return context.grant(command.blob, pieces)
            if isinstance(command, protocol.RevokeMemory):
                return context.revoke(command.blob)
            return Status.SUCCESS

        return execute

    def _grant(self, number: int, blob: int, pieces: list[list[int]]) -> None:
        self._contexts[number].grant(blob, [(address, size) for address, size in pieces])

    def _memory(self, parts: list[list[Any]]) -> None:
        for address, data in parts:
            self._bench.memory.write(address, data)

    def _submit(self, number: int, ring: int, tag: int, stream: bytes) -> None:
        self.result.submissions += 1
        if self._sources:
            stream = _with_sources(stream, number, self._sources)
        self._contexts[number].submit(ring, stream, _nobody_waits, tag)

    def _compare(self, number: int, ring: int, tag: int, written: list[list[Any]]) -> None:
        """A submission was complete by now: so it must be here, and have written the same."""
        end = time.monotonic() + LATEST
        while not self._done and not self._gpu.is_modelled and time.monotonic() < end:
            self._bench.run_posted()
            self._bench.clock.advance(1)
            time.sleep(0.0005)
        self.result.completions += 1
        if not self._done:
            self._differs(number, tag, "it is not complete when it was")
            return
        _, _, here_number, here_ring, here_tag, here_written = self._done.popleft()
        if (here_number, here_ring, here_tag) != (number, ring, tag):
            self._differs(number, tag, f"submission {here_tag} is complete before it")
            return
        self.result.output_bytes += sum(size for _, size, _ in written)
        if [part[:2] for part in written] != [part[:2] for part in here_written]:
            self._differs(number, tag, "it writes other places")
            return
        for (address, size, digest), (_, _, here) in zip(written, here_written, strict=True):
            if digest != here:
                self._differs(number, tag, f"{size} bytes at {address:#x} are not what they were")

    def _reset(self) -> None:
        self._contexts.clear()
        self._done.clear()
        self._gpu.reset()

    def _differs(self, number: int, tag: int, what: str) -> None:
        self.result.differences.append(Difference(number, tag, what))


def _with_sources(stream: bytes, number: int, sources: Sources) -> bytes:
    """A stream with the source code of some programs replaced."""
    parts = []
    for packet in protocol.decode(stream):
        command = packet.command
        part = stream[packet.start : packet.end]
        if isinstance(command, protocol.CreateProgram) and (number, command.id) in sources:
            command.source = sources[number, command.id]
            part = command.encode(packet.answer)
        parts.append(part)
    return b"".join(parts)


def _nobody_waits() -> None:
    """The guest is not there."""

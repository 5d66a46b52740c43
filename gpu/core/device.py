"""What all contexts of a GPU share: the host's device, its memory and its time."""

from __future__ import annotations

import heapq
import os
from typing import Protocol

from gpu.core.blobs import Blob
from gpu.core.capture import Capture, CaptureToFile
from gpu.core.information import DeviceLimits
from gpu.core.observation import Observation
from gpu.core.work import Engine
from gpu.host.builds import Builds
from gpu.host.process import Workers
from gpu.host.watch import Watch
from gpu.options import GpuOptions
from hypervisor.device import BackendError, GpuHook
from hypervisor.device.board import Board


class Waiting(Protocol):
    """A context whose submissions become complete."""

    is_closed: bool

    def complete(self, ring: int, at: int) -> None:
        """The time of a ring's first submission has come."""

    def look(self) -> None:
        """What the host has done by now is complete."""


MAX_UNBUILT = 64
"""Lost builds that the log has lines of."""


class Device:
    """Contexts take from it, and tell it when their submissions will be complete."""

    def __init__(self, name: str, options: GpuOptions, board: Board, sharing: str = "auto") -> None:
        self.name = name
        self.options = options
        self.board = board
        self.workers = Workers(options.opencl, sharing)
        self.builds = Builds(self.workers)
        self.engine = Engine()
        self.used = 0
        """Bytes of device memory in use."""
        self.host_used = 0
        """Bytes of the hypervisor's own memory that contexts have it hold."""
        self.bounced_bytes = 0
        """Bytes copied because the device does not reach the guest memory that a command names: on
        their way to it and back. What guests ask to be copied is not among them."""
        self.commands = 0
        self.is_modelled = options.timing != "host"
        """Whether completions have virtual times of the model's, or come when the host is done."""
        self.observation = Observation(name, board)
        self.fault: GpuHook | None = None
        """Asked before what may go wrong on purpose."""
        self._unbuilt = 0
        """Builds that were lost."""
        self.has_slow_groups = False
        """Whether it was said that a program could not be compiled for its work-groups."""
        self.capture: Capture | None = None
        if options.capture is not None:
            path = board.path(options.capture)
            if not os.access(os.path.dirname(path) or ".", os.W_OK):
                raise BackendError(f"{name}: the capture {path} cannot be written")
            self.capture = CaptureToFile(name, options, board, path)
        self._limits: DeviceLimits | None = None
        self._watch: Watch | None = None
        self._watched: dict[int, Waiting] = {}
        self._due: list[tuple[int, int, Waiting, int]] = []
        self._order = 0
        self._timer = board.clock.timer(f"{name}.fences", self._complete)

    @property
    def limits(self) -> DeviceLimits:
        """What the device can do. Waits for a worker to find out, the first time."""
        if self._limits is None:
            self._limits = self._find_limits()
        return self._limits

    def _find_limits(self) -> DeviceLimits:
        limits = DeviceLimits(self.workers.describe(), self.options.opencl.memory)
        if limits.reason:
            self.board.log(f"{self.name}: {limits.reason}: no guest can compute")
        if limits.missing:
            missing = ", ".join(limits.missing)
            self.board.log(f"{self.name}: the worker's sandbox is without: {missing}")
        return limits

    def say_lost_build(self, label: str, what: str) -> None:
        """A build of a context was lost: a line in the log says so. A guest can have as many as it
        likes, but not as many lines."""
        self._unbuilt += 1
        if self._unbuilt <= MAX_UNBUILT:
            self.board.log(f"{self.name}: context {label}: {what}")
        elif self._unbuilt == MAX_UNBUILT + 1:
            self.board.log(f"{self.name}: more programs were not built than are told here")

    @property
    def is_absent(self) -> bool:
        """Whether it is known that the host has no device."""
        return self._limits is not None and bool(self._limits.reason)

    def bring_in(self, blob: Blob, offset: int, size: int) -> None:
        """Guest memory is read as OpenCL has it: a worker that does not see it gets it now."""
        self.bounced_bytes += blob.copy_in(offset, size)
        if self.capture is not None:
            self.capture.reads(blob, offset, size)

    def restart(self) -> None:
        """Nothing is due any more, and time begins anew."""
        self._due.clear()
        self._timer.cancel()
        self.engine = Engine()
        if self.capture is not None:
            self.capture.reset()

    def close(self) -> None:
        if isinstance(self.capture, CaptureToFile):
            self.capture.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.workers.close()

    # -- completions --------------------------------------------------------------------------

    def expect(self, at: int, context: Waiting, ring: int) -> None:
        """The first submission of a ring is complete at virtual time `at`."""
        self._order += 1
        heapq.heappush(self._due, (at, self._order, context, ring))
        self._arm()

    def round_up(self, at: int) -> int:
        """When a completion at virtual time `at` is signalled."""
        window = self.options.coalesce
        return at if not window else -(-at // window) * window

    def _arm(self) -> None:
        if self._due and (self._timer.deadline is None or self._timer.deadline > self._due[0][0]):
            self._timer.arm(self._due[0][0])

    def _complete(self) -> None:
        try:
            while self._due and self._due[0][0] <= self.board.clock.now():
                at, _, context, ring = heapq.heappop(self._due)
                if not context.is_closed:
                    context.complete(ring, at)
        finally:
            self._arm()

    # -- timing `host` ------------------------------------------------------------------------

    def watch(self, fd: int, context: Waiting) -> None:
        """Have a context look when its worker's socket has something to read."""
        if self._watch is None:
            self._watch = Watch(lambda _: self.board.post(self._look))
        self._watched[fd] = context
        self._watch.add(fd)

    def unwatch(self, fd: int) -> None:
        self._watched.pop(fd, None)
        if self._watch is not None:
            self._watch.forget(fd)

    def _look(self) -> None:
        for context in list(self._watched.values()):
            context.look()

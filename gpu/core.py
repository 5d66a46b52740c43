"""The virtual GPU behind every front end: contexts, their order in virtual time, and its state."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from typing import Any

from gpu.blobs import Blob
from gpu.builds import Builds
from gpu.capture import Capture, CaptureToFile
from gpu.context import Context
from gpu.information import DeviceLimits, capset
from gpu.observation import Observation
from gpu.options import GpuOptions
from gpu.process import Workers
from gpu.watch import Watch
from gpu.work import Engine
from hypervisor.device import BackendError, GpuHook
from hypervisor.device.board import Board

Resume = Callable[[Context, int, int], Callable[[], None]]
"""The `signal` of a submission that a snapshot carried, by its context, ring and tag."""


_SHOWN_KERNELS = 8


class Gpu:
    """One device. A front end owns it, and calls everything on the machine's thread."""

    def __init__(self, name: str, options: GpuOptions, board: Board, sharing: str = "auto") -> None:
        self.name = name
        self.options = options
        self.board = board
        self.workers = Workers(options.opencl, sharing)
        self.builds = Builds(self.workers)
        self.engine = Engine()
        self.contexts: dict[int, Context] = {}
        self.used = 0
        """Bytes of device memory in use."""
        self.copied = 0
        """Bytes copied only to bring guest memory to the device or back."""
        self.commands = 0
        self._next = 1
        self._due: list[tuple[int, int, Context, int]] = []
        self._order = 0
        self._timer = board.clock.timer(f"{name}.fences", self._complete)
        self._limits: DeviceLimits | None = None
        self._capset = b""
        self.is_modelled = options.timing != "host"
        """Whether completions have virtual times of the model's, or come when the host is done."""
        self._watch: Watch | None = None
        self.observation = Observation(name, board)
        self.fault: GpuHook | None = None
        """Asked before what may go wrong on purpose."""
        self.capture: Capture | None = None
        if options.capture is not None:
            path = board.path(options.capture)
            if not os.access(os.path.dirname(path) or ".", os.W_OK):
                raise BackendError(f"{name}: the capture {path} cannot be written")
            self.capture = CaptureToFile(self, path)

    @property
    def limits(self) -> DeviceLimits:
        """What the device can do. Waits for a worker to find out, the first time."""
        if self._limits is None:
            self._limits = DeviceLimits(self.workers.describe(), self.options.opencl.memory)
            if self._limits.reason:
                self.board.log(f"{self.name}: {self._limits.reason}: no guest can compute")
            if self._limits.missing:
                missing = ", ".join(self._limits.missing)
                self.board.log(f"{self.name}: the worker's sandbox is without: {missing}")
        return self._limits

    @property
    def is_absent(self) -> bool:
        """Whether it is known that the host has no device."""
        return self._limits is not None and bool(self._limits.reason)

    def capset(self) -> bytes:
        """The packed protocol.Capset."""
        if not self._capset:
            self._capset = capset(self.limits)
        return self._capset

    def create_context(self, label: str) -> Context:
        """A context of its own process, memory and handles."""
        context = Context(self, self._next, label)
        self.contexts[self._next] = context
        self._next += 1
        if self.capture is not None:
            self.capture.created(context)
        return context

    def bring_in(self, blob: Blob, offset: int, size: int) -> None:
        """Guest memory is read as OpenCL has it: a worker that does not see it gets it now."""
        self.copied += blob.copy_in(offset, size)
        if self.capture is not None:
            self.capture.reads(blob, offset, size)

    def describe(self) -> list[str]:
        """For a monitor: contexts, what is in flight, and the kernels that took most time."""
        lines = [f"contexts: {len(self.contexts)}, commands so far: {self.commands}"]
        for number, context in self.contexts.items():
            waiting = sum(map(len, context.rings.values()))
            lines.append(f"context {number} ({context.label}): {waiting} submissions in flight")
        kernels = sorted(self.observation.kernels.items(), key=lambda each: -each[1].time)
        for name, each in kernels[:_SHOWN_KERNELS]:
            lines.append(
                f"kernel {name}: {each.runs} runs of {each.items} work-items, {each.time} ns"
            )
        return lines

    def forget(self, context: Context) -> None:
        self.contexts.pop(context.number, None)

    def reset(self) -> None:
        """Power-on: no context is left."""
        for context in list(self.contexts.values()):
            context.close()
        self._due.clear()
        self._timer.cancel()
        self.engine = Engine()
        self._next = 1
        if self.capture is not None:
            self.capture.reset()

    def close(self) -> None:
        self.reset()
        if isinstance(self.capture, CaptureToFile):
            self.capture.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.workers.close()

    # -- completions --------------------------------------------------------------------------

    def expect(self, at: int, context: Context, ring: int) -> None:
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

    def watch(self, fd: int) -> None:
        """Look at the contexts when a worker's socket has something to read."""
        if self._watch is None:
            self._watch = Watch(lambda _: self.board.post(self._look))
        self._watch.add(fd)

    def unwatch(self, fd: int) -> None:
        if self._watch is not None:
            self._watch.forget(fd)

    def _look(self) -> None:
        for context in list(self.contexts.values()):
            context.look()

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Plain data. What is in flight is finished at the host, and in the snapshot with its
        outcome; the guest is told when it would have been."""
        return {
            "engine": list(self.engine.busy),
            "next": self._next,
            "contexts": [context.save() for context in self.contexts.values()],
        }

    def load(self, state: dict[str, Any], resume: Resume) -> None:
        if isinstance(self.capture, CaptureToFile) and state["contexts"]:
            self.capture.stop("a capture has no snapshot's contexts, so it ends here")
        self.reset()
        self.engine.busy = [int(at) for at in state["engine"]]
        for saved in state["contexts"]:
            context = Context(self, saved["number"], saved["label"])
            self.contexts[context.number] = context
            context.load(saved, resume)
        self._next = int(state["next"])

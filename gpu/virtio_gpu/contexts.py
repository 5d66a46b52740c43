"""Rendering contexts of virtio-gpu, each over one context of the GPU's core.

A driver also makes contexts without a capability set (every open file, on older kernels): they are
known by number, and have nothing behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from gpu.opencl import Status
from gpu.protocol import CAPSET, MAX_STREAM, RINGS
from gpu.virtio_gpu.protocol import CAPSET_MASK, CommandError, Response
from gpu.virtio_gpu.resources import PAGE, Blob, Resource
from hypervisor.device import GpuHook

MAX_CONTEXTS = 64
"""Each has processes and files of the host's."""


class CoreContext(Protocol):
    """A context of the core (see gpu.core)."""

    @property
    def number(self) -> int: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def is_stuck(self) -> bool: ...
    def grant(self, blob: int, pieces: Sequence[tuple[int, int]]) -> Status: ...
    def revoke(self, blob: int) -> Status: ...
    def submit(
        self, ring: int, stream: bytes, signal: Callable[[], None], tag: int = 0
    ) -> None: ...
    def close(self) -> None: ...


Resume = Callable[[Any, int, int], Callable[[], None]]
"""The signal of a submission that a snapshot carried, by its core context, ring and tag."""


class Core(Protocol):
    """What computes (see gpu.core)."""

    fault: GpuHook | None

    @property
    def contexts(self) -> Mapping[int, CoreContext]: ...
    def capset(self) -> bytes: ...
    def create_context(self, label: str) -> CoreContext: ...
    def describe(self) -> list[str]: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...
    def save(self) -> dict[str, Any]: ...
    def check(self, state: dict[str, Any]) -> None: ...
    def load(self, state: dict[str, Any], resume: Resume) -> None: ...


class RenderContext:
    """A context of the driver's: its core context, if it has one, and what is attached to it."""

    def __init__(self, number: int, label: str, core: CoreContext | None) -> None:
        self.number = number
        self.label = label
        self.core = core
        self.attached: dict[int, None] = {}


class Contexts:
    """All contexts of the device by their numbers. Without a core only those that do nothing."""

    def __init__(self, core: Core | None) -> None:
        self._core = core
        self._table: dict[int, RenderContext] = {}

    def clear(self) -> None:
        """Forget all: the core was reset."""
        self._table.clear()

    def is_full(self, number: int) -> bool:
        """Whether a context takes no more until some of what it has is complete, as some will be.
        One that is not there does not."""
        context = self._table.get(number)
        core = context.core if context is not None else None
        return core is not None and core.is_full and not core.is_stuck

    def have(self, numbers: Iterable[int], resource: int) -> bool:
        """Whether a resource is attached to one of some contexts."""
        contexts = (self._table.get(number) for number in numbers)
        return any(context is not None and resource in context.attached for context in contexts)

    def get(self, number: int) -> RenderContext:
        context = self._table.get(number)
        if context is None:
            raise CommandError(Response.ERR_INVALID_CONTEXT_ID, f"there is no context {number}")
        return context

    def create(self, number: int, context_init: int, label: bytes) -> None:
        if not number or number in self._table:
            raise CommandError(
                Response.ERR_INVALID_CONTEXT_ID, f"the context number {number} is not free"
            )
        if len(self._table) >= MAX_CONTEXTS:
            raise CommandError(
                Response.ERR_OUT_OF_MEMORY, f"there are {MAX_CONTEXTS} contexts already"
            )
        capset = context_init & CAPSET_MASK
        text = label.rstrip(b"\0").decode("utf-8", "replace")
        name = "".join(c if c.isprintable() else "?" for c in text)  # it goes to the host's log
        core = None
        if capset:
            if capset != CAPSET or self._core is None:
                raise CommandError(
                    Response.ERR_INVALID_PARAMETER, f"there is no capability set {capset}"
                )
            core = self._core.create_context(name)
        self._table[number] = RenderContext(number, name, core)

    def destroy(self, number: int) -> None:
        context = self.get(number)
        del self._table[number]
        if context.core is not None:
            context.core.close()

    def attach(self, number: int, resource: Resource) -> None:
        """Let a context use a resource. A blob's memory is granted; a picture is only noted."""
        context = self.get(number)
        if resource.number in context.attached:
            return
        if isinstance(resource, Blob) and context.core is not None:
            status = context.core.grant(resource.number, _pages(resource))
            if status != Status.SUCCESS:
                raise CommandError(
                    Response.ERR_OUT_OF_MEMORY
                    if status == Status.MEM_OBJECT_ALLOCATION_FAILURE
                    else Response.ERR_INVALID_PARAMETER,
                    f"blob {resource.number} was not granted to context {number}: {status.name}",
                )
        context.attached[resource.number] = None

    def detach(self, number: int, resource: Resource) -> None:
        self._detach(self.get(number), resource)

    def forget(self, resource: Resource) -> None:
        """A resource goes: no context may use it any more."""
        for context in self._table.values():
            self._detach(context, resource)

    def timeline(self, number: int, ring: int) -> CoreContext:
        """The core context that has a timeline. CommandError where there is none."""
        context = self.get(number)
        if context.core is None:
            raise CommandError(
                Response.ERR_INVALID_CONTEXT_ID, f"context {number} has no capability set"
            )
        if ring >= RINGS:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER, f"ring {ring} is not one of a context's {RINGS}"
            )
        return context.core

    def ring(self, number: int, ring: int) -> CoreContext:
        """The core context to submit to. CommandError where that is not possible."""
        core = self.timeline(number, ring)
        if core.is_full and core.is_stuck:
            raise CommandError(
                Response.ERR_OUT_OF_MEMORY,
                f"all that context {number} was given waits for user events, and it takes no more",
            )
        return core

    def _detach(self, context: RenderContext, resource: Resource) -> None:
        if resource.number in context.attached:
            del context.attached[resource.number]
            if isinstance(resource, Blob) and context.core is not None:
                context.core.revoke(resource.number)

    def save(self) -> list[dict[str, Any]]:
        return [
            {
                "number": context.number,
                "label": context.label,
                "core": None if context.core is None else context.core.number,
                "attached": list(context.attached),
            }
            for context in self._table.values()
        ]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Take `save`'s data. The core is loaded before. ValueError where it cannot be right."""
        self.clear()
        for state in states:
            core = None
            if state["core"] is not None:
                core = self._core.contexts.get(state["core"]) if self._core is not None else None
                if core is None:
                    raise ValueError("the snapshot has a GPU context with nothing behind it")
            context = RenderContext(int(state["number"]), str(state["label"]), core)
            context.attached = dict.fromkeys(state["attached"])
            self._table[context.number] = context


def check_stream(size: int, given: int) -> None:
    """Whether a submission that says `size` and brings `given` bytes can be taken."""
    if size > MAX_STREAM or size > given:
        raise CommandError(
            Response.ERR_INVALID_PARAMETER,
            f"a submission of {size} bytes brings {given}; it may have {MAX_STREAM}",
        )


def _pages(blob: Blob) -> Sequence[tuple[int, int]]:
    """The pieces of a blob, which must be whole pages to be mapped elsewhere."""
    pieces = blob.backing.pieces if blob.backing is not None else ()
    if any(address % PAGE or size % PAGE for address, size in pieces):
        raise CommandError(
            Response.ERR_INVALID_PARAMETER, f"blob {blob.number} is not of whole pages"
        )
    return pieces

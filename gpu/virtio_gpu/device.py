"""Virtio GPU: a display for an operating system's stock driver, and its way to the GPU's core.

Follows VIRTIO 1.2, section 5.7, "GPU Device". Our OpenCL command set is capability set 30; blobs
are guest memory. There is no host-visible memory window.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import Field

from gpu.core.gpu import Gpu
from gpu.display.options import DisplayOptions, serve
from gpu.display.scanout import Scanout
from gpu.options import GpuOptions
from gpu.protocol import CAPSET, VERSION
from gpu.virtio_gpu import display
from gpu.virtio_gpu.contexts import Contexts, Core, check_stream
from gpu.virtio_gpu.display import DONE, Answer
from gpu.virtio_gpu.fences import Fence, Fences
from gpu.virtio_gpu.moderation import Moderation
from gpu.virtio_gpu.parked import Parked
from gpu.virtio_gpu.protocol import (
    BLOB_MEM_GUEST,
    CAPSET_INFO,
    EVENT_DISPLAY,
    F_CONTEXT_INIT,
    F_EDID,
    F_RESOURCE_BLOB,
    F_VIRGL,
    FLAG_FENCE,
    FLAG_INFO_RING_IDX,
    HEADER,
    LAYOUTS,
    MEMORY_ENTRY,
    Command,
    CommandError,
    Header,
    Response,
)
from gpu.virtio_gpu.resources import Resource, Resources
from hypervisor.device import Board, Duration, GpuHook, Register
from hypervisor.device.virtio import CONFIG, Chain, VirtioDevice

_CONTROL, _CURSOR = 0, 1
_MAX_ENTRY_BYTES = (1 << 16) * MEMORY_ENTRY.size


class VirtioGpuOptions(GpuOptions):
    compute: bool = Field(default=True, description="false: a display alone, without OpenCL")
    display: DisplayOptions = Field(default=DisplayOptions(), description="the display")
    moderation: Duration = Field(
        default=200_000,
        description="interrupts for submissions and fences have so much time between them",
    )


def open_core(name: str, options: VirtioGpuOptions, board: Board) -> Core | None:
    """What computes for this device; None: it is a display alone."""
    return Gpu(name, options, board) if options.compute else None


class Request:
    """One request of the driver: its header, and the chain that it came in."""

    __slots__ = ("chain", "header", "tail")

    def __init__(self, chain: Chain, header: Header, tail: int) -> None:
        self.chain = chain
        self.header = header
        self.tail = tail
        """Where what follows the fixed fields begins."""

    def rest(self, size: int) -> bytes:
        return self.chain.read(self.tail, size)


class VirtioGpu(VirtioDevice):
    """A GPU with one display."""

    Options = VirtioGpuOptions
    type = "virtio.gpu"
    fault_points = frozenset({"commands"})
    summary = "virtio GPU with a display"
    device_id = 16
    queue_names = ("controlq", "cursorq")

    events_read = Register(CONFIG + 0x0, access="ro", fields={"DISPLAY": 0}, doc="what changed")
    events_clear = Register(CONFIG + 0x4, access="wo", writable=0, doc="events_read bits to clear")
    num_scanouts = Register(CONFIG + 0x8, reset=1, access="ro", doc="displays")
    num_capsets = Register(CONFIG + 0xC, access="ro", doc="capability sets")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        wanted = options.display
        self.core = open_core(name, options, board)
        self.features = F_EDID
        if self.core is not None:
            self.features |= F_VIRGL | F_RESOURCE_BLOB | F_CONTEXT_INIT
        self.scanout = Scanout(wanted.width, wanted.height)
        self.resources = Resources(board.memory, wanted.memory)
        self.display = display.Display(self.scanout, self.resources)
        self.contexts = Contexts(self.core)
        self.fences = Fences(self._complete)
        self._moderation = Moderation(self, options.moderation, self.tell_used)
        self._parked = Parked(self.contexts)
        self.vnc = serve(name, board, wanted, self.scanout)
        board.seat.screens.append(self.resize)
        self.live = self.vnc is not None or (options.compute and options.timing == "host")

    def reset(self) -> None:
        super().reset()
        if self.core is not None:
            self.core.reset()
        self._forget()

    def on_queue_reset(self, index: int) -> None:
        self.fences.forget(self.queues[index])
        self._parked.forget(self.queues[index])

    def describe(self) -> list[str]:
        return [] if self.core is None else self.core.describe()

    def close(self) -> None:
        if self.vnc is not None:
            self.vnc.close()
        if self.core is not None:
            self.core.close()

    @property
    def command_fault(self) -> GpuHook | None:
        """What may make commands go wrong on purpose."""
        return self.core.fault if self.core is not None else None

    @command_fault.setter
    def command_fault(self, hook: GpuHook | None) -> None:
        if self.core is not None:
            self.core.fault = hook

    def screenshot(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """What the display shows, as a PNG file; written to `path` where one is given."""
        return self.scanout.screenshot(path)

    def resize(self, width: int, height: int) -> None:
        """Give the display another size, as one drags a window: the driver is told, and follows
        if it likes."""
        self.display.resize(width, height)
        self.events_read |= EVENT_DISPLAY
        self.config_changed()

    # -- requests -----------------------------------------------------------------------------

    def on_queue(self, index: int) -> None:
        for chain in self.chains(index):
            header = chain.read(0, HEADER.size)
            if len(header) < HEADER.size:
                self.fail(index, "has a request without a header")
                return
            self._offer(chain, Header(*HEADER.unpack(header)))

    def _offer(self, chain: Chain, header: Header) -> None:
        """Take a request now, or when the context that it is for has room for more."""
        if not self._parked.keep(chain, header):
            self._take(chain, header)

    def _take(self, chain: Chain, header: Header) -> None:
        stream: bytes | None = None
        payload = b""
        response = Response.OK_NODATA
        try:
            command, request, fields = self._parse(chain, header)
            if command == Command.SUBMIT_3D:
                check_stream(fields[0], chain.read_size - request.tail)
                self.contexts.ring(header.ctx_id, self._ring(header))
                stream = request.rest(fields[0])
            else:
                response, payload = self._do(command, request, fields)
        except CommandError as error:
            response = error.response
            self.complain(f"the driver's {_name(header.type)} was refused: {error}")
        flags = header.flags & (FLAG_FENCE | FLAG_INFO_RING_IDX)
        if not flags & FLAG_FENCE:
            answer = Header(response, 0, 0, 0, 0).pack() + payload
            if stream is None:
                self._answer(chain, answer)
            else:
                core = self.contexts.ring(header.ctx_id, self._ring(header))
                core.submit(self._ring(header), stream, self._go_on)
                self._complete(chain, answer)
            return
        answer = header._replace(type=response, flags=flags).pack() + payload
        self._fence(chain, header, answer, stream)

    def _do(self, command: Command, request: Request, fields: tuple[Any, ...]) -> Answer:
        shows = display.HANDLERS.get(command)
        if shows is not None:
            return shows(self.display, *fields)
        return _HANDLERS[command](self, request, *fields)

    def _parse(self, chain: Chain, header: Header) -> tuple[Command, Request, tuple[Any, ...]]:
        try:
            command = Command(header.type)
        except ValueError:
            raise CommandError(Response.ERR_UNSPEC, "there is no such command") from None
        layout = LAYOUTS[command]
        body = chain.read(HEADER.size, layout.size)
        if len(body) < layout.size:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER,
                f"it has {len(body)} of {layout.size} bytes behind its header",
            )
        return command, Request(chain, header, HEADER.size + layout.size), layout.unpack(body)

    @staticmethod
    def _ring(header: Header) -> int:
        return header.ring_idx if header.flags & FLAG_INFO_RING_IDX else 0

    def _fence(self, chain: Chain, header: Header, answer: bytes, stream: bytes | None) -> None:
        """Answer when what was asked for, and all before it on its timeline, is complete."""
        ring = self._ring(header)
        own = bool(header.flags & FLAG_INFO_RING_IDX)
        core = None
        if stream is not None or own:
            try:
                core = self.contexts.timeline(header.ctx_id, ring)
            except CommandError:
                own = False  # no such timeline: then it is one of the shared one's
        fence = Fence(chain, answer, header.ctx_id if core is not None else 0, not own)
        self.fences.add(fence)
        if core is None:
            self.fences.signal(fence.tag)
        else:
            signal = partial(self._signal, fence.tag)
            core.submit(ring, stream or b"", signal, fence.tag)

    def _signal(self, tag: int) -> None:
        """What a fence waits for is complete."""
        self.fences.signal(tag)
        self._go_on()

    def _go_on(self) -> None:
        """Something is complete: there may be room for requests that wait."""
        for chain, header in self._parked.take():
            self._offer(chain, header)

    def _answer(self, chain: Chain, answer: bytes) -> None:
        self.complete(chain, chain.write(answer))
        # A driver that is to be told of others already did not ask to be told of this one too.
        self._moderation.hurry()

    def _complete(self, chain: Chain, answer: bytes) -> None:
        """Answer a submission that is taken, or a request whose fence is signalled."""
        if self.give_back(chain, chain.write(answer)):
            self._moderation.ask()

    # -- resources ----------------------------------------------------------------------------

    def _create_blob(
        self, request: Request, number: int, mem: int, flags: int, count: int, blob: int, size: int
    ) -> Answer:
        if mem != BLOB_MEM_GUEST:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER, f"blobs are guest memory here, not kind {mem}"
            )
        pieces = self.resources.parse_entries(request.rest(_entry_bytes(count)), count)
        self.resources.create_blob(number, size, pieces)
        return DONE

    def _attach_backing(self, request: Request, number: int, count: int) -> Answer:
        resource = self.resources.get(number)
        pieces = self.resources.parse_entries(request.rest(_entry_bytes(count)), count)
        self.resources.attach(resource, pieces)
        return DONE

    def _detach_backing(self, request: Request, number: int) -> Answer:
        resource = self.resources.get(number)
        self._lose_memory(resource)
        self.resources.detach(resource)
        return DONE

    def _unref(self, request: Request, number: int) -> Answer:
        resource = self.resources.get(number)
        self._lose_memory(resource)
        self.display.remove(resource)
        return DONE

    def _lose_memory(self, resource: Resource) -> None:
        """The guest takes a resource's memory back: nothing may read it any more."""
        self.contexts.forget(resource)
        self.display.lose_memory(resource)

    # -- contexts -----------------------------------------------------------------------------

    def _get_capset_info(self, request: Request, index: int) -> Answer:
        if index or self.core is None:
            return Response.OK_CAPSET_INFO, CAPSET_INFO.pack(0, 0, 0)
        size = len(self.core.capset())
        return Response.OK_CAPSET_INFO, CAPSET_INFO.pack(CAPSET, VERSION, size)

    def _get_capset(self, request: Request, capset: int, version: int) -> Answer:
        if capset != CAPSET or self.core is None:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER, f"there is no capability set {capset}"
            )
        return Response.OK_CAPSET, self.core.capset()

    def _create_context(
        self, request: Request, length: int, context_init: int, name: bytes
    ) -> Answer:
        self.contexts.create(request.header.ctx_id, context_init, name[: min(length, 64)])
        return DONE

    def _destroy_context(self, request: Request) -> Answer:
        number = request.header.ctx_id
        self.contexts.destroy(number)
        self.fences.end(number)
        self._go_on()
        return DONE

    def _attach_resource(self, request: Request, number: int) -> Answer:
        self.contexts.attach(request.header.ctx_id, self.resources.get(number))
        return DONE

    def _detach_resource(self, request: Request, number: int) -> Answer:
        self.contexts.detach(request.header.ctx_id, self.resources.get(number))
        return DONE

    # -- configuration and life cycle ---------------------------------------------------------

    @events_clear.on_write
    def _clear_events(self, value: int) -> None:
        self.events_read &= ~value

    @num_capsets.on_read
    def _read_num_capsets(self) -> int:
        return int(self.core is not None)

    def save(self) -> dict[str, Any]:
        return {
            **super().save(),
            **self.display.save(),
            "core": None if self.core is None else self.core.save(),
            "contexts": self.contexts.save(),
            "fences": self.fences.save(self.queues),
            "parked": self._parked.save(self.queues),
            "told": self._moderation.told,
        }

    def check_shape(self, state: dict[str, Any]) -> None:
        super().check_shape(state)
        if self.core is not None and state["core"] is not None:
            self.core.check(state["core"])

    def load(self, state: dict[str, Any]) -> None:
        self._forget()
        self.display.load(state)
        if self.core is not None:
            self.core.load(state["core"], self._signal_of)
        self.contexts.load(state["contexts"])
        super().load(state)
        self.fences.load(self.queues, state["fences"])
        self._parked.load(self.queues, state["parked"])
        self._moderation.told = state["told"]

    def _signal_of(self, context: Any, ring: int, tag: int) -> Callable[[], None]:
        """What a submission of a snapshot calls when it is complete."""
        return partial(self._signal, tag)

    def _forget(self) -> None:
        self.fences.reset()
        self.contexts.clear()
        self._parked.clear()
        self._moderation.reset()
        self.display.clear()


Handler = Callable[..., Answer]

_HANDLERS: dict[Command, Handler] = {
    Command.RESOURCE_UNREF: VirtioGpu._unref,
    Command.RESOURCE_ATTACH_BACKING: VirtioGpu._attach_backing,
    Command.RESOURCE_DETACH_BACKING: VirtioGpu._detach_backing,
    Command.GET_CAPSET_INFO: VirtioGpu._get_capset_info,
    Command.GET_CAPSET: VirtioGpu._get_capset,
    Command.RESOURCE_CREATE_BLOB: VirtioGpu._create_blob,
    Command.CTX_CREATE: VirtioGpu._create_context,
    Command.CTX_DESTROY: VirtioGpu._destroy_context,
    Command.CTX_ATTACH_RESOURCE: VirtioGpu._attach_resource,
    Command.CTX_DETACH_RESOURCE: VirtioGpu._detach_resource,
}


def _entry_bytes(count: int) -> int:
    return min(count * MEMORY_ENTRY.size, _MAX_ENTRY_BYTES)


def _name(number: int) -> str:
    return Command(number).name if number in set(Command) else f"command {number:#x}"

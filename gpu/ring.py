"""The GPU for programs without an operating system: submissions in a ring of descriptors.

A descriptor is 32 bytes: u64 address and u32 bytes of a stream of packets, u32 timeline (0 to 63),
u64 fence, u64 zero. The guest writes descriptors to RING_BASE in turn and the number that it has
written in all to DOORBELL. When a stream and what it waits for is complete, its fence stands in
FENCE of its timeline, and INTERRUPT_STATUS.FENCE is set. Streams may hold the protocol's commands
GrantMemory, RevokeMemory, SetScanout and FlushScanout besides the core's.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import Field

from gpu import protocol
from gpu.core.context import Context
from gpu.core.gpu import Gpu
from gpu.display.options import ScreenOptions, serve
from gpu.display.scanout import Format, GuestPixels, Picture, Scanout
from gpu.opencl import Status
from gpu.options import GpuOptions
from hypervisor.device import Board, Device, GpuHook, Register
from hypervisor.device.board import MemoryAccessError

MAGIC = int.from_bytes(b"HVGP", "little")
DESCRIPTOR = struct.Struct("<QIIQQ")
MAX_DESCRIPTORS = 1 << 12
ENABLE, RESET = 1, 2
ENABLED, BROKEN, LOST, NO_DEVICE = 1, 2, 4, 8
FENCE_DONE, RING_BROKEN = 1, 2
_MAX_COMPLAINTS = 16


class RingGpuOptions(GpuOptions):
    display: ScreenOptions = Field(
        default=ScreenOptions(width=640, height=480),
        description="the display; its size is of what is shown before the guest shows anything",
    )


class RingGpu(Device):
    """A GPU of one context."""

    Options = RingGpuOptions
    type = "gpu.ring"
    fault_points = frozenset({"commands"})
    summary = "GPU with a ring of submissions, for bare metal"
    compatible = ("hypervisor,gpu-ring",)
    state = ("_written", "_taken", "_flushes", "_picture")

    ID = Register(0x00, reset=MAGIC, access="ro", doc="'HVGP'")
    VERSION = Register(0x04, reset=protocol.VERSION, access="ro", doc="of the protocol")
    CONTROL = Register(
        0x08,
        writable=ENABLE,
        fields={"ENABLE": 0, "RESET": 1},
        doc="enable the ring; reset gives up the context and all there is",
    )
    STATUS = Register(
        0x0C,
        access="ro",
        fields={"ENABLED": 0, "BROKEN": 1, "LOST": 2, "NO_DEVICE": 3},
        doc="the ring works; a descriptor was bad; the worker was lost; the host has no OpenCL",
    )
    RING_BASE = Register(0x10, size=8, doc="address of the descriptors")
    RING_SIZE = Register(0x18, doc="descriptors in the ring: a power of two, 4096 at most")
    DOORBELL = Register(0x1C, access="wo", doc="number of descriptors written in all")
    TAKEN = Register(0x20, access="ro", doc="number of descriptors taken in all")
    INTERRUPT_STATUS = Register(
        0x28, writable=0, w1c=3, fields={"FENCE": 0, "BROKEN": 1}, doc="write 1 to clear"
    )
    INTERRUPT_ENABLE = Register(0x2C, writable=3, fields={"FENCE": 0, "BROKEN": 1})
    INFO_BASE = Register(0x30, size=8, doc="address that writing INFO_SIZE copies the Capset to")
    INFO_SIZE = Register(
        0x38, writable=0, doc="bytes of the Capset; written: the bytes that there is room for"
    )
    FENCE = Register(
        0x100,
        size=8,
        access="ro",
        count=protocol.RINGS,
        doc="the last fence of each timeline that is complete",
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.core = Gpu(name, options, board)
        self.scanout = Scanout(options.display.width, options.display.height)
        self.vnc = serve(name, board, options.display, self.scanout)
        self.live = self.vnc is not None or options.timing == "host"
        self._context: Context | None = None
        self._written = 0
        self._taken = 0
        self._flushes: list[list[int]] = [[] for _ in range(protocol.RINGS)]
        """Fences of each timeline after which the picture is shown anew."""
        self._picture: list[int] = []
        """The last SetScanout: blob, offset, width, height, stride."""
        self._submitting = (0, 0)
        self._has_flush = False
        """Whether the stream that is being read has a FlushScanout."""
        self._complaints = 0

    def reset(self) -> None:
        super().reset()
        self._give_up()

    @property
    def command_fault(self) -> GpuHook | None:
        """What may make commands go wrong on purpose."""
        return self.core.fault

    @command_fault.setter
    def command_fault(self, hook: GpuHook | None) -> None:
        self.core.fault = hook

    def screenshot(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """What the display shows, as a PNG file; written to `path` where one is given."""
        return self.scanout.screenshot(path)

    def describe(self) -> list[str]:
        return self.core.describe()

    def close(self) -> None:
        if self.vnc is not None:
            self.vnc.close()
        self.core.close()

    # -- registers ----------------------------------------------------------------------------

    @CONTROL.on_write
    def _control_written(self, value: int) -> None:
        if value & RESET:
            self._give_up()
            self.values["FENCE"][:] = [0] * protocol.RINGS
        self.STATUS &= ~ENABLED
        if self.CONTROL & ENABLE and not self.STATUS & BROKEN:
            if self._is_ring():
                self.STATUS |= ENABLED
            else:
                self._break_at_ring()

    @STATUS.on_read
    def _read_status(self) -> int:
        status = self.STATUS
        if self._context is not None and self._context.lost:
            status |= LOST
        if self.core.is_absent:
            status |= NO_DEVICE
        return status

    @DOORBELL.on_write
    def _rung(self, written: int) -> None:
        if not self.STATUS & ENABLED:
            return
        if not self._is_ring():  # its registers may have been written since
            self._break_at_ring()
            return
        count = self.RING_SIZE
        waiting = (written - self._taken) & 0xFFFF_FFFF
        if waiting > count:
            self._break(f"{waiting} descriptors in a ring of {count}")
            return
        self._written = written
        self._take()

    def _take(self) -> None:
        """Submit what the ring has, until the context has as much as it can take: the rest is
        taken when some of that is complete."""
        count = self.RING_SIZE
        while self._taken != self._written and not self._is_full:
            at = self.RING_BASE + self._taken % count * DESCRIPTOR.size
            descriptor = DESCRIPTOR.unpack(self.memory.read(at, DESCRIPTOR.size))
            self._taken = (self._taken + 1) & 0xFFFF_FFFF
            self.TAKEN = self._taken
            if not self._submit(*descriptor):
                return
        if self._is_full and self._context is not None and self._context.is_stuck:
            self._break(f"{self._context.pending} commands that all wait for user events")

    @property
    def _is_full(self) -> bool:
        return self._context is not None and self._context.is_full

    @INTERRUPT_STATUS.on_write
    @INTERRUPT_ENABLE.on_write
    def _interrupts_written(self, value: int) -> None:
        self._update_interrupt()

    @INFO_SIZE.on_read
    def _read_info_size(self) -> int:
        return len(self.core.capset()) if self.STATUS & ENABLED else 0

    @INFO_SIZE.on_write
    def _info_size_written(self, room: int) -> None:
        if not self.STATUS & ENABLED:
            return
        try:
            self.memory.write(self.INFO_BASE, self.core.capset()[:room])
        except MemoryAccessError as error:
            self._complain(f"the Capset cannot be copied: {error}")

    # -- submissions --------------------------------------------------------------------------

    def _submit(self, address: int, size: int, timeline: int, fence: int, zero: int) -> bool:
        if timeline >= protocol.RINGS or zero:
            self._break(f"a descriptor with timeline {timeline} and {zero:#x} where zero belongs")
            return False
        if size > protocol.MAX_STREAM or not self.memory.contains(address, size):
            self._break(f"a stream of {size} bytes at {address:#x}")
            return False
        stream = self.memory.read(address, size)
        if self._context is None:
            self._context = self._new_context()
        self._submitting = (timeline, fence)
        self._has_flush = False
        self._context.submit(timeline, stream, partial(self._complete, timeline, fence), fence)
        return True

    def _new_context(self) -> Context:
        context = self.core.create_context("ring")
        context.front_end = self._execute
        return context

    def _complete(self, timeline: int, fence: int) -> None:
        self.values["FENCE"][timeline] = fence
        flushes = self._flushes[timeline]
        if flushes and flushes[0] == fence:
            del flushes[0]
            self.scanout.flush()
        self.INTERRUPT_STATUS |= FENCE_DONE
        self._update_interrupt()
        if self.STATUS & ENABLED and self._taken != self._written:
            if self._is_ring():
                self._take()
            else:
                self._break_at_ring()

    def _execute(self, command: protocol.Command) -> Status:
        """The commands that are this front end's own."""
        context = self._context
        assert context is not None
        if isinstance(command, protocol.GrantMemory):
            ranges = command.ranges
            if len(ranges) % 2:
                return Status.INVALID_VALUE
            return context.grant(command.blob, list(zip(ranges[::2], ranges[1::2], strict=True)))
        if isinstance(command, protocol.RevokeMemory):
            if self._picture and self._picture[0] == command.blob:
                self._picture = []
                self.scanout.show(None)
            return context.revoke(command.blob)
        if isinstance(command, protocol.SetScanout):
            return self._set_scanout(command)
        if not self._has_flush:
            self._has_flush = True
            timeline, fence = self._submitting
            self._flushes[timeline].append(fence)
        return Status.SUCCESS

    def _set_scanout(self, command: protocol.SetScanout) -> Status:
        picture: list[int] = []
        if command.width:
            picture = [
                command.blob,
                command.offset,
                command.width,
                command.height,
                command.stride,
            ]
        try:
            self.scanout.show(self._picture_of(picture))
        except ValueError:
            return Status.INVALID_VALUE
        self._picture = picture
        return Status.SUCCESS

    def _picture_of(self, saved: list[int]) -> Picture | None:
        """The picture of a SetScanout; ValueError where it does not lie in its blob."""
        if not saved:
            return None
        blob_id, offset, width, height, stride = saved
        blob = self._context.blobs.get(blob_id) if self._context is not None else None
        if blob is None:
            raise ValueError(f"there is no blob {blob_id}")
        pixels = GuestPixels(self.memory, blob.pieces)
        picture = Picture(width, height, stride, offset, Format.B8G8R8X8, pixels)
        if picture.end > pixels.size:
            raise ValueError("the picture does not lie in its blob")
        return picture

    # -- state --------------------------------------------------------------------------------

    def _give_up(self) -> None:
        self.core.reset()
        self._context = None
        self._written = self._taken = 0
        self.TAKEN = 0
        self.STATUS = 0
        self._flushes = [[] for _ in range(protocol.RINGS)]
        self._picture = []
        self.scanout.show(None)
        self.INTERRUPT_STATUS = 0
        self._update_interrupt()

    def _is_ring(self) -> bool:
        count = self.RING_SIZE
        fits = count.bit_count() == 1 and count <= MAX_DESCRIPTORS
        return fits and self.memory.contains(self.RING_BASE, count * DESCRIPTOR.size)

    def _break_at_ring(self) -> None:
        self._break(f"a ring of {self.RING_SIZE} descriptors at {self.RING_BASE:#x}")

    def _break(self, what: str) -> None:
        self._complain(f"the ring stops at {what}")
        self.STATUS = self.STATUS & ~ENABLED | BROKEN
        self.INTERRUPT_STATUS |= RING_BROKEN
        self._update_interrupt()

    def _complain(self, what: str) -> None:
        """Say what the guest did wrong; one that keeps at it is not repeated."""
        self._complaints += 1
        if self._complaints <= _MAX_COMPLAINTS:
            self.board.guest_error(f"{self.name}: {what}")

    def _update_interrupt(self) -> None:
        self.irq.set(bool(self.INTERRUPT_STATUS & self.INTERRUPT_ENABLE))

    def save(self) -> dict[str, Any]:
        return {**super().save(), "core": self.core.save()}

    def check_shape(self, state: dict[str, Any]) -> None:
        super().check_shape(state)
        self.core.check(state["core"])

    def load(self, state: dict[str, Any]) -> None:
        self._give_up()
        self.core.load(state["core"], self._resume)
        self._context = next(iter(self.core.contexts.values()), None)
        if self._context is not None:
            self._context.front_end = self._execute
        super().load(state)

    def _resume(self, context: Context, timeline: int, fence: int) -> Callable[[], None]:
        return partial(self._complete, timeline, fence)

    def restored(self) -> None:
        try:
            self.scanout.show(self._picture_of(self._picture))
        except ValueError:
            self.scanout.show(None)

"""Commands that are put into queues."""

from __future__ import annotations

from typing import Annotated

from gpu.opencl import Status
from gpu.protocol.fields import U64, Counted, Number, Vector, bits
from gpu.protocol.limits import MAX_INLINE
from gpu.protocol.packets import Command
from gpu.protocol.types import (
    AnEvent,
    BlobRef,
    BufferRef,
    Events,
    ImageRef,
    KernelRef,
    MapFlags,
    MappingRef,
    Memories,
    NewMapping,
    Pattern,
    QueueRef,
)


class Enqueue(Command):
    """What all enqueued commands have: they start when the events they wait for are complete."""

    queue: QueueRef
    event: AnEvent = 0
    wait: Events = ()


class ReadBuffer(Enqueue, opcode=0x0200, function="clEnqueueReadBuffer"):
    """Copy from a buffer to a blob."""

    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    blob_offset: U64 = 0
    buffer: BufferRef
    blob: BlobRef


class WriteBuffer(Enqueue, opcode=0x0201, function="clEnqueueWriteBuffer"):
    """Copy from a blob to a buffer."""

    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    blob_offset: U64 = 0
    buffer: BufferRef
    blob: BlobRef


class WriteBufferInline(Enqueue, opcode=0x0202, function="clEnqueueWriteBuffer"):
    """Write bytes that the packet carries."""

    offset: U64 = 0
    buffer: BufferRef
    data: Annotated[bytes, Counted("s", MAX_INLINE, least=1)]


class _Rectangle(Enqueue):
    buffer_origin: Vector
    host_origin: Vector
    region: Vector
    buffer_row_pitch: U64 = 0
    buffer_slice_pitch: U64 = 0
    host_row_pitch: U64 = 0
    host_slice_pitch: U64 = 0
    blob_offset: U64 = 0
    buffer: BufferRef
    blob: BlobRef


class ReadBufferRect(_Rectangle, opcode=0x0203, function="clEnqueueReadBufferRect"):
    """Copy a box from a buffer to a blob. Pitches of 0 mean tightly packed."""


class WriteBufferRect(_Rectangle, opcode=0x0204, function="clEnqueueWriteBufferRect"):
    """Copy a box from a blob to a buffer."""


class CopyBuffer(Enqueue, opcode=0x0205, function="clEnqueueCopyBuffer"):
    """Copy between buffers, or parts of one that do not overlap."""

    source_offset: U64 = 0
    destination_offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    source: BufferRef
    destination: BufferRef


class CopyBufferRect(Enqueue, opcode=0x0206, function="clEnqueueCopyBufferRect"):
    """Copy a box between buffers."""

    source_origin: Vector
    destination_origin: Vector
    region: Vector
    source_row_pitch: U64 = 0
    source_slice_pitch: U64 = 0
    destination_row_pitch: U64 = 0
    destination_slice_pitch: U64 = 0
    source: BufferRef
    destination: BufferRef


class FillBuffer(Enqueue, opcode=0x0207, function="clEnqueueFillBuffer"):
    """Fill with a pattern of 1, 2, 4 ... 128 bytes."""

    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    buffer: BufferRef
    pattern: Pattern


class _HostImage(Enqueue):
    origin: Vector
    region: Vector
    row_pitch: U64 = 0
    slice_pitch: U64 = 0
    blob_offset: U64 = 0
    image: ImageRef
    blob: BlobRef


class ReadImage(_HostImage, opcode=0x0210, function="clEnqueueReadImage"):
    """Copy a box from an image to a blob."""


class WriteImage(_HostImage, opcode=0x0211, function="clEnqueueWriteImage"):
    """Copy a box from a blob to an image."""


class CopyImage(Enqueue, opcode=0x0212, function="clEnqueueCopyImage"):
    """Copy a box between images of one format."""

    source_origin: Vector
    destination_origin: Vector
    region: Vector
    source: ImageRef
    destination: ImageRef


class CopyImageToBuffer(Enqueue, opcode=0x0213, function="clEnqueueCopyImageToBuffer"):
    """Copy a box from an image to a buffer, tightly packed."""

    origin: Vector
    region: Vector
    buffer_offset: U64 = 0
    image: ImageRef
    buffer: BufferRef


class CopyBufferToImage(Enqueue, opcode=0x0214, function="clEnqueueCopyBufferToImage"):
    """Copy from a buffer to a box of an image."""

    origin: Vector
    region: Vector
    buffer_offset: U64 = 0
    image: ImageRef
    buffer: BufferRef


class FillImage(Enqueue, opcode=0x0215, function="clEnqueueFillImage"):
    """Fill a box with a color: four floats, or integers as the format's type wants."""

    origin: Vector
    region: Vector
    image: ImageRef
    color: Annotated[bytes, Counted("s", 16, least=16)]


class MapBuffer(Enqueue, opcode=0x0220, function="clEnqueueMapBuffer"):
    """Make a blob's buffer readable and writable in the blob; `id` is what Unmap ends."""

    flags: MapFlags
    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    buffer: BufferRef
    id: NewMapping


class MapImage(Enqueue, opcode=0x0221, function="clEnqueueMapImage"):
    """Make a blob's image readable and writable in the blob."""

    flags: MapFlags
    origin: Vector
    region: Vector
    image: ImageRef
    id: NewMapping


class Unmap(Enqueue, opcode=0x0222, function="clEnqueueUnmapMemObject"):
    """End a mapping: the device sees what was written. The mapping's id is free again."""

    mapping: MappingRef


class MigrateMemory(Enqueue, opcode=0x0223, function="clEnqueueMigrateMemObjects"):
    """Bring memory to the device, or to the host."""

    flags: Annotated[int, bits(3)] = 0
    memories: Memories


class NdRange(Enqueue, opcode=0x0230, function="clEnqueueNDRangeKernel"):
    """Run a kernel over a range of `dimensions`; local sizes of 0 leave them to the device.
    Unused dimensions are 0 in `offset` and `local_size`, 1 in `global_size`."""

    offset: Vector = (0, 0, 0)
    global_size: Vector
    local_size: Vector = (0, 0, 0)
    kernel: KernelRef
    dimensions: Annotated[int, Number("I", Status.INVALID_WORK_DIMENSION, least=1, most=3)]


class Task(Enqueue, opcode=0x0231, function="clEnqueueTask"):
    """Run a kernel as one work-item."""

    kernel: KernelRef


class Marker(Enqueue, opcode=0x0240, function="clEnqueueMarkerWithWaitList"):
    """An event of all before it in its queue, or of those it waits for."""


class Barrier(Enqueue, opcode=0x0241, function="clEnqueueBarrierWithWaitList"):
    """What follows in the queue starts after this."""


class Flush(Command, opcode=0x0242, function="clFlush"):
    """Start what is enqueued. A submission does so at its end."""

    queue: QueueRef


class Finish(Command, opcode=0x0243, function="clFinish"):
    """Hold the submission's fence until all that was ever enqueued to the queue is complete."""

    queue: QueueRef

"""Reading, writing, copying and filling buffers; reading what kernels printed."""

from __future__ import annotations

from gpu import protocol
from gpu.core.commands.queues import waits_of
from gpu.core.commands.registry import Found, check_range, check_scope, handles, refuse
from gpu.core.objects import Buffer
from gpu.core.schedule import Schedule
from gpu.core.work import Work
from gpu.opencl import MemFlags, Status
from gpu.worker import printed

Vector = tuple[int, int, int]


def transfer_cost(context: Schedule, size: int) -> int:
    """ns of virtual time that copying `size` bytes takes."""
    model = context.gpu.options.model
    return model.launch + size * 1_000_000_000 // model.bandwidth


def check_host_access(flags: int, reads: bool) -> None:
    """The host may not read, or not write, what was made so."""
    forbidden = MemFlags.HOST_NO_ACCESS
    forbidden |= MemFlags.HOST_WRITE_ONLY if reads else MemFlags.HOST_READ_ONLY
    if flags & forbidden:
        raise refuse(Status.INVALID_OPERATION)


@handles(protocol.ReadBuffer, protocol.WriteBuffer)
def transfer(
    context: Schedule, command: protocol.ReadBuffer | protocol.WriteBuffer, found: Found
) -> None:
    queue, buffer, blob = found["queue"], found["buffer"], found["blob"]
    reads = isinstance(command, protocol.ReadBuffer)
    waits = waits_of(found, queue)
    check_scope(queue, buffer)
    check_range(command.offset, command.size, buffer.size)
    check_range(command.blob_offset, command.size, blob.size)
    check_host_access(buffer.flags, reads)
    operation = (
        "read" if reads else "write",
        buffer.number,
        command.offset,
        command.size,
        blob.number,
        command.blob_offset,
    )
    work = Work(queue, operation, transfer_cost(context, command.size), (buffer,))
    touched = ((blob, command.blob_offset, command.size),)
    work.outputs, work.inputs = (touched, ()) if reads else ((), touched)
    context.enqueue(work, waits, command.event)


@handles(protocol.ReadPrinted)
def read_printed(context: Schedule, command: protocol.ReadPrinted, found: Found) -> None:
    blob, at = found["blob"], command.blob_offset
    check_range(at, command.size, blob.size)
    size = min(command.size, printed.COUNT.size + printed.MOST)
    work = Work(None, ("read_printed", blob.number, at, size))
    work.outputs = ((blob, at, size),)
    context.do(work)


@handles(protocol.WriteBufferInline)
def write_inline(context: Schedule, command: protocol.WriteBufferInline, found: Found) -> None:
    queue, buffer = found["queue"], found["buffer"]
    waits = waits_of(found, queue)
    check_scope(queue, buffer)
    size = len(command.data)
    check_range(command.offset, size, buffer.size)
    check_host_access(buffer.flags, reads=False)
    operation = ("write_inline", buffer.number, command.offset, command.data)
    work = Work(queue, operation, transfer_cost(context, size), (buffer,))
    context.enqueue(work, waits, command.event)


# -- rectangles --------------------------------------------------------------------------------


def box(origin: Vector, region: Vector, pitches: tuple[int, int]) -> tuple[int, int, int, int]:
    """First byte, end, row pitch and slice pitch of a box (OpenCL 1.2, 5.2.2); RefusedError where
    its pitches do not hold it."""
    width, height, depth = region
    if not (width and height and depth):
        raise refuse(Status.INVALID_VALUE)
    row = pitches[0] or width
    if row < width:
        raise refuse(Status.INVALID_VALUE)
    slice_ = pitches[1] or row * height
    if slice_ < row * height or slice_ % row:
        raise refuse(Status.INVALID_VALUE)
    first = origin[2] * slice_ + origin[1] * row + origin[0]
    end = first + (depth - 1) * slice_ + (height - 1) * row + width
    return first, end, row, slice_


@handles(protocol.ReadBufferRect, protocol.WriteBufferRect)
def transfer_rect(
    context: Schedule, command: protocol.ReadBufferRect | protocol.WriteBufferRect, found: Found
) -> None:
    queue, buffer, blob = found["queue"], found["buffer"], found["blob"]
    reads = isinstance(command, protocol.ReadBufferRect)
    waits = waits_of(found, queue)
    check_scope(queue, buffer)
    region = command.region
    _, end, *pitches = box(
        command.buffer_origin, region, (command.buffer_row_pitch, command.buffer_slice_pitch)
    )
    check_range(end, 0, buffer.size)
    first, host_end, *host_pitches = box(
        command.host_origin, region, (command.host_row_pitch, command.host_slice_pitch)
    )
    check_range(command.blob_offset, host_end, blob.size)
    check_host_access(buffer.flags, reads)
    size = region[0] * region[1] * region[2]
    operation = (
        "read_rect" if reads else "write_rect",
        buffer.number,
        blob.number,
        command.blob_offset,
        command.buffer_origin,
        command.host_origin,
        region,
        tuple(pitches),
        tuple(host_pitches),
    )
    work = Work(queue, operation, transfer_cost(context, size), (buffer,))
    extent = ((blob, command.blob_offset + first, host_end - first),)
    # What lies between the rows of a box that is read stays the guest's: it goes in first.
    work.inputs = extent
    work.outputs = extent if reads else ()
    context.enqueue(work, waits, command.event)


# -- between buffers ---------------------------------------------------------------------------


def place_of(buffer: Buffer) -> tuple[object, int]:
    """The memory that a buffer is a part of, and where it begins there."""
    if buffer.blob is not None:
        return buffer.blob, buffer.blob_offset
    root = buffer.parent or buffer
    return root, buffer.origin


def _overlap(source: Buffer, first: int, end: int, target: Buffer, to: int, to_end: int) -> bool:
    (root, base), (other, other_base) = place_of(source), place_of(target)
    return root is other and base + first < other_base + to_end and other_base + to < base + end


@handles(protocol.CopyBuffer)
def copy_buffer(context: Schedule, command: protocol.CopyBuffer, found: Found) -> None:
    queue, source, target = found["queue"], found["source"], found["destination"]
    waits = waits_of(found, queue)
    check_scope(queue, source, target)
    size, at, to = command.size, command.source_offset, command.destination_offset
    check_range(at, size, source.size)
    check_range(to, size, target.size)
    if _overlap(source, at, at + size, target, to, to + size):
        raise refuse(Status.MEM_COPY_OVERLAP)
    operation = ("copy", source.number, target.number, size, at, to)
    work = Work(queue, operation, transfer_cost(context, size), (source, target))
    context.enqueue(work, waits, command.event)


@handles(protocol.CopyBufferRect)
def copy_buffer_rect(context: Schedule, command: protocol.CopyBufferRect, found: Found) -> None:
    queue, source, target = found["queue"], found["source"], found["destination"]
    waits = waits_of(found, queue)
    check_scope(queue, source, target)
    region = command.region
    _, end, *pitches = box(
        command.source_origin, region, (command.source_row_pitch, command.source_slice_pitch)
    )
    _, to_end, *to_pitches = box(
        command.destination_origin,
        region,
        (command.destination_row_pitch, command.destination_slice_pitch),
    )
    check_range(end, 0, source.size)
    check_range(to_end, 0, target.size)
    (root, base), (other, other_base) = place_of(source), place_of(target)
    if root is other:
        if pitches != to_pitches:
            raise refuse(Status.INVALID_VALUE)
        one, another = command.source_origin, command.destination_origin
        one, another = (one[0] + base, *one[1:]), (another[0] + other_base, *another[1:])
        if _boxes_overlap(one, another, region, pitches):
            raise refuse(Status.MEM_COPY_OVERLAP)
    operation = (
        "copy_rect",
        source.number,
        target.number,
        command.source_origin,
        command.destination_origin,
        region,
        tuple(pitches),
        tuple(to_pitches),
    )
    size = region[0] * region[1] * region[2]
    work = Work(queue, operation, transfer_cost(context, size), (source, target))
    context.enqueue(work, waits, command.event)


def _boxes_overlap(one: Vector, other: Vector, region: Vector, pitches: list[int]) -> bool:
    """Whether boxes of equal pitches overlap, as OpenCL 1.2 counts it (appendix E): boxes that go
    beyond their rows or slices may be said to although they only come near."""
    row, slice_ = pitches
    width, height, depth = region
    if all(a < b + size and b < a + size for a, b, size in zip(one, other, region, strict=True)):
        return True
    first, second = (x + y * row + z * slice_ for x, y, z in (one, other))
    if abs(first - second) >= width + height * row + depth * slice_:
        return False
    if _goes_around(one[0], other[0], width, row):
        return True
    return depth > 1 and _goes_around(one[1], other[1], height, slice_ // row)


def _goes_around(one: int, other: int, size: int, pitch: int) -> bool:
    """Whether one of two spans goes beyond the pitch, and so far that it comes to the other."""
    return one + size - pitch > other or other + size - pitch > one


@handles(protocol.FillBuffer)
def fill_buffer(context: Schedule, command: protocol.FillBuffer, found: Found) -> None:
    queue, buffer = found["queue"], found["buffer"]
    waits = waits_of(found, queue)
    check_scope(queue, buffer)
    length = len(command.pattern)
    check_range(command.offset, command.size, buffer.size)
    if length.bit_count() != 1 or command.offset % length or command.size % length:
        raise refuse(Status.INVALID_VALUE)
    operation = ("fill", buffer.number, command.pattern, command.offset, command.size)
    work = Work(queue, operation, transfer_cost(context, command.size), (buffer,))
    context.enqueue(work, waits, command.event)

"""Buffers, sub-buffers and samplers; mapping and migrating."""

from __future__ import annotations

from collections.abc import Sequence

from gpu import protocol
from gpu.core.commands.queues import waits_of
from gpu.core.commands.registry import Found, check_range, check_scope, handles, refuse
from gpu.core.objects import Buffer, Mapping, Memory, Sampler
from gpu.core.schedule import Schedule
from gpu.core.work import Range, Work
from gpu.opencl import MapFlags, MemFlags, Status

ACCESS = MemFlags.READ_WRITE | MemFlags.WRITE_ONLY | MemFlags.READ_ONLY
HOST_ACCESS = MemFlags.HOST_WRITE_ONLY | MemFlags.HOST_READ_ONLY | MemFlags.HOST_NO_ACCESS


def check_flags(flags: int) -> None:
    """At most one way to access, for the device and for the host."""
    for choice in (ACCESS, HOST_ACCESS):
        if (flags & choice).bit_count() > 1:
            raise refuse(Status.INVALID_VALUE)


def check_blob(flags: int, blob: object) -> None:
    if flags & MemFlags.COPY_HOST_PTR and blob is None:
        raise refuse(Status.INVALID_HOST_PTR)


@handles(protocol.CreateBuffer)
def create_buffer(context: Schedule, command: protocol.CreateBuffer, found: Found) -> None:
    limits, blob, size = context.gpu.limits, found["blob"], command.size
    check_flags(command.flags)
    check_blob(command.flags, blob)
    if size > limits.max_alloc:
        raise refuse(Status.INVALID_BUFFER_SIZE)
    copies = bool(command.flags & MemFlags.COPY_HOST_PTR)
    if blob is not None:
        if not blob.holds(command.blob_offset, size):
            raise refuse(Status.INVALID_HOST_PTR)
        if not copies and command.blob_offset % limits.alignment:
            raise refuse(Status.MISALIGNED_SUB_BUFFER_OFFSET)
    number = context.new_number()
    buffer = Buffer(number, found["context"], size=size, flags=command.flags)
    if blob is None:
        buffer.charge = size
        context.add(command.id, buffer, "buffer", number, size, charge=size)
        return
    place = (number, size, blob.number, command.blob_offset)
    if copies:
        buffer.charge = size
        context.add(command.id, buffer, "copied_buffer", *place, charge=size)
    else:
        buffer.blob, buffer.blob_offset = blob, command.blob_offset
        buffer.charge = size if limits.sharing == "copy" else 0
        context.add(command.id, buffer, "blob_buffer", *place, charge=buffer.charge)
    context.gpu.bring_in(blob, command.blob_offset, size)


@handles(protocol.CreateSubBuffer)
def create_sub_buffer(context: Schedule, command: protocol.CreateSubBuffer, found: Found) -> None:
    parent: Buffer = found["buffer"]
    check_flags(command.flags)
    if parent.parent is not None:
        raise refuse(Status.INVALID_MEM_OBJECT)
    for choice in (ACCESS, HOST_ACCESS):
        inherited, wanted = parent.flags & choice, command.flags & choice
        free = inherited in (0, MemFlags.READ_WRITE)
        if wanted and inherited != wanted and not free:
            raise refuse(Status.INVALID_VALUE)
    check_range(command.origin, command.size, parent.size)
    if command.origin % context.gpu.limits.alignment:
        raise refuse(Status.MISALIGNED_SUB_BUFFER_OFFSET)
    number = context.new_number()
    buffer = Buffer(
        number,
        parent.scope,
        size=command.size,
        flags=command.flags
        | (parent.flags & ~(ACCESS | HOST_ACCESS) if command.flags else parent.flags),
        blob=parent.blob,
        blob_offset=parent.blob_offset + command.origin,
        parent=parent,
        origin=command.origin,
    )
    context.add(
        command.id, buffer, "sub_buffer", number, parent.number, command.origin, command.size
    )


@handles(protocol.CreateSampler)
def create_sampler(context: Schedule, command: protocol.CreateSampler, found: Found) -> None:
    if not context.gpu.limits.has_images:
        raise refuse(Status.INVALID_OPERATION)
    repeats = command.addressing in (0x1133, 0x1134)
    if repeats and not command.normalized:
        raise refuse(Status.INVALID_VALUE)
    number = context.new_number()
    settings = (command.normalized, command.addressing, command.filter)
    sampler = Sampler(number, found["context"], settings=settings)
    context.add(command.id, sampler, "sampler", number, bool(settings[0]), settings[1], settings[2])


# -- mapping -----------------------------------------------------------------------------------


@handles(protocol.MapBuffer)
def map_buffer(context: Schedule, command: protocol.MapBuffer, found: Found) -> None:
    queue, buffer = found["queue"], found["buffer"]
    waits = waits_of(found, queue)
    check_scope(queue, buffer)
    check_map(command.flags, buffer)
    check_range(command.offset, command.size, buffer.size)
    ranges = ((buffer.blob_offset + command.offset, command.size),)
    mapping = add_mapping(context, command.id, buffer, command.flags, ranges)
    operation = ("map", mapping.number, buffer.number, command.flags, command.offset, command.size)
    enqueue_map(context, Work(queue, operation), mapping, waits, command.event)


def check_map(flags: int, memory: Memory) -> None:
    """A mapping writes, reads, or forgets and writes; what has no blob is read and written."""
    if not flags or (flags & MapFlags.WRITE_INVALIDATE_REGION and flags != 4):
        raise refuse(Status.INVALID_VALUE)
    reads, writes = bool(flags & MapFlags.READ), bool(flags & ~MapFlags.READ)
    if (reads and memory.flags & (MemFlags.HOST_WRITE_ONLY | MemFlags.HOST_NO_ACCESS)) or (
        writes and memory.flags & (MemFlags.HOST_READ_ONLY | MemFlags.HOST_NO_ACCESS)
    ):
        raise refuse(Status.INVALID_OPERATION)
    if memory.blob is None:
        raise refuse(Status.MAP_FAILURE)


def add_mapping(
    context: Schedule,
    identifier: int,
    memory: Memory,
    flags: int,
    ranges: tuple[tuple[int, int], ...],
) -> Mapping:
    mapping = Mapping(context.new_number(), memory.scope, memory=memory, ranges=ranges, flags=flags)
    context.add(identifier, mapping)
    memory.maps += 1
    return mapping


def enqueue_map(
    context: Schedule, work: Work, mapping: Mapping, waits: Sequence[Work], event: int
) -> None:
    memory = mapping.memory
    assert memory is not None
    assert work.operation is not None
    mapping.operation = work.operation
    work.objects = (memory,)
    work.cost = context.gpu.options.model.launch
    work.outputs = ranges_of(mapping)
    context.enqueue(work, waits, event)


def ranges_of(mapping: Mapping) -> list[Range]:
    memory = mapping.memory
    assert memory is not None
    assert memory.blob is not None
    return [(memory.blob, offset, size) for offset, size in mapping.ranges]


@handles(protocol.Unmap)
def unmap(context: Schedule, command: protocol.Unmap, found: Found) -> None:
    queue, mapping = found["queue"], found["mapping"]
    waits = waits_of(found, queue)
    check_scope(queue, mapping)
    memory = mapping.memory
    if memory.failure:
        raise refuse(memory.failure)
    memory.maps -= 1
    work = Work(queue, ("unmap", mapping.number), context.gpu.options.model.launch, (memory,))
    if mapping.flags & ~MapFlags.READ:
        work.inputs = ranges_of(mapping)
    context.enqueue(work, waits, command.event)
    context.release(command.mapping)


@handles(protocol.MigrateMemory)
def migrate_memory(context: Schedule, command: protocol.MigrateMemory, found: Found) -> None:
    """Nothing to do: where memory lies is the host's to decide."""
    queue = found["queue"]
    waits = waits_of(found, queue)
    check_scope(queue, *found["memories"])
    work = Work(queue, None, 0, found["memories"])
    context.enqueue(work, waits, command.event)

"""Images: making them, and reading, writing, copying, filling and mapping boxes of them."""

from __future__ import annotations

from gpu import protocol
from gpu.core.commands.copies import check_host_access, transfer_cost
from gpu.core.commands.memory import add_mapping, check_blob, check_flags, check_map, enqueue_map
from gpu.core.commands.queues import waits_of
from gpu.core.commands.registry import Found, check_range, check_scope, handles, refuse
from gpu.core.information import DeviceLimits
from gpu.core.objects import Image
from gpu.core.schedule import Schedule
from gpu.core.work import Producer, Work
from gpu.opencl import MemFlags, MemObject, Status, pixel_size

Vector = tuple[int, int, int]
_ONE_DIMENSION = (MemObject.IMAGE1D, MemObject.IMAGE1D_ARRAY, MemObject.IMAGE1D_BUFFER)


@handles(protocol.GetImageFormats)
def get_image_formats(
    context: Schedule, command: protocol.GetImageFormats, found: Found
) -> Producer:
    check_flags(command.flags)
    if command.type == MemObject.BUFFER:
        raise refuse(Status.INVALID_VALUE)
    formats = _formats(context.gpu.limits, command.flags, command.type)
    return "record", protocol.ImageFormats(formats=tuple(formats))


def _formats(limits: DeviceLimits, flags: int, kind: int) -> list[int]:
    access = 2 if flags & MemFlags.WRITE_ONLY else 4 if flags & MemFlags.READ_ONLY else 1
    return limits.formats.get(f"{access},{kind}", [])


@handles(protocol.CreateImage)
def create_image(context: Schedule, command: protocol.CreateImage, found: Found) -> None:
    limits, blob, buffer = context.gpu.limits, found["blob"], found["buffer"]
    if not limits.has_images:
        raise refuse(Status.INVALID_OPERATION)
    check_flags(command.flags)
    check_blob(command.flags, blob)
    pixel = pixel_size(command.channel_order, command.channel_type)
    if not pixel:
        raise refuse(Status.INVALID_IMAGE_FORMAT_DESCRIPTOR)
    shape = _shape(command, limits)
    formats = _formats(limits, command.flags, command.type)
    pairs = list(zip(formats[::2], formats[1::2], strict=True))
    if (command.channel_order, command.channel_type) not in pairs:
        raise refuse(Status.IMAGE_FORMAT_NOT_SUPPORTED)
    pitches, size = _pitches(command, shape, pixel, blob is not None)
    if size > limits.max_alloc:
        raise refuse(Status.INVALID_IMAGE_SIZE)
    number = context.new_number()
    image = Image(
        number,
        found["context"],
        size=size,
        flags=command.flags,
        type=command.type,
        format=(command.channel_order, command.channel_type),
        pixel=pixel,
        shape=shape,
        pitches=pitches,
        extent=_extent(command.type, shape),
    )
    source: tuple[str, int, int] = ("none", 0, 0)
    if command.type == MemObject.IMAGE1D_BUFFER:
        if blob is not None or buffer is None:
            raise refuse(Status.INVALID_IMAGE_DESCRIPTOR)
        check_scope(image, buffer)
        if size > buffer.size:
            raise refuse(Status.INVALID_IMAGE_SIZE)
        image.buffer = buffer
        source = ("buffer", buffer.number, 0)
    elif buffer is not None:
        raise refuse(Status.INVALID_IMAGE_DESCRIPTOR)
    elif blob is not None:
        if not blob.holds(command.blob_offset, size):
            raise refuse(Status.INVALID_HOST_PTR)
        copies = bool(command.flags & MemFlags.COPY_HOST_PTR)
        if not copies:
            if command.blob_offset % limits.alignment:
                raise refuse(Status.MISALIGNED_SUB_BUFFER_OFFSET)
            image.blob, image.blob_offset = blob, command.blob_offset
        source = ("copy" if copies else "blob", blob.number, command.blob_offset)
    if source[0] in ("none", "copy") or (source[0] == "blob" and limits.sharing == "copy"):
        image.charge = size
    operation = ("image", number, image.format, image.type, shape, pitches, source)
    context.add(command.id, image, *operation, charge=image.charge)
    if blob is not None:
        context.gpu.bring_in(blob, command.blob_offset, size)


def _shape(command: protocol.CreateImage, limits: DeviceLimits) -> tuple[int, int, int, int]:
    """Width, height, depth and layers; those that the type does not have are 0."""
    kind = MemObject(command.type)
    width, height, depth, layers = (
        command.width,
        command.height,
        command.depth,
        command.array_size,
    )
    if kind in _ONE_DIMENSION:
        height = 0
    if kind != MemObject.IMAGE3D:
        depth = 0
    if kind not in (MemObject.IMAGE1D_ARRAY, MemObject.IMAGE2D_ARRAY):
        layers = 0
    if kind == MemObject.IMAGE1D_BUFFER:
        most: tuple[int, ...] = (limits.image_buffer, 0, 0, 0)
    elif kind == MemObject.IMAGE3D:
        most = (*limits.image3d, 0)
    else:
        most = (*limits.image2d, 0, limits.image_array)
    shape = (width, height, depth, layers)
    needed = (True, kind not in _ONE_DIMENSION, kind == MemObject.IMAGE3D, False)
    for size, limit, is_needed in zip(shape, most, needed, strict=True):
        if size > limit or (is_needed and not size):
            raise refuse(Status.INVALID_IMAGE_SIZE)
    if kind in (MemObject.IMAGE1D_ARRAY, MemObject.IMAGE2D_ARRAY) and not layers:
        raise refuse(Status.INVALID_IMAGE_SIZE)
    return shape


def _pitches(
    command: protocol.CreateImage, shape: tuple[int, int, int, int], pixel: int, has_blob: bool
) -> tuple[tuple[int, int], int]:
    """Row and slice pitch in bytes, and the bytes of the whole image in the blob."""
    width, height, depth, layers = shape
    if (command.row_pitch or command.slice_pitch) and not has_blob:
        raise refuse(Status.INVALID_IMAGE_DESCRIPTOR)
    row = command.row_pitch or width * pixel
    if row < width * pixel or row % pixel:
        raise refuse(Status.INVALID_IMAGE_DESCRIPTOR)
    slices = max(depth, layers)
    if not slices:
        return (row, 0), row * max(height, 1)
    slice_ = command.slice_pitch or row * max(height, 1)
    if slice_ < row * max(height, 1) or slice_ % row:
        raise refuse(Status.INVALID_IMAGE_DESCRIPTOR)
    return (row, slice_), slice_ * slices


def _extent(kind: int, shape: tuple[int, int, int, int]) -> Vector:
    width, height, depth, layers = shape
    if kind == MemObject.IMAGE1D_ARRAY:
        return width, layers, 1
    return width, max(height, 1), max(depth, layers, 1)


# -- boxes -------------------------------------------------------------------------------------


def _check_box(image: Image, origin: Vector, region: Vector) -> None:
    for start, length, limit in zip(origin, region, image.extent, strict=True):
        if not length or start + length > limit:
            raise refuse(Status.INVALID_VALUE)


def _bytes(image: Image, region: Vector) -> int:
    return region[0] * region[1] * region[2] * image.pixel


@handles(protocol.ReadImage, protocol.WriteImage)
def transfer_image(
    context: Schedule, command: protocol.ReadImage | protocol.WriteImage, found: Found
) -> None:
    queue, image, blob = found["queue"], found["image"], found["blob"]
    reads = isinstance(command, protocol.ReadImage)
    waits = waits_of(found, queue)
    check_scope(queue, image)
    _check_box(image, command.origin, command.region)
    check_host_access(image.flags, reads)
    width, height, depth = command.region
    row = command.row_pitch or width * image.pixel
    if row < width * image.pixel or row % image.pixel:
        raise refuse(Status.INVALID_VALUE)
    layered = image.type in (MemObject.IMAGE1D_ARRAY,)
    slice_ = command.slice_pitch or (row if layered else row * height)
    if slice_ % row or slice_ < (row if layered else row * height):
        raise refuse(Status.INVALID_VALUE)
    rows = (height - 1) * slice_ if layered else (height - 1) * row
    size = (depth - 1) * (0 if layered else slice_) + rows + width * image.pixel
    check_range(command.blob_offset, size, blob.size)
    is_flat = image.type in (MemObject.IMAGE2D, MemObject.IMAGE1D, MemObject.IMAGE1D_BUFFER)
    operation = (
        "read_image" if reads else "write_image",
        image.number,
        command.origin,
        command.region,
        (row, 0 if is_flat else slice_),
        blob.number,
        command.blob_offset,
        size,
    )
    work = Work(queue, operation, transfer_cost(context, _bytes(image, command.region)), (image,))
    extent = ((blob, command.blob_offset, size),)
    work.inputs = extent
    work.outputs = extent if reads else ()
    context.enqueue(work, waits, command.event)


@handles(protocol.CopyImage)
def copy_image(context: Schedule, command: protocol.CopyImage, found: Found) -> None:
    queue, source, target = found["queue"], found["source"], found["destination"]
    waits = waits_of(found, queue)
    check_scope(queue, source, target)
    if source.format != target.format:
        raise refuse(Status.IMAGE_FORMAT_MISMATCH)
    _check_box(source, command.source_origin, command.region)
    _check_box(target, command.destination_origin, command.region)
    if source is target and all(
        abs(a - b) < length
        for a, b, length in zip(
            command.source_origin, command.destination_origin, command.region, strict=True
        )
    ):
        raise refuse(Status.MEM_COPY_OVERLAP)
    operation = (
        "copy_image",
        source.number,
        target.number,
        command.source_origin,
        command.destination_origin,
        command.region,
    )
    cost = transfer_cost(context, _bytes(source, command.region))
    context.enqueue(Work(queue, operation, cost, (source, target)), waits, command.event)


@handles(protocol.CopyImageToBuffer, protocol.CopyBufferToImage)
def copy_between(
    context: Schedule,
    command: protocol.CopyImageToBuffer | protocol.CopyBufferToImage,
    found: Found,
) -> None:
    queue, image, buffer = found["queue"], found["image"], found["buffer"]
    waits = waits_of(found, queue)
    check_scope(queue, image, buffer)
    _check_box(image, command.origin, command.region)
    size = _bytes(image, command.region)
    check_range(command.buffer_offset, size, buffer.size)
    if image.buffer is buffer:
        raise refuse(Status.MEM_COPY_OVERLAP)
    box = (command.origin, command.region)
    operation: tuple[object, ...]
    if isinstance(command, protocol.CopyImageToBuffer):
        operation = ("image_to_buffer", image.number, buffer.number, *box, command.buffer_offset)
    else:
        operation = ("buffer_to_image", buffer.number, image.number, command.buffer_offset, *box)
    work = Work(queue, operation, transfer_cost(context, size), (image, buffer))
    context.enqueue(work, waits, command.event)


@handles(protocol.FillImage)
def fill_image(context: Schedule, command: protocol.FillImage, found: Found) -> None:
    queue, image = found["queue"], found["image"]
    waits = waits_of(found, queue)
    check_scope(queue, image)
    _check_box(image, command.origin, command.region)
    operation = ("fill_image", image.number, command.color, command.origin, command.region)
    cost = transfer_cost(context, _bytes(image, command.region))
    context.enqueue(Work(queue, operation, cost, (image,)), waits, command.event)


@handles(protocol.MapImage)
def map_image(context: Schedule, command: protocol.MapImage, found: Found) -> None:
    queue, image = found["queue"], found["image"]
    waits = waits_of(found, queue)
    check_scope(queue, image)
    check_map(command.flags, image)
    _check_box(image, command.origin, command.region)
    ranges = ((image.blob_offset, image.size),)
    mapping = add_mapping(context, command.id, image, command.flags, ranges)
    operation = (
        "map_image",
        mapping.number,
        image.number,
        command.flags,
        command.origin,
        command.region,
    )
    enqueue_map(context, Work(queue, operation), mapping, waits, command.event)

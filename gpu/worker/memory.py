"""Buffers, images and samplers of one context, on the device.

How a buffer on guest memory reaches the device (`sharing`):

- zero-copy: the device computes on the guest's pages (CPU devices with unified memory);
- map: it may cache them, so a mapping by the guest is one of OpenCL's too;
- copy: it has memory of its own, copied when the guest maps and unmaps.

Host pointers that overlap are undefined in OpenCL: there is one object for a whole blob, and every
buffer on it is a part of that.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import pyopencl

from gpu.worker.mapping import Mapping

cl: Any = pyopencl
_low: Any = cl._cl
READ_WRITE = 1
USE_HOST_PTR = 1 << 3
MAP_READ = 1
MAP_FOR_WRITING = 6
_FILLED_AT_ONCE = 1 << 20
"""Bytes; patterns have up to 128, a power of two."""


class Memory:
    """One buffer or image. `root` and `origin` say of which object it is a part, and where."""

    def __init__(self, handle: Any, size: int, keep: object = None) -> None:
        self.handle = handle
        self.size = size
        self.root = handle
        self.origin = 0
        self.view: memoryview | None = None
        """Where it lies in this process, if the device computes there."""
        self.blob: Mapping | None = None
        self.blob_offset = 0
        self.pitches = (0, 0)
        self.shape: tuple[int, ...] = ()
        self.keep = keep


class Memories:
    """What the context has of memory, by the hypervisor's numbers."""

    def __init__(self, context: Any, queue: Any, sharing: str) -> None:
        self._context = context
        self._queue = queue
        self._sharing = sharing
        self.blobs: dict[int, Mapping] = {}
        self._whole: dict[int, Any] = {}
        self.objects: dict[int, Memory] = {}
        self.samplers: dict[int, Any] = {}
        self._maps: dict[int, Callable[[], None]] = {}
        self._is_checked = queue.device.platform.name == "Oclgrind"
        self.copied = 0
        """Bytes that were copied only because the device can not reach guest memory."""

    # -- blobs --------------------------------------------------------------------------------

    def grant(self, blob: int, fd: int, pieces: list[tuple[int, int]]) -> None:
        self.blobs[blob] = Mapping(fd, pieces)

    def revoke(self, blob: int) -> None:
        self._whole.pop(blob, None)
        self.blobs.pop(blob).cut_off()

    # -- buffers ------------------------------------------------------------------------------

    def buffer(self, number: int, size: int) -> None:
        """Zeroed memory of the device's own."""
        self.objects[number] = self._zeroed(size)

    def copied_buffer(self, number: int, size: int, blob: int, offset: int) -> None:
        memory = self.objects[number] = self._zeroed(size)
        self._write(memory, self.blobs[blob].bytes[offset : offset + size])

    def blob_buffer(self, number: int, size: int, blob: int, offset: int) -> None:
        mapping = self.blobs[blob]
        if self._sharing == "copy":
            memory = self._zeroed(size)
            self._write(memory, mapping.bytes[offset : offset + size])
            self.copied += size
        else:
            whole = self._whole.get(blob)
            if whole is None:
                flags = READ_WRITE | USE_HOST_PTR
                whole = _low.Buffer(self._context, flags, hostbuf=mapping.bytes)
                self._whole[blob] = whole
            memory = self._part(whole, mapping.size, offset, size)
            if self._sharing == "zero-copy":
                memory.view = mapping.bytes[offset : offset + size]
        memory.blob, memory.blob_offset = mapping, offset
        self.objects[number] = memory

    def sub_buffer(self, number: int, parent: int, origin: int, size: int) -> None:
        whole = self.objects[parent]
        memory = self._part(whole.root, -1, whole.origin + origin, size)
        memory.blob, memory.blob_offset = whole.blob, whole.blob_offset + origin
        if whole.view is not None:
            memory.view = whole.view[origin : origin + size]
        self.objects[number] = memory

    def owns_pages(self, number: int) -> bool:
        """Whether there is such an object, and memory of this process's that goes with it."""
        memory = self.objects.get(number)
        return memory is not None and memory.keep is not None

    def _part(self, root: Any, root_size: int, origin: int, size: int) -> Memory:
        whole = origin == 0 and size == root_size
        memory = Memory(root if whole else root.get_sub_region(origin, size), size, root)
        memory.root, memory.origin = root, origin
        return memory

    def _zeroed(self, size: int) -> Memory:
        """Device memory that shows nobody's old bytes."""
        if self._sharing == "zero-copy":
            # Not shared memory, as that is not counted by the process's limit.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            pages = mmap.mmap(-1, -(-size // 4096) * 4096, flags)
            view = memoryview(pages)[:size]
            flags = READ_WRITE | USE_HOST_PTR
            memory = Memory(_low.Buffer(self._context, flags, hostbuf=view), size, pages)
            memory.view = view
            return memory
        memory = Memory(_low.Buffer(self._context, READ_WRITE, size), size)
        # For Oclgrind it stays unwritten by that: who reads it is told so, and reads zeros.
        _low._enqueue_fill_buffer(self._queue, memory.handle, b"\0", 0, size).wait()
        return memory

    def fill(self, queue: Any, handle: Any, pattern: bytes, offset: int, size: int) -> Any:
        """Enqueue the filling of a buffer that a guest asked for."""
        if not self._is_checked:
            return _low._enqueue_fill_buffer(queue, handle, pattern, offset, size)
        # Oclgrind takes what it fills for unwritten.
        data = memoryview(pattern * (min(size, _FILLED_AT_ONCE) // len(pattern)))
        end, event = offset + size, None
        for at in range(offset, end, len(data)):
            part = data[: end - at]
            event = _low._enqueue_write_buffer(queue, handle, part, at, is_blocking=False)
        return event

    def _write(self, memory: Memory, data: memoryview) -> None:
        _low._enqueue_write_buffer(self._queue, memory.handle, data, is_blocking=True)

    # -- images and samplers ------------------------------------------------------------------

    def image(
        self,
        number: int,
        format_: tuple[int, int],
        kind: int,
        shape: tuple[int, int, int, int],
        pitches: tuple[int, int],
        source: tuple[str, int, int],
    ) -> None:
        """`shape`: width, height, depth, array size. `source`: "none", "blob", "copy" (of a blob)
        or "buffer", a number, and an offset."""
        how, origin, offset = source
        descriptor = _low.ImageDescriptor()
        descriptor.image_type = kind
        descriptor.shape = shape[:3]
        descriptor.array_size = shape[3]
        descriptor.pitches = (0, 0)
        descriptor.num_mip_levels = descriptor.num_samples = 0
        flags, host = READ_WRITE, None
        keep: object = None
        size = _image_bytes(shape, pitches)
        if how == "buffer":
            buffer = self._whole_buffer(self.objects[origin])
            descriptor.buffer = buffer
            keep = self.objects[origin], buffer
        elif how == "blob" and self._sharing != "copy":
            descriptor.pitches = pitches if kind not in (0x10F4, 0x10F6) else (0, 0)
            flags |= USE_HOST_PTR
            host = self.blobs[origin].bytes[offset : offset + size]
        memory = Memory(
            _low.Image(
                self._context, flags, _low.ImageFormat(*format_), hostbuf=host, desc=descriptor
            ),
            size,
            keep,
        )
        memory.pitches, memory.shape = pitches, _region(kind, shape)
        self.objects[number] = memory
        if how == "blob":
            memory.blob, memory.blob_offset = self.blobs[origin], offset
        if how == "copy" or (how == "blob" and self._sharing == "copy"):
            data = self.blobs[origin].bytes[offset : offset + size]
            self._write_image(memory, (0, 0, 0), memory.shape, data)
        elif how == "none":
            _low._enqueue_write_image(
                self._queue, memory.handle, (0, 0, 0), memory.shape, bytes(size), *pitches
            )

    def _whole_buffer(self, memory: Memory) -> Any:
        """PoCL 3.0 makes no image of a part of a buffer: one that is no part, in the same place."""
        if memory.view is None or memory.handle is memory.root:
            return memory.handle
        return _low.Buffer(self._context, READ_WRITE | USE_HOST_PTR, hostbuf=memory.view)

    def _write_image(
        self, memory: Memory, origin: tuple[int, ...], region: tuple[int, ...], data: Any
    ) -> None:
        _low._enqueue_write_image(self._queue, memory.handle, origin, region, data, *memory.pitches)

    def sampler(self, number: int, normalized: bool, addressing: int, filtering: int) -> None:
        self.samplers[number] = _low.Sampler(self._context, normalized, addressing, filtering)

    # -- mappings -----------------------------------------------------------------------------

    def map(self, mapping: int, number: int, flags: int, offset: int, size: int) -> None:
        """Make a part of a blob's buffer true in the blob."""
        memory = self.objects[number]
        assert memory.blob is not None
        if self._sharing == "copy":
            at = memory.blob_offset + offset
            view = memory.blob.bytes[at : at + size]
            if flags & MAP_READ or not flags & 4:
                _low._enqueue_read_buffer(
                    self._queue, memory.handle, view, offset, is_blocking=True
                )
                self.copied += size
            if flags & MAP_FOR_WRITING:
                self._maps[mapping] = lambda: self._write_back(memory, view, offset)
        elif self._sharing == "map":
            array, _ = _low.enqueue_map_buffer(
                self._queue, memory.handle, flags, offset, (size,), "u1", is_blocking=True
            )
            self._maps[mapping] = lambda: array.base.release(self._queue)

    def map_image(
        self,
        mapping: int,
        number: int,
        flags: int,
        origin: tuple[int, int, int],
        region: tuple[int, int, int],
    ) -> None:
        memory = self.objects[number]
        assert memory.blob is not None
        if self._sharing == "copy":
            view = memory.blob.bytes[memory.blob_offset : memory.blob_offset + memory.size]
            if flags & MAP_READ or not flags & 4:
                _low._enqueue_read_image(
                    self._queue, memory.handle, (0, 0, 0), memory.shape, view, *memory.pitches
                )
                self.copied += memory.size
            if flags & MAP_FOR_WRITING:
                self._maps[mapping] = lambda: self._write_image(
                    memory, (0, 0, 0), memory.shape, view
                )
        elif self._sharing == "map":
            array, *_ = cl.enqueue_map_image(
                self._queue, memory.handle, flags, origin, region, (1,), "u1", is_blocking=True
            )
            self._maps[mapping] = lambda: array.base.release(self._queue)

    def unmap(self, mapping: int) -> None:
        release = self._maps.pop(mapping, None)
        if release is not None:
            release()

    def _write_back(self, memory: Memory, view: memoryview, offset: int) -> None:
        _low._enqueue_write_buffer(self._queue, memory.handle, view, offset, is_blocking=True)
        self.copied += len(view)


def _image_bytes(shape: tuple[int, int, int, int], pitches: tuple[int, int]) -> int:
    """Bytes from an image's first to its last, its pitches given."""
    _, height, depth, layers = shape
    row, slice_ = pitches
    if depth > 1 or layers > 1:
        return slice_ * max(depth, layers)
    return row * max(height, 1)


def _region(kind: int, shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """An image's size as regions of commands give it."""
    width, height, depth, layers = shape
    if kind == 0x10F5:
        return width, layers, 1
    return width, max(height, 1), max(depth, layers, 1)

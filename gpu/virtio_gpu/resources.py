"""Resources of virtio-gpu: 2D pictures with a copy at the host, and blobs of guest memory.

All that resources make the host hold counts against one quota: a guest that asks for more is told
that memory is out.
"""

from __future__ import annotations

from struct import iter_unpack
from typing import Any

from gpu.display.scanout import (
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    MAX_SIDE,
    Format,
    GuestPixels,
    Picture,
    Rect,
)
from gpu.virtio_gpu.protocol import MEMORY_ENTRY, CommandError, Response
from hypervisor.device import GuestMemory

PAGE = 4096
MAX_ENTRIES = 1 << 16
"""Pieces of one resource's memory, as the driver lists them."""
_RESOURCE_COST = 512
_ENTRY_COST = 128
"""Bytes of the host's that a resource's, and a piece's, bookkeeping takes."""

Pieces = list[tuple[int, int]]


class Quota:
    """Bytes that may be held, and how many are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        if self.used + size > self.limit:
            raise CommandError(
                Response.ERR_OUT_OF_MEMORY,
                f"{size} bytes more than the {self.used} in use exceed the display's "
                f"{self.limit} bytes of memory",
            )
        self.used += size

    def give(self, size: int) -> None:
        self.used -= size


class Resource:
    """Something that the driver names by a number: its backing is guest memory."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        """Bytes that it has, whatever its backing has."""
        self.backing: GuestPixels | None = None

    @property
    def held(self) -> int:
        """Bytes of the quota."""
        pieces = len(self.backing.pieces) if self.backing is not None else 0
        return _RESOURCE_COST + _ENTRY_COST * pieces

    def picture(self) -> Picture | None:
        """All of it as a picture, if it is one."""
        return None

    def save(self) -> dict[str, Any]:
        pieces = self.backing.pieces if self.backing is not None else None
        return {
            "number": self.number,
            "size": self.size,
            "pieces": None if pieces is None else [list(piece) for piece in pieces],
        }


class Picture2D(Resource):
    """A picture whose copy at the host is what is shown; `transfer` brings it up to date."""

    def __init__(self, number: int, form: Format, width: int, height: int) -> None:
        super().__init__(number, width * height * BYTES_PER_PIXEL)
        self.format = form
        self.width = width
        self.height = height
        self.pixels = bytearray(self.size)

    @property
    def held(self) -> int:
        return super().held + self.size

    def picture(self) -> Picture:
        return Picture(self.width, self.height, self.stride, 0, self.format, self)

    @property
    def stride(self) -> int:
        return self.width * BYTES_PER_PIXEL

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(self.pixels)[offset : offset + size]

    def transfer(self, rect: Rect, offset: int) -> None:
        """Copy a part from the backing, where it begins at `offset` and has the picture's
        stride (section 5.7.6.8)."""
        row = rect.width * BYTES_PER_PIXEL
        to = rect.y * self.stride + rect.x * BYTES_PER_PIXEL
        if self.backing is None:
            raise CommandError(
                Response.ERR_UNSPEC, f"resource {self.number} has no memory to transfer from"
            )
        if not row or not rect.height:
            return
        if offset + (rect.height - 1) * self.stride + row > self.backing.size:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER,
                f"a transfer from byte {offset} leaves the memory of resource {self.number}",
            )
        read, pixels, stride = self.backing.read, self.pixels, self.stride
        if row == stride:
            pixels[to : to + row * rect.height] = read(offset, row * rect.height)
            return
        for y in range(0, rect.height * stride, stride):
            pixels[to + y : to + y + row] = read(offset + y, row)

    def save(self) -> dict[str, Any]:
        return super().save() | {
            "format": int(self.format),
            "width": self.width,
            "height": self.height,
            "pixels": bytes(self.pixels),
        }


class Blob(Resource):
    """A run of guest memory."""


class Resources:
    """All resources of the device, by their numbers, and what they hold."""

    def __init__(self, memory: GuestMemory, limit: int) -> None:
        self._memory = memory
        self._table: dict[int, Resource] = {}
        self.quota = Quota(limit)

    def clear(self) -> None:
        self._table.clear()
        self.quota.used = 0

    def get(self, number: int) -> Resource:
        resource = self._table.get(number)
        if resource is None:
            raise CommandError(Response.ERR_INVALID_RESOURCE_ID, f"there is no resource {number}")
        return resource

    def picture(self, number: int) -> Picture2D:
        """The 2D resource of this number."""
        resource = self.get(number)
        if not isinstance(resource, Picture2D):
            raise CommandError(
                Response.ERR_INVALID_RESOURCE_ID, f"resource {number} is no 2D picture"
            )
        return resource

    def create_2d(self, number: int, form: int, width: int, height: int) -> None:
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise CommandError(
                Response.ERR_INVALID_PARAMETER, f"a picture has {width} x {height} pixels"
            )
        if width * height > MAX_PIXELS:
            raise CommandError(
                Response.ERR_OUT_OF_MEMORY, f"{width} x {height} pixels are more than {MAX_PIXELS}"
            )
        self._check_new(number)
        layout = pixel_format(form)
        # Asked before the pixels are there: a refusal must cost nothing.
        self.quota.take(_RESOURCE_COST + width * height * BYTES_PER_PIXEL)
        self._table[number] = Picture2D(number, layout, width, height)

    def create_blob(self, number: int, size: int, pieces: Pieces) -> Blob:
        self._check_new(number)
        blob = Blob(number, size)
        self.quota.take(_RESOURCE_COST)
        self._table[number] = blob
        try:
            self.attach(blob, pieces)
            if blob.backing is None or blob.backing.size < size or not size:
                raise CommandError(
                    Response.ERR_INVALID_PARAMETER,
                    f"blob {number} of {size} bytes has less memory than that",
                )
        except CommandError:
            self.remove(number)
            raise
        return blob

    def attach(self, resource: Resource, pieces: Pieces) -> None:
        """Give a resource its memory."""
        if resource.backing is not None:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER, f"resource {resource.number} has memory already"
            )
        self.quota.take(_ENTRY_COST * len(pieces))
        resource.backing = GuestPixels(self._memory, pieces)

    def detach(self, resource: Resource) -> None:
        held = resource.held
        resource.backing = None
        self.quota.give(held - resource.held)

    def remove(self, number: int) -> Resource:
        resource = self.get(number)
        self.quota.give(resource.held)
        del self._table[number]
        return resource

    def parse_entries(self, data: bytes, count: int) -> Pieces:
        """The memory that a request lists: `count` entries, neighbours made one. All in RAM."""
        if not 0 < count <= MAX_ENTRIES or len(data) != count * MEMORY_ENTRY.size:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER,
                f"a resource's memory has {count} entries in {len(data)} bytes",
            )
        pieces: Pieces = []
        for address, size in iter_unpack(MEMORY_ENTRY.format, data):
            if not size or not self._memory.contains(address, size):
                raise CommandError(
                    Response.ERR_INVALID_PARAMETER,
                    f"a resource has {size} bytes at {address:#x}, not in RAM",
                )
            start, before = pieces[-1] if pieces else (0, 0)
            if before and start + before == address and before + size < 1 << 32:
                pieces[-1] = (start, before + size)
            else:
                pieces.append((address, size))
        return pieces

    def _check_new(self, number: int) -> None:
        if not number or number in self._table:
            raise CommandError(
                Response.ERR_INVALID_RESOURCE_ID, f"the resource number {number} is not free"
            )

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> list[dict[str, Any]]:
        return [resource.save() for resource in self._table.values()]

    def load(self, states: list[dict[str, Any]]) -> None:
        """ValueError where a snapshot cannot be right."""
        self.clear()
        try:
            for state in states:
                self._load(state)
        except CommandError as error:
            self.clear()
            raise ValueError(f"the snapshot's display cannot be: {error}") from None

    def _load(self, state: dict[str, Any]) -> None:
        number, size = int(state["number"]), int(state["size"])
        pieces = state["pieces"]
        if "pixels" in state:
            self.create_2d(number, state["format"], state["width"], state["height"])
            picture = self.picture(number)
            if len(state["pixels"]) != picture.size:
                raise ValueError(f"the snapshot's picture {number} is not whole")
            picture.pixels[:] = state["pixels"]
        else:
            self._check_new(number)
            self.quota.take(_RESOURCE_COST)
            self._table[number] = Blob(number, size)
        if pieces is not None:
            packed = b"".join(MEMORY_ENTRY.pack(*piece) for piece in pieces)
            self.attach(self._table[number], self.parse_entries(packed, len(pieces)))


def pixel_format(number: int) -> Format:
    try:
        return Format(number)
    except ValueError:
        raise CommandError(
            Response.ERR_INVALID_PARAMETER, f"there is no pixel format {number}"
        ) from None

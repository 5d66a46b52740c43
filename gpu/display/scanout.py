"""What a display shows: a picture, a cursor on it, and who watches.

A front end says what is shown (`show`, `flush`, the cursor); PNG files and VNC take it from here.
Pixels stay where the front end has them, in guest memory or in its own, and are read when wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpu.display.png import png
from hypervisor.device import GuestMemory

BYTES_PER_PIXEL = 4
MAX_SIDE = 16384
"""Pixels of a picture's width or height."""
MAX_PIXELS = 1 << 25
"""Of a picture: who looks at it holds copies."""

Pixels = NDArray[np.uint8]
"""Rows, columns, and the four bytes B, G, R, unused."""


class Format(IntEnum):
    """Order of a pixel's bytes in memory (numbers: VIRTIO 1.2, virtio_gpu_formats)."""

    B8G8R8A8 = 1
    B8G8R8X8 = 2
    A8R8G8B8 = 3
    X8R8G8B8 = 4
    R8G8B8A8 = 67
    X8B8G8R8 = 68
    A8B8G8R8 = 121
    R8G8B8X8 = 134

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Which byte is blue, green, red, and alpha (or unused)."""
        letters = self.name[::2]
        alpha = letters.index("A") if "A" in letters else letters.index("X")
        return letters.index("B"), letters.index("G"), letters.index("R"), alpha


class Rect(NamedTuple):
    """A part of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def clipped(self, width: int, height: int) -> Rect:
        """What of it lies within `width` x `height`."""
        return self.within(Rect(0, 0, width, height))

    def within(self, other: Rect) -> Rect:
        """What of it lies within another; its width or height is 0 where nothing does."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Rect(left, top, max(right - left, 0), max(bottom - top, 0))

    def union(self, other: Rect) -> Rect:
        """The smallest that holds both. An empty one holds nothing."""
        if not self.width or not self.height:
            return other
        if not other.width or not other.height:
            return self
        left, top = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Rect(left, top, right - left, bottom - top)


class PixelSource(Protocol):
    """Where pixels lie. `read` is only asked for bytes that a Picture covers."""

    def read(self, offset: int, size: int) -> bytes | bytearray | memoryview: ...


class GuestPixels:
    """Pixels in guest memory: `pieces` are (guest-physical address, bytes), one after another."""

    def __init__(self, memory: GuestMemory, pieces: Sequence[tuple[int, int]]) -> None:
        self._memory = memory
        self.pieces = tuple(pieces)
        starts, total = [], 0
        for _, size in self.pieces:
            starts.append(total)
            total += size
        self.size = total
        self._starts = np.array(starts, np.uint64)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes `offset` to `offset + size` of all pieces in a row, which must have them."""
        index = max(int(np.searchsorted(self._starts, offset, side="right")) - 1, 0)
        found = []
        while size:
            address, length = self.pieces[index]
            skip = offset - int(self._starts[index])
            part = min(length - skip, size)
            found.append(self._memory.read(address + skip, part))
            offset += part
            size -= part
            index += 1
        return found[0] if len(found) == 1 else b"".join(found)


@dataclass(frozen=True)
class Picture:
    """`height` rows of `width` pixels; the first at byte `offset` of `pixels`, each row `stride`
    bytes behind the one before. ValueError where that cannot be."""

    width: int
    height: int
    stride: int
    offset: int
    format: Format
    pixels: PixelSource

    def __post_init__(self) -> None:
        sides = 0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE
        if not sides or self.width * self.height > MAX_PIXELS:
            raise ValueError(f"a picture of {self.width} x {self.height} pixels cannot be shown")
        if self.stride < self.width * BYTES_PER_PIXEL:
            raise ValueError(f"{self.stride} bytes are too few for rows of {self.width} pixels")
        if self.offset < 0:
            raise ValueError(f"a picture cannot begin at byte {self.offset}")

    @property
    def end(self) -> int:
        """Bytes of `pixels` up to the picture's last."""
        return self.offset + (self.height - 1) * self.stride + self.width * BYTES_PER_PIXEL

    def read(self, rect: Rect) -> Pixels:
        """The pixels of a part, which must lie inside."""
        start = self.offset + rect.y * self.stride + rect.x * BYTES_PER_PIXEL
        row = rect.width * BYTES_PER_PIXEL
        read = self.pixels.read
        if row == self.stride:
            data = read(start, row * rect.height)
        else:
            data = b"".join(read(start + y * self.stride, row) for y in range(rect.height))
        pixels = np.frombuffer(data, np.uint8).reshape(rect.height, rect.width, 4)
        return pixels[..., list(self.format.order)]


@dataclass
class Cursor:
    """A cursor: where its picture's corner is, and the picture; None while it is hidden."""

    x: int = 0
    y: int = 0
    image: Pixels | None = None
    """As Pixels, with alpha in the last byte; color is multiplied by alpha already."""

    @property
    def rect(self) -> Rect:
        if self.image is None:
            return Rect(0, 0, 0, 0)
        return Rect(self.x, self.y, self.image.shape[1], self.image.shape[0])


Watcher = Callable[[Rect], None]


class Scanout:
    """One display, `width` x `height` pixels while it shows nothing."""

    def __init__(self, width: int, height: int) -> None:
        self.preferred = (width, height)
        self.picture: Picture | None = None
        self.cursor = Cursor()
        self.watchers: list[Watcher] = []
        """Called on the machine's thread with what changed; `size` may have too."""

    @property
    def size(self) -> tuple[int, int]:
        picture = self.picture
        return self.preferred if picture is None else (picture.width, picture.height)

    def show(self, picture: Picture | None) -> None:
        """Show another picture; None: nothing, which is black."""
        self.picture = picture
        self.flush()

    def flush(self, rect: Rect | None = None) -> None:
        """Pixels of the picture changed: those of `rect`, or all."""
        width, height = self.size
        changed = (rect or Rect(0, 0, width, height)).clipped(width, height)
        if changed.width and changed.height:
            for watcher in self.watchers:
                watcher(changed)

    def set_cursor(self, image: Pixels | None) -> None:
        """Give the cursor another picture; None hides it."""
        before = self.cursor.rect
        self.cursor.image = image
        self._flush_cursor(before)

    def move_cursor(self, x: int, y: int) -> None:
        """Put the corner of the cursor's picture there."""
        before = self.cursor.rect
        self.cursor.x, self.cursor.y = x, y
        self._flush_cursor(before)

    def read(self, rect: Rect | None = None) -> Pixels:
        """What a viewer sees of `rect`, or of all: the picture with its cursor."""
        width, height = self.size
        rect = (rect or Rect(0, 0, width, height)).clipped(width, height)
        if self.picture is None:
            pixels = np.zeros((rect.height, rect.width, 4), np.uint8)
        else:
            pixels = self.picture.read(rect)
        self._draw_cursor(pixels, rect)
        return pixels

    def rgb(self) -> tuple[int, int, bytes]:
        """Width, height, and the pixels as R, G, B."""
        pixels = self.read()
        return pixels.shape[1], pixels.shape[0], pixels[..., 2::-1].tobytes()

    def screenshot(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """The picture as a PNG file, written to `path` where one is given."""
        data = png(*self.rgb())
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def save(self) -> dict[str, Any]:
        """All but the picture, whose pixels are the front end's to name."""
        cursor = self.cursor
        image = cursor.image
        return {
            "preferred": list(self.preferred),
            "cursor": [cursor.x, cursor.y],
            "image": None if image is None else [*image.shape[:2], image.tobytes()],
        }

    def load(self, state: dict[str, Any], picture: Picture | None) -> None:
        """Take what `save` gave, and the picture. ValueError where a snapshot cannot be right."""
        width, height = state["preferred"]
        image = state["image"]
        if image is not None:
            rows, columns, data = image
            image = np.frombuffer(data, np.uint8).reshape(rows, columns, 4)
        x, y = state["cursor"]
        self.preferred = (int(width), int(height))
        self.cursor = Cursor(int(x), int(y), image)
        self.show(picture)

    def _flush_cursor(self, before: Rect) -> None:
        for rect in (before, self.cursor.rect):
            if rect.width:
                self.flush(rect)

    def _draw_cursor(self, pixels: Pixels, rect: Rect) -> None:
        cursor = self.cursor
        if cursor.image is None:
            return
        seen = cursor.rect.within(rect)
        if not seen.width or not seen.height:
            return
        left, top = seen.x, seen.y
        right, bottom = left + seen.width, top + seen.height
        image = cursor.image[top - cursor.y : bottom - cursor.y, left - cursor.x : right - cursor.x]
        under = pixels[top - rect.y : bottom - rect.y, left - rect.x : right - rect.x]
        weight = 255 - image[..., 3:].astype(np.uint16)
        mixed = image[..., :3] + (under[..., :3] * weight + 127) // 255
        under[..., :3] = np.minimum(mixed, 255).astype(np.uint8)

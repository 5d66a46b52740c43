"""How pixels go over the wire: the client's pixel format, and the encodings raw, zlib and ZRLE.

Follows RFC 6143, sections 7.4 and 7.7. Encoding 6 (zlib: raw pixels in one stream of zlib's) is not
in the RFC, and is IANA's registered number.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gpu.display.scanout import Pixels

RAW, ZLIB, ZRLE = 0, 6, 16
DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE = -223, -308

_TILE = 64
_RAW_TILE, _SOLID_TILE = b"\x00", b"\x01"
_FORMAT = struct.Struct(">4B3H3B3x")


class FormatError(ValueError):
    """A pixel format that cannot be: one sentence."""


class PixelFormat(NamedTuple):
    """PIXEL_FORMAT as a client sets it (RFC 6143, section 7.4)."""

    bits: int
    depth: int
    big_endian: int
    true_color: int
    red_max: int
    green_max: int
    blue_max: int
    red_shift: int
    green_shift: int
    blue_shift: int

    @classmethod
    def parse(cls, data: bytes) -> PixelFormat:
        """FormatError where no pixels can be made of it."""
        form = cls(*_FORMAT.unpack(data))
        if form.bits not in (8, 16, 32):
            raise FormatError(f"pixels of {form.bits} bits are asked for; 8, 16 and 32 there are")
        if not form.true_color:
            raise FormatError("a color map is asked for, and true color is all there is")
        for largest, shift in form.channels:
            if largest & (largest + 1) or (largest << shift).bit_length() > form.bits:
                raise FormatError(
                    f"a color of at most {largest}, shifted by {shift}, fits no pixel"
                )
        return form

    def pack(self) -> bytes:
        return _FORMAT.pack(*self)

    @property
    def channels(self) -> tuple[tuple[int, int], ...]:
        """(largest value, shift) of blue, green and red."""
        return (
            (self.blue_max, self.blue_shift),
            (self.green_max, self.green_shift),
            (self.red_max, self.red_shift),
        )

    def convert(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Rows, columns and the bytes of each pixel."""
        if self == NATIVE:
            return pixels
        height, width = pixels.shape[:2]
        value = np.zeros((height, width), np.uint32)
        for index, (largest, shift) in enumerate(self.channels):
            color = pixels[..., index].astype(np.uint32)
            value |= (color * largest + 127) // 255 << np.uint32(shift)
        code = f"{'>' if self.big_endian else '<'}u{self.bits // 8}"
        packed = np.ascontiguousarray(value.astype(code))
        return packed.view(np.uint8).reshape(height, width, self.bits // 8)

    @property
    def compact(self) -> slice:
        """Which bytes of a pixel are ZRLE's CPIXEL (section 7.7.5)."""
        used = 0
        for largest, shift in self.channels:
            used |= largest << shift
        if self.bits == 32 and self.depth <= 24:
            if not used >> 24:
                return slice(1, 4) if self.big_endian else slice(0, 3)
            if not used & 0xFF:
                return slice(0, 3) if self.big_endian else slice(1, 4)
        return slice(0, self.bits // 8)


NATIVE = PixelFormat(32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""As Pixels are."""


class Encoder(Protocol):
    """Makes a rectangle's bytes of its pixels. One client's: some carry on a stream."""

    number: int

    def encode(self, pixels: Pixels, form: PixelFormat) -> bytes: ...


class RawEncoder:
    number = RAW

    def encode(self, pixels: Pixels, form: PixelFormat) -> bytes:
        return form.convert(pixels).tobytes()


class ZlibEncoder:
    number = ZLIB

    def __init__(self) -> None:
        self._stream = zlib.compressobj(1)

    def encode(self, pixels: Pixels, form: PixelFormat) -> bytes:
        return _deflate(self._stream, form.convert(pixels).tobytes())


class ZrleEncoder:
    """Tiles of one color as that color, others as they are: the stream's zlib does the rest."""

    number = ZRLE

    def __init__(self) -> None:
        self._stream = zlib.compressobj(1)

    def encode(self, pixels: Pixels, form: PixelFormat) -> bytes:
        compact = form.convert(pixels)[..., form.compact]
        height, width = compact.shape[:2]
        tiles = []
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                tile = compact[y : y + _TILE, x : x + _TILE]
                if (tile == tile[0, 0]).all():
                    tiles.append(_SOLID_TILE + tile[0, 0].tobytes())
                else:
                    tiles.append(_RAW_TILE + tile.tobytes())
        return _deflate(self._stream, b"".join(tiles))


ENCODERS: dict[int, type[RawEncoder] | type[ZlibEncoder] | type[ZrleEncoder]] = {
    RAW: RawEncoder,
    ZLIB: ZlibEncoder,
    ZRLE: ZrleEncoder,
}


def _deflate(stream: zlib._Compress, data: bytes) -> bytes:
    packed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
    return struct.pack(">I", len(packed)) + packed

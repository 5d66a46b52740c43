"""PNG files: 8-bit RGB, one picture, no interlace (ISO/IEC 15948, sections 5, 10 and 11)."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOR = 2
_FILTER_NONE = b"\0"


def png(width: int, height: int, rgb: bytes) -> bytes:
    """The file of `height` rows of `width` pixels, 3 bytes each."""
    row = 3 * width
    lines = b"".join(_FILTER_NONE + rgb[at : at + row] for at in range(0, row * height, row))
    header = struct.pack(">2I5B", width, height, 8, _TRUECOLOR, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

"""EDID of a display that has one preferred mode (VESA E-EDID standard, release A, version 1.4)."""

from __future__ import annotations

import struct

_HEADER = bytes.fromhex("00ffffffffffff00")
_VENDOR = "HVD"
_NAME = b"Hypervisor"
_REFRESH = 60
_MILLIMETERS_PER_INCH, _DOTS_PER_INCH = 25.4, 96
# Chromaticity of sRGB's primaries and white point.
_SRGB = bytes.fromhex("ee91a3544c99260f5054")
_DIGITAL_8_BIT = 0xA5
_PREFERRED_IS_NATIVE_SRGB = 0x06
_GAMMA_2_2 = 120


MAX_SIDE = 4095
"""Pixels of a side that the timing descriptor can say."""


def edid(width: int, height: int) -> bytes:
    """The base block, 128 bytes, for `width` x `height` pixels (at most MAX_SIDE) at 60 Hz."""
    mm = [round(side / _DOTS_PER_INCH * _MILLIMETERS_PER_INCH) for side in (width, height)]
    head = _HEADER + _vendor_id() + struct.pack("<HIBB", 1, 1, 0, 30) + bytes((1, 4))
    basic = bytes(
        (
            _DIGITAL_8_BIT,
            *(min(max(side // 10, 1), 255) for side in mm),
            _GAMMA_2_2,
            _PREFERRED_IS_NATIVE_SRGB,
        )
    )
    established = bytes(3)
    standard = b"\x01\x01" * 8
    name = b"\0\0\0\xfc\0" + (_NAME + b"\n").ljust(13)
    limits = b"\0\0\0\xfd\0" + bytes((24, 75, 15, 255, 255, 1)) + b"\n      "
    unused = b"\0\0\0\x10" + bytes(14)
    block = (
        head + basic + _SRGB + established + standard
        + _timing(width, height, *mm) + name + limits + unused + b"\0"
    )  # fmt: skip
    return block + bytes((-sum(block) % 256,))


def _vendor_id() -> bytes:
    first, second, third = (ord(letter) - 64 for letter in _VENDOR)
    return struct.pack(">H", first << 10 | second << 5 | third)


def _timing(width: int, height: int, width_mm: int, height_mm: int) -> bytes:
    """Detailed timing descriptor, with blanking that no monitor will see. A clock that its field
    cannot hold is told as the highest, which makes a lower rate."""
    blank_x, front_x, sync_x = 160, 48, 32
    blank_y, front_y, sync_y = 35, 3, 6
    clock = (width + blank_x) * (height + blank_y) * _REFRESH // 10_000
    return struct.pack(
        "<H16B",
        min(clock, 0xFFFF),
        *(width & 0xFF, blank_x, width >> 8 << 4),
        *(height & 0xFF, blank_y, height >> 8 << 4),
        *(front_x, sync_x, front_y << 4 | sync_y, 0),
        *(width_mm & 0xFF, height_mm & 0xFF),
        width_mm >> 8 << 4 | height_mm >> 8,
        *(0, 0, 0x1A),
    )

"""What a guest learns before it asks."""

from __future__ import annotations

import struct
from typing import Annotated

from gpu.protocol.fields import I32, U32, Counted
from gpu.protocol.limits import MAX_ANSWER, MAX_COMMANDS, MAX_INLINE, MAX_STREAM, RINGS, VERSION
from gpu.protocol.packets import Record


class Capset(Record):
    """The device, as virtio-gpu's capability set and the ring's information page carry it.

    `platform` and `device` answer clGetPlatformInfo and clGetDeviceInfo without a round trip: one
    entry a parameter of u32 name, u32 bytes, and the value as a 64-bit little-endian guest has it
    (text with its NUL), padded to 8 bytes. `status` is DEVICE_NOT_FOUND where the host has no
    OpenCL device; the lists are empty then."""

    version: U32 = VERSION
    status: I32 = 0
    max_stream: U32 = MAX_STREAM
    max_commands: U32 = MAX_COMMANDS
    max_answer: U32 = MAX_ANSWER
    max_inline: U32 = MAX_INLINE
    rings: U32 = RINGS
    platform: Annotated[bytes, Counted("s", 1 << 14)] = b""
    device: Annotated[bytes, Counted("s", 1 << 16)] = b""


def pack_parameters(values: dict[int, bytes]) -> bytes:
    """`platform` or `device` of a Capset."""
    return b"".join(
        struct.pack("<II", name, len(value)) + value + bytes(-len(value) % 8)
        for name, value in sorted(values.items())
    )

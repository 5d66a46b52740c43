"""Ethernet frames, and how they travel over a stream socket.

A stream carries each frame behind its length as 32 bits, big-endian: what passt and QEMU's
`-netdev stream` speak.
"""

from __future__ import annotations

import struct
from collections import deque

MIN_FRAME = 14
"""An Ethernet header. Padding to 60 bytes is the wire's matter and there is no wire here."""
MAX_FRAME = 65_550

_LENGTH = struct.Struct(">I")


def is_frame(data: bytes) -> bool:
    """Whether a link may carry these bytes as one frame."""
    return MIN_FRAME <= len(data) <= MAX_FRAME


def encode(frame: bytes) -> bytes:
    """A frame as it goes on a stream."""
    return _LENGTH.pack(len(frame)) + frame


class Decoder:
    """Cuts a stream back into frames, from pieces of any size.

    A frame of a length that no frame has is passed over and counted in `invalid`; its bytes are
    never collected, so a peer that lies about a length costs no memory.
    """

    def __init__(self) -> None:
        self.invalid = 0
        self._pending = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that end within `data`, in order."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        pending = self._pending
        pending += memoryview(data)[skipped:]
        frames = []
        at = 0
        while len(pending) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(pending, at)
            start = at + _LENGTH.size
            if not MIN_FRAME <= length <= MAX_FRAME:
                self.invalid += 1
                at = min(start + length, len(pending))
                self._skip = start + length - at
                continue
            if start + length > len(pending):
                break
            frames.append(bytes(memoryview(pending)[start : start + length]))
            at = start + length
        del pending[:at]
        return frames


class FrameQueue:
    """Frames that wait, at most so many of them and at most so many bytes."""

    def __init__(self, frames: int = 4096, size: int = 8 << 20) -> None:
        self._limit = frames
        self._half = size // 2
        self._room = size
        self._waiting: deque[memoryview] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_half_full(self) -> bool:
        return len(self._waiting) >= self._limit // 2 or self._room <= self._half

    def push(self, frame: bytes | memoryview) -> bool:
        """Add a frame at the end; False when there is no room for it."""
        if len(self._waiting) >= self._limit or len(frame) > self._room:
            return False
        self._room -= len(frame)
        self._waiting.append(memoryview(frame))
        return True

    def head(self) -> memoryview:
        return self._waiting[0]

    def take(self, length: int) -> None:
        """Remove that many bytes of the head; what is left of it stays the head."""
        head = self._waiting.popleft()
        self._room += length
        if length < len(head):
            self._waiting.appendleft(head[length:])

    def pop(self) -> memoryview:
        """Remove the head and return it."""
        head = self._waiting.popleft()
        self._room += len(head)
        return head

    def clear(self) -> None:
        while self._waiting:
            self.pop()

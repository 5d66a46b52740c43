"""Granted guest memory: where it lies, and the worker's copy of it where it gets one."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from gpu.worker.sealed import sealed_file
from hypervisor.device.board import GuestMemory, MemoryAccessError

PAGE = 4096


class Blob:
    """`pieces` are guest-physical (address, bytes), whole pages, one after another.

    With a shadow the worker never sees guest memory: ranges that commands read are copied in when
    they are sent, ranges that they write are copied out when they are complete. OSError where the
    host's limits leave no room for it.
    """

    def __init__(
        self,
        number: int,
        pieces: Sequence[tuple[int, int]],
        memory: GuestMemory,
        has_shadow: bool,
    ) -> None:
        self.number = number
        self.pieces = merge(pieces)
        self.size = sum(size for _, size in self.pieces)
        self.is_revoked = False
        self._memory = memory
        self._starts: list[int] = []
        at = 0
        for _, size in self.pieces:
            self._starts.append(at)
            at += size
        self._shadow: mmap.mmap | None = None
        self.shadow_fd = -1
        self._owed: list[tuple[int, int]] = []
        if has_shadow:
            self.shadow_fd = sealed_file("gpu-blob", self.size)
            try:
                self._shadow = mmap.mmap(self.shadow_fd, self.size)
            except OSError:
                os.close(self.shadow_fd)
                raise

    @property
    def has_shadow(self) -> bool:
        return self._shadow is not None

    def holds(self, offset: int, size: int) -> bool:
        return offset + size <= self.size

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of guest memory."""
        return b"".join(self._memory.read(at, part) for at, part in self.split(offset, size))

    def write(self, offset: int, data: bytes | memoryview) -> None:
        done = 0
        for at, part in self.split(offset, len(data)):
            self._memory.write(at, data[done : done + part])
            done += part

    def split(self, offset: int, size: int) -> list[tuple[int, int]]:
        """Where a range lies: guest-physical (address, bytes)."""
        found = []
        index = bisect_right(self._starts, offset) - 1
        while size > 0:
            address, length = self.pieces[index]
            skip = offset - self._starts[index]
            part = min(size, length - skip)
            found.append((address + skip, part))
            offset += part
            size -= part
            index += 1
        return found

    # -- the shadow ---------------------------------------------------------------------------

    def copy_in(self, offset: int, size: int) -> int:
        """Before a command reads a range. What the worker has still to give back is newer than
        the guest's. Bytes copied."""
        if self._shadow is None:
            return 0
        copied = 0
        for at, end in without((offset, offset + size), self._owed):
            self._shadow[at:end] = self.read(at, end - at)
            copied += end - at
        return copied

    def owe(self, offset: int, size: int) -> None:
        """A command that was sent writes this range."""
        if self._shadow is not None:
            self._owed.append((offset, offset + size))

    def copy_out(self, offset: int, size: int) -> int:
        """After a command wrote a range. Bytes copied."""
        if self._shadow is None:
            return 0
        if (offset, offset + size) in self._owed:
            self._owed.remove((offset, offset + size))
        self.write(offset, self._shadow[offset : offset + size])
        return size

    def save_shadow(self) -> bytes | None:
        return self._shadow[:] if self._shadow is not None else None

    def load_shadow(self, data: bytes, owed: list[Any]) -> None:
        if self._shadow is not None:
            self._shadow[:] = data
            self._owed = [(int(start), int(end)) for start, end in owed]

    @property
    def owed(self) -> list[tuple[int, int]]:
        return self._owed

    def close(self) -> None:
        if self._shadow is not None:
            self._shadow.close()
            self._shadow = None
            os.close(self.shadow_fd)


def merge(pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pieces that follow each other, as one."""
    merged: list[tuple[int, int]] = []
    for address, size in pieces:
        if merged and merged[-1][0] + merged[-1][1] == address:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((address, size))
    return merged


def check_pieces(pieces: Sequence[tuple[int, int]], memory: GuestMemory) -> None:
    """Refuse with MemoryAccessError what is not whole pages of RAM."""
    for address, size in pieces:
        if address % PAGE or size % PAGE or size <= 0:
            raise MemoryAccessError(f"{size} bytes at {address:#x} are not whole pages")
        if not memory.contains(address, size):
            raise MemoryAccessError(f"{size} bytes at {address:#x} are not RAM")


def without(whole: tuple[int, int], holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of (start, end) that no hole covers."""
    parts = [whole]
    for start, end in holes:
        left = []
        for first, last in parts:
            if end <= first or start >= last:
                left.append((first, last))
                continue
            if first < start:
                left.append((first, start))
            if end < last:
                left.append((end, last))
        parts = left
    return parts

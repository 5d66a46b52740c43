"""Guest-physical RAM: one memfd, mapped once, seen by the engine, DMA and the host's tools."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator

from hypervisor.cpu.cells import ClockCell
from hypervisor.device.backends import BackendError
from hypervisor.device.board import MemoryAccessError

PAGE = 4096
_ZEROES = bytes(PAGE)


_SIZE_IS_FINAL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Memory:
    """`size` bytes of RAM at guest-physical `base`. Writes here tell `on_write`."""

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self.fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            # A process that is given it, as the GPU's workers are, must not be able to shrink it:
            # that would end this one with SIGBUS.
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SIZE_IS_FINAL)
            self.map = mmap.mmap(self.fd, size)
        except OSError as error:
            os.close(self.fd)
            raise BackendError(
                f"the host cannot give {size >> 20} MiB of RAM: {error.strerror}"
            ) from None
        self._view = memoryview(self.map)
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.host_address = ctypes.addressof(self._anchor)
        self.on_write: list[ClockCell] = []

    def contains(self, address: int, size: int) -> bool:
        return self.base <= address and address + size <= self.base + self.size

    def _offset(self, address: int, size: int) -> int:
        offset = address - self.base
        if offset < 0 or size < 0 or offset + size > self.size:
            raise MemoryAccessError(f"{size} bytes at {address:#x} are not RAM")
        return offset

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a guest-physical address; MemoryAccessError outside RAM."""
        offset = self._offset(address, size)
        return self.map[offset : offset + size]

    def view(self, address: int, size: int) -> memoryview:
        """The bytes themselves. Whoever writes through it calls `wrote` afterwards."""
        offset = self._offset(address, size)
        return self._view[offset : offset + size]

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        offset = self._offset(address, len(data))
        self._view[offset : offset + len(data)] = data
        self.wrote()

    def wrote(self) -> None:
        """RAM was written behind the engine's back: the guest's next fence.i must flush."""
        for cell in self.on_write:
            cell.host_writes += 1

    def clear(self) -> None:
        """All zeroes, and the host's memory given back."""
        self.map.madvise(mmap.MADV_REMOVE)

    def extents(self) -> Iterator[tuple[int, int]]:
        """Numbers of 4 KiB pages, first and behind the last, that the host holds memory for; all
        others are zeroes."""
        position = 0
        while position < self.size:
            try:
                start = os.lseek(self.fd, position, os.SEEK_DATA)
            except OSError:  # no data beyond
                return
            position = os.lseek(self.fd, start, os.SEEK_HOLE)
            yield start // PAGE, position // PAGE

    def pages(self) -> list[int]:
        """Offsets of the 4 KiB pages that hold anything but zeroes."""
        import numpy as np

        found: list[int] = []
        for first, last in self.extents():
            start = first * PAGE
            words = np.frombuffer(self.map, np.uint64, (last - first) * PAGE // 8, start)
            used = words.reshape(-1, PAGE // 8).any(axis=1)
            found += (start + PAGE * np.flatnonzero(used)).tolist()
            del words
        return found

    def digest(self) -> str:
        """sha256 of the contents: (offset, page) of every page that is not zero."""
        state = hashlib.sha256()
        # Without numpy, which `--stats` would load for this alone.
        for first, last in self.extents():
            for offset in range(first * PAGE, last * PAGE, PAGE):
                page = self.map[offset : offset + PAGE]
                if page != _ZEROES:
                    state.update(offset.to_bytes(8, "little"))
                    state.update(page)
        return state.hexdigest()

    def close(self) -> None:
        del self._anchor
        self._view.release()
        self.map.close()
        os.close(self.fd)

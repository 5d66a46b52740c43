"""Guest memory in the worker's address space: the granted pieces side by side, and no more."""

from __future__ import annotations

import ctypes
import mmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Mapping:
    """`pieces` of the file `fd`, (offset, bytes) each, one after another in memory."""

    def __init__(self, fd: int, pieces: list[tuple[int, int]]) -> None:
        self.size = sum(size for _, size in pieces)
        self.address = _map(None, self.size, 0, _ANONYMOUS, -1, 0)
        at = self.address
        for offset, size in pieces:
            _map(at, size, _READ_WRITE, mmap.MAP_SHARED | _FIXED, fd, offset)
            at += size
        self.bytes = memoryview((ctypes.c_ubyte * self.size).from_address(self.address)).cast("B")

    def cut_off(self) -> None:
        """Put empty memory where the guest's was. OpenCL may still hold the address."""
        _map(self.address, self.size, _READ_WRITE, _ANONYMOUS | _FIXED, -1, 0)


def _map(address: int | None, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    found = _libc.mmap(address, size, protection, flags, fd, offset)
    if found == _FAILED:
        raise OSError(ctypes.get_errno(), "guest memory cannot be mapped")
    return int(found)

"""What kernels print. The runtime writes it to the standard output, which is a file in memory here.

PoCL keeps what a kernel prints in a buffer of PRINTF_ROOM bytes, and writes it when the kernel is
done; Oclgrind gives it to the C library as it goes, which keeps it until it is told to write.
"""

from __future__ import annotations

import ctypes
import os
import struct

from gpu.worker.sealed import sealed_file

COUNT = struct.Struct("<I")
"""Before text that a guest reads: how many bytes it has."""
MOST = 1 << 20
"""Bytes that are kept for the guest: more is dropped (CL_DEVICE_PRINTF_BUFFER_SIZE)."""
PRINTF_ROOM = 16 << 20
_OUTPUT = 1


def prints(binary: bytes) -> bool:
    """Whether a program may print."""
    if binary.startswith(b"poclbin"):
        # The names of its parts have "printf" in them always; this one's code is there if used.
        return b"\0__pocl_printf\0" in binary
    return b"printf" in binary


class Printed:
    """Made while the process may still make a file."""

    def __init__(self) -> None:
        self.text = bytearray()
        """What was printed and not taken."""
        fd = sealed_file("gpu-printed", PRINTF_ROOM)
        os.dup2(fd, _OUTPUT)
        os.close(fd)
        self._flush = ctypes.CDLL(None).fflush

    def collect(self) -> None:
        """Keep what was written since the last time."""
        self._flush(None)
        size = os.lseek(_OUTPUT, 0, os.SEEK_CUR)
        os.lseek(_OUTPUT, 0, os.SEEK_SET)
        self.text += os.pread(_OUTPUT, min(size, MOST - len(self.text)), 0)

    def take(self, size: int) -> bytes:
        """The next text, `size` bytes at most."""
        text = bytes(self.text[:size])
        del self.text[:size]
        return text

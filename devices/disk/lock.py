"""Locks on disk images that two machines, and QEMU's tools, respect.

QEMU says who uses an image by shared open-file-description locks on single bytes: byte 100+p is
held by a user that does p to the image, byte 200+p by one that lets no other do p. p is 0 for
reading and 1 for writing. Each user takes its bytes first and then looks for a contradiction, so of
two that arrive together at least one gives up. The locks end with the open file, however the
process dies.
"""

from __future__ import annotations

import fcntl
import os
import struct

from hypervisor.device import BackendError

_READ, _WRITE = 0, 1
_USED, _DENIED = 100, 200
_FLOCK = struct.Struct("@hhqqi4x")


def lock(fd: int, path: str, *, writable: bool) -> None:
    """Take the image for reading beside other readers, or for writing alone."""
    used = [_READ, _WRITE] if writable else [_READ]
    try:
        for byte in [_USED + use for use in used] + [_DENIED + _WRITE]:
            _call(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
        contradictions = [_DENIED + use for use in used] + [_USED + _WRITE]
        taken = any(_held_by_another(fd, byte) for byte in contradictions)
    except (BlockingIOError, PermissionError):
        taken = True
    except OSError as error:
        raise BackendError(
            f"{path}: the file cannot be locked ({os.strerror(error.errno or 0)}): "
            "put the disk on a file system with locks"
        ) from error
    if not taken:
        return
    if writable:
        raise BackendError(
            f"{path}: another machine or program is using this disk, and this one would write to "
            "it: stop the other one, or use an overlay on both"
        )
    raise BackendError(
        f"{path}: another machine or program is writing to this disk: stop it, or use an overlay "
        "there too"
    )


def _held_by_another(fd: int, byte: int) -> bool:
    answer = _call(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _call(fd: int, command: int, kind: int, byte: int) -> bytes:
    return fcntl.fcntl(fd, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))

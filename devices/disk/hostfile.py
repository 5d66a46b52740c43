"""A host file as the disks use it: positioned reads and writes, holes, and durable syncs.

Linux: open(2), fallocate(2), lseek(2) with SEEK_DATA and SEEK_HOLE, fdatasync(2).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from devices.disk.lock import lock
from hypervisor.device import BackendError

ZEROES = bytes(1 << 20)
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


@dataclass(frozen=True)
class Stamp:
    """What tells cheaply that a file was changed: its size and time (0 for block devices)."""

    path: str
    size: int
    mtime_ns: int


class File(Protocol):
    """What a disk needs of a file, so that tests can stand in for one and log what happens.

    `size` is the end of the file when it was opened or last written past; reads beyond it give
    zeroes. Every method raises OSError.
    """

    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes | memoryview) -> None: ...
    def sync(self) -> None:
        """Return once everything written is durable."""

    def punch(self, offset: int, length: int) -> None:
        """Make a range read as zeroes and give its space back where the host can."""

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The (start, end) ranges that may hold anything but zeroes, ascending."""

    def close(self) -> None: ...


class HostFile:
    """A regular file or block device."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        status = os.fstat(fd)
        self._seekable_holes = stat.S_ISREG(status.st_mode)
        self.size = status.st_size if self._seekable_holes else os.lseek(fd, 0, os.SEEK_END)
        self.stamp = Stamp(path, self.size, status.st_mtime_ns if self._seekable_holes else 0)

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        return self._read_rest(offset, length, data)

    def _read_rest(self, offset: int, length: int, data: bytes) -> bytes:
        parts = [data]
        done = len(data)
        while data and done < length:
            data = os.pread(self._fd, length - done, offset + done)
            parts.append(data)
            done += len(data)
        if done < length and offset + done < self.size:
            raise OSError(errno.EIO, "the file became shorter while in use", self._path)
        parts.append(bytes(length - done))
        return b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        length = len(data)
        done = os.pwrite(self._fd, data, offset)
        while done < length:
            done += os.pwrite(self._fd, memoryview(data)[done:], offset + done)
        self.size = max(self.size, offset + length)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def punch(self, offset: int, length: int) -> None:
        try:
            _fallocate(self._fd, _PUNCH_HOLE_KEEP_SIZE, offset, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
            end = offset + length
            while offset < end:
                step = min(len(ZEROES), end - offset)
                self.write(offset, memoryview(ZEROES)[:step])
                offset += step

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if not self._seekable_holes:
            yield start, end
            return
        while start < end:
            try:
                begin = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            if begin >= end:
                return
            start = os.lseek(self._fd, begin, os.SEEK_HOLE)
            yield begin, min(start, end)

    def allocated(self) -> int:
        """Bytes of the host's storage in use."""
        return os.fstat(self._fd).st_blocks * 512 if self._seekable_holes else self.size

    def is_linked_at(self, path: str) -> bool:
        """Whether this open file is still the one that `path` names."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_host_file(path: str, *, writable: bool) -> HostFile:
    """Open and lock a disk's file; BackendError says what is wrong with it."""
    flags = os.O_RDWR if writable else os.O_RDONLY
    with refusals(path):
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise BackendError(f"{path}: a disk must be a regular file or a block device")
        lock(fd, path, writable=writable)
        return HostFile(fd, path)
    except BaseException:
        os.close(fd)
        raise


class refusals:
    """Turns an OSError in its block into one BackendError sentence that names `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else str(error)
            if error.errno == errno.EIO and error.strerror:
                reason = error.strerror
            raise BackendError(f"{self._path}: {reason[:1].lower()}{reason[1:]}") from error


def create_beside(path: str) -> tuple[int, str]:
    """A new file under another name in the directory of `path`, to be linked there when whole."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(4)}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(temporary, flags, 0o666), temporary


def all_zero(data: bytes | memoryview) -> bool:
    """Whether at most a MiB of data is all zeroes."""
    return ZEROES.startswith(data)


def sync_directory(path: str) -> None:
    """Make the names in a file's directory durable."""
    fd = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    call = _libc_fallocate()
    while call(fd, mode, offset, length) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


@functools.cache
def _libc_fallocate() -> Callable[[int, int, int, int], int]:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    call.restype = ctypes.c_int
    return lambda fd, mode, offset, length: int(call(fd, mode, offset, length))

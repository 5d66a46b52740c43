"""A raw disk: the file is the content.

A file that ends inside a sector is read as if zeroes filled it, and a write there makes it longer,
as QEMU does it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any

from devices.disk.hostfile import File, Stamp
from devices.disk.image import (
    SECTOR,
    check_content_state,
    check_range,
    content_digest,
    content_state,
    refuse_write,
)
from hypervisor.device import BackendError

QCOW2_MAGIC = b"QFI\xfb"


class RawDisk:
    """Reads and writes go to the file; `flush` is fdatasync; discarded ranges become holes.

    `probed` disks refuse a guest's attempt to write a qcow2 header over their first bytes, which
    would make the next start take the guest's data for an image.
    """

    format = "raw"

    def __init__(self, file: File, stamp: Stamp, *, read_only: bool, probed: bool = False) -> None:
        self.path = stamp.path
        self.read_only = read_only
        self.size = -(-file.size // SECTOR) * SECTOR
        if not self.size:
            raise BackendError(f"{self.path}: the file is empty, a disk needs at least 512 bytes")
        self._file = file
        self._stamp = stamp
        self._probed = probed
        self._identity: str | None = None
        self._lost: OSError | None = None

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        return self._file.read(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._check_write(offset, len(data))
        self.check_disguise(offset, data)
        self._file.write(offset, data)

    def check_disguise(self, offset: int, data: bytes | memoryview) -> None:
        """OSError where a write would have the disk taken for an image."""
        if self._probed and offset == 0 and bytes(data[:4]) == QCOW2_MAGIC:
            raise OSError(
                errno.EPERM,
                "a guest may not turn this disk into qcow2: say `format: raw` to allow it",
                self.path,
            )

    def flush(self) -> None:
        if self.read_only:
            return
        # After one failed sync the host may drop the unwritten pages and report later syncs as
        # good, so no later flush may be acknowledged.
        if self._lost:
            raise self._lost
        try:
            self._file.sync()
        except OSError as error:
            self._lost = error
            raise

    def discard(self, offset: int, length: int) -> None:
        self._check_write(offset, length)
        if length:
            self._file.punch(offset, length)

    def write_zeroes(self, offset: int, length: int) -> None:
        self.discard(offset, length)

    def stamps(self) -> list[Stamp]:
        return [self._stamp]

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        return self._file.data(start, end)

    def identity(self) -> str:
        if self._identity is None:
            self._identity = content_digest(self)
        return self._identity

    def save(self) -> Mapping[str, Any]:
        return content_state(self)

    def load(self, state: Mapping[str, Any]) -> None:
        check_content_state(self, state)

    def close(self) -> None:
        self._file.close()

    def _check_write(self, offset: int, length: int) -> None:
        if self.read_only:
            raise refuse_write(self.path)
        check_range(self.size, offset, length)
        self._identity = None

"""Folders in which workers run. What a hypervisor that was killed left is removed by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "hypervisor-gpu-"
_LOCK = ".lock"


class WorkerFolder:
    """A folder that is there until `close`. A lock on a file beside it, where no worker reaches,
    says that it is in use, and ends with this process however that ends. OSError where the host
    has no room for it."""

    def __init__(self) -> None:
        while True:
            self.path = tempfile.mkdtemp(prefix=_PREFIX)
            try:
                self._lock = os.open(
                    self.path + _LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600
                )
            except OSError:
                os.rmdir(self.path)
                raise
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self._lock).st_nlink:
                    return
            # Somebody took it for a remainder, before it was locked.
            os.close(self._lock)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            os.unlink(self.path + _LOCK)
        os.close(self._lock)


def sweep() -> None:
    """Remove the folders of this user's that nobody uses any more."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_LOCK}"):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        with suppress(OSError):
            if os.fstat(fd).st_uid == os.geteuid():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(str(lock).removesuffix(_LOCK), ignore_errors=True)
                lock.unlink()
        os.close(fd)

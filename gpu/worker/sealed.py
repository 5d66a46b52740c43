"""Files in memory whose size is fixed."""

from __future__ import annotations

import fcntl
import os


def sealed_file(name: str, size: int) -> int:
    """The descriptor of a file in memory that a worker may be given: it can not shrink, which would
    end the hypervisor with SIGBUS where that has it mapped, nor grow."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(fd)
        raise
    return fd

"""Runs a command as a user without rights: python as_nobody.py COMMAND...

Started as root. Folders that others may not enter, on the way to Python and to this project, are
replaced in a mount namespace of this process's own by ones that they may.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
NEW_MOUNTS, PRIVATE, BIND, RECURSIVE = 0x2_0000, 1 << 18, 4096, 16384
libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    check(libc.unshare(NEW_MOUNTS))
    mount("none", "/", None, PRIVATE | RECURSIVE)
    for needed in (sys.base_prefix, sys.prefix, *sys.argv[2:3]):
        open_up(Path(needed).resolve())
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execv(sys.argv[1], sys.argv[1:])


def open_up(needed: Path) -> None:
    """Let others reach a folder."""
    for folder in reversed(needed.parents):
        if not folder.stat().st_mode & 1:
            kept = os.open(needed, os.O_PATH)
            mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
            needed.mkdir(parents=True)
            mount(f"/proc/self/fd/{kept}", str(needed), None, BIND | RECURSIVE)
            os.close(kept)
            return


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    words = (source, target, kind)
    arguments = [word.encode() if word is not None else None for word in words]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()))


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()

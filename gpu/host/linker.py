"""The linker that PoCL's compiler runs, and the files that it needs itself."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment


@functools.cache
def find_linker() -> tuple[str, ...]:
    """Paths of the host's `ld`, else of the zig that the Python package ziglang carries, and of the
    libraries it is loaded from; empty where there is none."""
    path = os.pathsep.join((os.environ.get("PATH", ""), os.defpath, "/usr/local/bin"))
    program = shutil.which("ld", path=path) or _zig()
    if program is None:
        return ()
    return (program, *_libraries(program))


def _zig() -> str | None:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.origin:
        return None
    path = os.path.join(os.path.dirname(spec.origin), "zig")
    return path if os.access(path, os.X_OK) else None


def _libraries(program: str) -> tuple[str, ...]:
    loader = _loader(program)
    if not loader:
        return ()
    try:
        listed = subprocess.run(
            [loader, "--list", program], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (loader,)
    words = [word for line in listed.splitlines() for word in line.split()]
    return (loader, *(word for word in words if word.startswith("/") and os.path.exists(word)))


def _loader(program: str) -> str:
    """The dynamic loader that a program names; empty for one that is static."""
    try:
        with open(program, "rb") as file:
            for segment in ELFFile(file).iter_segments():
                if isinstance(segment, InterpSegment):
                    return str(segment.get_interp_name())
    except (OSError, ELFError):
        pass
    return ""

"""Kernels compiled for one size of work-groups, which run up to twice as fast as for any size.

PoCL compiles such a one when a kernel is launched, and runs a linker for it. The executing worker
has none: the compiler's process makes them, and they are put where PoCL 3.0 looks before it
compiles: PROGRAM/KERNEL/X-Y-Z[-goffs0][-smallgrid]/KERNEL.so in its cache. The name's ends say
that the global offset is zero, and that the grid is small. What is made for any offset and grid
serves all four, so that which it is depends on nothing but the size.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

GENERIC = "0-0-0"
_SPECIALIZE = {"POCL_WORK_GROUP_SPECIALIZATION": "1"}
"""Without it PoCL makes and takes the generic ones only."""
_VERSION = re.compile(r"\bPoCL 3\.0\b")
_PROGRAM = re.compile(rb"[A-P]{2}/[A-P]{20,}")
"""How PoCL names a program, in its cache and in the head of a binary."""
_HEAD = 256


def is_supported(device: Any) -> bool:
    """Whether the device's runtime looks for kernels as this module puts them."""
    return _VERSION.search(device.platform.version) is not None


def folder() -> Path:
    """PoCL's cache, which is this process's own."""
    return Path(os.environ["POCL_CACHE_DIR"])


def compile_for(size: str, program: Any, binaries: int) -> dict[str, str]:
    """Every kernel of a built program for groups of one size ("X-Y-Z"): its code in hex.
    `binaries` is clGetProgramInfo's CL_PROGRAM_BINARIES."""
    os.environ.update(_SPECIALIZE, POCL_BINARY_SPECIALIZE_WG=size)
    program.get_info(binaries)
    found = folder().glob(f"*/*/*/{size}/*.so")
    return {path.parent.parent.name: path.read_bytes().hex() for path in found}


class Groups:
    """Puts in place, before a launch, what PoCL will look for."""

    def __init__(self) -> None:
        os.environ.update(_SPECIALIZE)
        self._programs: dict[int, Path] = {}
        self._kernels: dict[int, Path] = {}
        self._ready: set[tuple[int, tuple[int, ...], bool]] = set()

    def program(self, number: int, binary: bytes) -> None:
        """A program was loaded from `binary`."""
        match = _PROGRAM.search(binary[:_HEAD])
        if match is None:
            raise ValueError("a binary without a name")
        self._programs[number] = folder() / match[0].decode()

    def kernel(self, number: int, program: int, name: str) -> None:
        self._kernels[number] = self._programs[program] / name

    def add(self, program: int, size: str, objects: dict[str, bytes]) -> None:
        """Kernels for one size came."""
        for name, code in objects.items():
            _put(self._programs[program] / name / size / f"{name}.so", code)

    def prepare(self, kernel: int, size: tuple[int, ...], offset: tuple[int, ...] | None) -> None:
        """A kernel will be launched in groups of `size`."""
        key = kernel, size, offset is None
        if key in self._ready:
            return
        place = self._kernels[kernel]
        name = "-".join(str(each) for each in (*size, 1, 1)[:3])
        file = f"{place.name}.so"
        code = place / name / file
        if not code.exists():
            code = place / GENERIC / file
        data = code.read_bytes()
        for end in ("", "-smallgrid"):
            _put(place / f"{name}{'-goffs0' if offset is None else ''}{end}" / file, data)
        self._ready.add(key)


def _put(path: Path, data: bytes) -> None:
    """What is there may be in use. It is there when it is complete: the disk may be full."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.rename(path)

"""Builds the guests' OpenCL library and the examples, with zig as the compiler for all of them.

    python -m gpu.guest.build [FOLDER]

writes FOLDER/ARCHITECTURE-LIBC/libOpenCL.so.1 and the examples beside it, for every architecture
and libc; FOLDER is build/gpu-guest by default. Image recipes take them as `parts`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "libOpenCL.so.1"
VENDOR_FILE = "etc/OpenCL/vendors/hypervisor.icd"
EXAMPLES = tuple(sorted(path.stem for path in (HERE / "examples").glob("*.c")))

_TRIPLES = {"riscv64": "riscv64-linux", "arm64": "aarch64-linux", "amd64": "x86_64-linux"}
_LIBCS = {"gnu": "gnu.2.31", "musl": "musl"}
_WARNINGS = ["-Wall", "-Wextra", "-Werror"]
_COMMON = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-g0", "-fno-sanitize=all", *_WARNINGS]
_INCLUDES = ["-I.", "-Ilinux"]


class Opencl:
    """The OpenCL library as a part of an image: found by programs through Debian's ICD loader."""

    def key(self, architecture: str) -> str:
        """What decides about the files: the sources and the compiler."""
        return _digest(["linux"])

    def build(self, architecture: str, folder: Path) -> dict[str, tuple[Path, int]]:
        """The files by their path in the guest, with their permissions. Raises RuntimeError."""
        library = build_library(architecture, "gnu", folder)
        place = f"usr/lib/{_multiarch(architecture)}/hypervisor/{LIBRARY}"
        vendor = folder / "hypervisor.icd"
        vendor.write_text(f"/{place}\n")
        return {place: (library, 0o644), VENDOR_FILE: (vendor, 0o644)}


class OpenclExamples:
    """The examples as a part of an image: /usr/bin/gpu-NAME."""

    def key(self, architecture: str) -> str:
        """What decides about the files: the sources and the compiler."""
        return _digest(["linux", "examples"])

    def build(self, architecture: str, folder: Path) -> dict[str, tuple[Path, int]]:
        """The files by their path in the guest, with their permissions. Raises RuntimeError."""
        build_library(architecture, "gnu", folder)
        return {
            f"usr/bin/gpu-{name}": (build_example(name, architecture, "gnu", folder), 0o755)
            for name in EXAMPLES
        }


def build_library(architecture: str, libc: str, folder: Path) -> Path:
    """Compile the library into `folder`."""
    sources = sorted(f"linux/{path.name}" for path in (HERE / "linux").glob("*.c"))
    output = folder / LIBRARY
    options = ["-shared", "-fPIC", "-fvisibility=hidden", "-s", "-Wl,--build-id=none"]
    # The ICD loader's functions have the same names: ours call ours.
    options += ["-Wl,-Bsymbolic", f"-Wl,-soname,{LIBRARY}", "-lpthread"]
    _compile(architecture, libc, [*options, *sources, "-o", str(output.resolve())])
    return output


def build_example(name: str, architecture: str, libc: str, folder: Path) -> Path:
    """Compile an example into `folder`, against the library there."""
    output = folder / name
    parts = [f"examples/{name}.c"]
    parts += ["linux/virtgpu.c"] if name == "raw" else [str((folder / LIBRARY).resolve())]
    parts += ["-lm", "-lpthread"]
    _compile(architecture, libc, ["-s", "-Wl,--build-id=none", *parts, "-o", str(output.resolve())])
    return output


def _compile(architecture: str, libc: str, arguments: list[str]) -> None:
    if architecture not in _TRIPLES:
        known = ", ".join(_TRIPLES)
        raise RuntimeError(f"the GPU's library is there for {known}, not for {architecture}")
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError(
            "the GPU's library for guests is compiled by zig, which is not installed: "
            "pip install ziglang"
        )
    target = f"{_TRIPLES[architecture]}-{_LIBCS[libc]}"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *_COMMON, *_INCLUDES]
    # Relative names from the sources' own folder: where they lie leaves no trace.
    result = subprocess.run(
        [*command, *arguments], cwd=HERE, capture_output=True, text=True, timeout=900, check=False
    )
    if result.returncode:
        raise RuntimeError(f"zig cannot compile the GPU's library:\n{result.stderr}")


def _multiarch(architecture: str) -> str:
    return f"{_TRIPLES[architecture]}-gnu"


def _digest(folders: list[str]) -> str:
    digest = hashlib.sha256()
    paths = [HERE / "gpu_protocol.h", HERE / "build.py"]
    for folder in folders:
        paths += sorted(path for path in (HERE / folder).rglob("*") if path.suffix in (".c", ".h"))
    for path in paths:
        digest.update(f"{path.relative_to(HERE)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    # Where it is missing, building says so.
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        digest.update(importlib.metadata.version("ziglang").encode())
    return digest.hexdigest()


def main() -> None:
    """Build everything for everyone."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/gpu-guest")
    for architecture in _TRIPLES:
        for libc in _LIBCS:
            target = folder / f"{architecture}-{libc}"
            target.mkdir(parents=True, exist_ok=True)
            build_library(architecture, libc, target)
            for name in EXAMPLES:
                build_example(name, architecture, libc, target)
            print(target)


if __name__ == "__main__":
    main()

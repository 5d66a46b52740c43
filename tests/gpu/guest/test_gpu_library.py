"""The guests' OpenCL library where there is no device: here, on the host."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from gpu.guest.build import build_example, build_library

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or bool(list(Path("/dev/dri").glob("*"))),
    reason="it is run on x86-64 without a graphics device",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    build_library("amd64", "gnu", folder)
    for name in ("raw", "vector_add"):
        build_example(name, "amd64", "gnu", folder)
    return folder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vector_add", "FAIL clGetPlatformIDs: error -1001\n"),
        ("raw", "FAIL raw: there is no device that computes\n"),
    ],
)
def test_program_is_told_that_there_is_no_device(folder: Path, name: str, said: str) -> None:
    done = subprocess.run(
        [folder / name],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.returncode) == (said, 1)


@pytest.mark.parametrize(
    ("architecture", "machine"), [("riscv64", 243), ("arm64", 183), ("amd64", 62)]
)
@pytest.mark.parametrize(("libc", "needed"), [("gnu", b"libc.so.6\0"), ("musl", b"libc.so\0")])
def test_library_is_compiled_for(
    tmp_path: Path, architecture: str, machine: int, libc: str, needed: bytes
) -> None:
    binary = build_library(architecture, libc, tmp_path).read_bytes()

    assert binary[:5] == b"\x7fELF\2"
    assert int.from_bytes(binary[18:20], "little") == machine
    assert needed in binary
    assert b"\0clIcdGetPlatformIDsKHR\0" in binary
    assert b"\0clEnqueueNDRangeKernel\0" in binary

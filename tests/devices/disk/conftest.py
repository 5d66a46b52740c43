"""Images and content that several disk tests share."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MIB = 1 << 20


def patterned(size: int, seed: int = 1) -> bytearray:
    """Content with text-like, random and empty stretches of odd lengths, in whole sectors."""
    source = random.Random(seed)
    content = bytearray()
    while len(content) < size:
        length = source.choice([512, 4096, 12800, 65536, 200_192])
        kind = source.randrange(3)
        content += [
            bytes(length),
            source.randbytes(length),
            (b"sector %08d\n" % len(content)) * (length // 16) + bytes(length % 16),
        ][kind][:length].ljust(length, b"\0")
    return content[:size]


@pytest.fixture(scope="session")
def content() -> bytes:
    return bytes(patterned(4 * MIB + 512 * 5))


@pytest.fixture
def raw(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="session")
def qemu() -> Callable[..., None]:
    """Run a program of QEMU's; its standard error shows when it fails."""

    def run(*command: object) -> None:
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE)

    return run


@pytest.fixture
def qcow2(tmp_path: Path, raw: Path, qemu: Callable[..., None]) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    return path

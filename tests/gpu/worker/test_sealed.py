"""The files that a worker is given."""

from __future__ import annotations

import os

import pytest

from gpu.worker.sealed import sealed_file


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_file_for_a_worker_cannot_change_its_size(size: int) -> None:
    fd = sealed_file("test", 4096)

    with pytest.raises(PermissionError):
        os.ftruncate(fd, size)
    os.close(fd)


def test_file_for_a_worker_can_be_written() -> None:
    fd = sealed_file("test", 4096)

    os.pwrite(fd, b"data", 4092)
    found = os.pread(fd, 4, 4092)
    os.close(fd)

    assert found == b"data"

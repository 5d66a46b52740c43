"""Raw disks: content, tails, holes, durability, what is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from devices.disk import open_disk
from devices.disk.hostfile import HostFile
from devices.disk.raw import RawDisk
from hypervisor.device import BackendError


def test_read_returns_the_bytes_of_the_file(raw: Path, content: bytes) -> None:
    disk = open_disk(raw, overlay="none", read_only=True)

    assert disk.size == len(content)
    assert disk.read(1024, 70_144) == content[1024 : 1024 + 70_144]
    assert disk.read(0, disk.size) == content


def test_write_lands_in_the_file_at_its_offset(raw: Path, content: bytes) -> None:
    disk = open_disk(raw, overlay="none", read_only=False)

    disk.write(4096, memoryview(b"new!" * 128))
    disk.flush()

    assert raw.read_bytes() == content[:4096] + b"new!" * 128 + content[4608:]


@pytest.mark.parametrize("operation", ["discard", "write_zeroes"])
def test_zeroed_range_reads_as_zeroes_and_gives_its_space_back(
    tmp_path: Path, operation: str
) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * (1 << 20))
    disk = open_disk(path, overlay="none", read_only=False)
    before = path.stat().st_blocks

    getattr(disk, operation)(512, (1 << 20) - 512)

    assert disk.read(0, 1 << 20) == b"x" * 512 + bytes((1 << 20) - 512)
    assert path.stat().st_size == 1 << 20
    assert path.stat().st_blocks < before


def test_discard_writes_zeroes_where_the_host_cannot_punch_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * (3 << 20))
    disk = open_disk(path, overlay="none", read_only=False)

    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no holes here")

    monkeypatch.setattr("devices.disk.hostfile._fallocate", refuse)

    disk.discard(512, (3 << 20) - 1024)

    assert path.read_bytes() == b"x" * 512 + bytes((3 << 20) - 1024) + b"x" * 512


def test_tail_inside_a_sector_reads_as_zeroes_and_grows_when_written(tmp_path: Path) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(b"a" * 700)
    disk = open_disk(path, overlay="none", read_only=False)

    before = disk.read(512, 512)
    disk.write(512, b"b" * 512)

    assert disk.size == 1024
    assert before == b"a" * 188 + bytes(324)
    assert path.read_bytes() == b"a" * 512 + b"b" * 512


def test_write_to_read_only_disk_fails(raw: Path, content: bytes) -> None:
    disk = open_disk(raw, overlay="none", read_only=True)

    with pytest.raises(OSError, match="read-only"):
        disk.write(0, bytes(512))
    with pytest.raises(OSError, match="read-only"):
        disk.discard(0, 512)
    assert raw.read_bytes() == content


@pytest.mark.parametrize(("offset", "length"), [(-512, 512), (0, 1 << 40), (1 << 62, 512)])
def test_range_outside_the_disk_fails(raw: Path, offset: int, length: int) -> None:
    disk = open_disk(raw, overlay="none", read_only=False)

    with pytest.raises(OSError, match="outside the disk"):
        disk.read(offset, length)
    with pytest.raises(OSError, match="outside the disk"):
        disk.discard(offset, length)


def test_file_cut_short_while_in_use_fails_the_read(raw: Path) -> None:
    disk = open_disk(raw, overlay="none", read_only=True)

    os.truncate(raw, 4096)

    assert len(disk.read(0, 4096)) == 4096
    with pytest.raises(OSError, match="became shorter"):
        disk.read(0, 8192)


def test_guest_cannot_turn_a_probed_raw_disk_into_qcow2(raw: Path, content: bytes) -> None:
    disk = open_disk(raw, overlay="none", read_only=False)

    with pytest.raises(OSError, match="format: raw"):
        disk.write(0, b"QFI\xfb" + bytes(508))
    assert raw.read_bytes() == content


def test_disk_said_to_be_raw_may_hold_anything(raw: Path) -> None:
    disk = open_disk(raw, overlay="none", read_only=False, format="raw")

    disk.write(0, b"QFI\xfb" + bytes(508))

    assert raw.read_bytes()[:4] == b"QFI\xfb"


class FailingSync(HostFile):
    failures = 1

    def sync(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise OSError(errno.EIO, "the medium failed")


def test_no_flush_succeeds_after_one_failed(raw: Path) -> None:
    file = FailingSync(os.open(raw, os.O_RDWR), str(raw))
    disk = RawDisk(file, file.stamp, read_only=False)

    for _ in range(3):
        with pytest.raises(OSError, match="medium failed"):
            disk.flush()
    disk.close()


def test_flush_calls_fdatasync(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    disk = open_disk(raw, overlay="none", read_only=False)

    disk.flush()

    assert len(synced) == 1


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()

    with pytest.raises(BackendError, match=r"empty: the file is empty"):
        open_disk(path, overlay="none", read_only=False)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"gone\.raw: no such file or directory"):
        open_disk(tmp_path / "gone.raw", overlay="none", read_only=False)


def test_directory_and_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(BackendError, match="regular file or a block device"):
        open_disk(tmp_path / "pipe", overlay="none", read_only=True)
    with pytest.raises(BackendError, match="regular file or a block device"):
        open_disk(tmp_path, overlay="none", read_only=True)
    with pytest.raises(BackendError, match="is a directory"):
        open_disk(tmp_path, overlay="none", read_only=False)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"KDMV", "VMDK"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x1f\x8b\x08", "gunzip"),
        (bytes(64) + b"\x7f\x10\xda\xbe", "VDI"),
    ],
)
def test_other_formats_are_named_and_can_still_be_raw(
    tmp_path: Path, head: bytes, what: str
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(head.ljust(4096, b"\0"))

    with pytest.raises(BackendError, match=what):
        open_disk(path, overlay="none", read_only=True)
    assert open_disk(path, overlay="none", read_only=True, format="raw").size == 4096

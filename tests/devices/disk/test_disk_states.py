"""What snapshots carry of disks, and which disks they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devices.disk import OverlayMode, open_disk
from hypervisor.device import BackendError


def test_identity_is_of_content_not_of_format_name_or_holes(
    raw: Path, qcow2: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.raw"
    shutil.copy(raw, copy)

    identities = {
        open_disk(path, overlay="none", read_only=True).identity() for path in (raw, qcow2, copy)
    }

    assert len(identities) == 1


@pytest.mark.parametrize("offset", [0, 65_536, (4 << 20) + 2559])
def test_identity_changes_with_any_byte(raw: Path, offset: int) -> None:
    disk = open_disk(raw, overlay="none", read_only=False)
    before = disk.identity()
    sector = bytearray(disk.read(offset & ~511, 512))
    sector[offset & 511] ^= 1

    disk.write(offset & ~511, bytes(sector))

    assert disk.identity() != before


def test_identity_of_zeroes_tells_sizes_apart(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(512))
    (tmp_path / "two").write_bytes(bytes(1024))

    one, two = (
        open_disk(tmp_path / name, overlay="none", read_only=True) for name in ("one", "two")
    )

    assert one.identity() != two.identity()


def test_temporary_overlay_keeps_the_identity_of_its_base(raw: Path) -> None:
    plain = open_disk(raw, overlay="none", read_only=True)
    disk = open_disk(raw, overlay="discard", read_only=False)

    disk.write(0, b"n" * 512)

    assert disk.identity() == plain.identity()


def test_kept_overlay_has_the_identity_of_what_it_shows(raw: Path, tmp_path: Path) -> None:
    disk = open_disk(raw, overlay="keep", read_only=False)
    disk.write(512, b"n" * 512)
    disk.discard(1 << 20, 1 << 20)
    (tmp_path / "same.raw").write_bytes(disk.read(0, disk.size))

    same = open_disk(tmp_path / "same.raw", overlay="none", read_only=True)

    assert disk.identity() == same.identity()


def test_temporary_state_carries_changes_but_no_zeroes(raw: Path, content: bytes) -> None:
    disk = open_disk(raw, overlay="discard", read_only=False)
    disk.write(4096, b"n" * 4096)
    disk.discard(0, 4096)
    disk.discard(1 << 20, 1 << 20)

    state = disk.save()

    assert state["changed"] == [[0, 8192], [1 << 20, 1 << 20]]
    assert state["data"] == [[0, bytes(4096) + b"n" * 4096]]
    other = open_disk(raw, overlay="discard", read_only=False)
    other.write(3 << 20, b"x" * 512)
    other.load(state)
    assert other.read(0, other.size) == disk.read(0, disk.size)
    assert other.read(3 << 20, 512) == content[3 << 20 : (3 << 20) + 512]


@pytest.mark.parametrize("mode", ["none", "keep"])
def test_disk_that_changed_since_the_snapshot_is_refused(raw: Path, mode: OverlayMode) -> None:
    disk = open_disk(raw, overlay=mode, read_only=False)
    state = disk.save()
    disk.load(state)

    disk.write(0, b"after the snapshot".ljust(512))

    with pytest.raises(BackendError, match="has changed since the snapshot"):
        disk.load(state)


def test_snapshot_of_another_kind_of_overlay_is_refused(raw: Path) -> None:
    temporary = open_disk(raw, overlay="discard", read_only=False)
    plain = open_disk(raw, overlay="none", read_only=True)

    with pytest.raises(BackendError, match="restore it with `overlay: discard`"):
        plain.load(temporary.save())
    with pytest.raises(BackendError, match="does not carry this disk's changes"):
        temporary.load(plain.save())


def test_changes_of_another_base_are_refused(raw: Path, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.raw").write_bytes(content[:-1] + b"!")
    state = open_disk(raw, overlay="discard", read_only=False).save()

    with pytest.raises(BackendError, match="not the image that the snapshot was taken with"):
        open_disk(tmp_path / "other.raw", overlay="discard", read_only=False).load(state)


@pytest.mark.parametrize(
    "damage",
    [
        {"changed": None},
        {"changed": [[0]]},
        {"changed": [["0", 512]]},
        {"changed": [[0, 511]]},
        {"changed": [[0, -512]]},
        {"changed": [[1 << 40, 512]]},
        {"changed": [[512, 512], [0, 512]]},
        {"data": 7},
        {"data": [[0, "text"]]},
        {"data": [[0, bytes(100)]]},
        {"data": [[-512, bytes(512)]]},
    ],
)
def test_damaged_state_is_refused_and_changes_nothing(raw: Path, damage: Mapping[str, Any]) -> None:
    disk = open_disk(raw, overlay="discard", read_only=False)
    disk.write(0, b"n" * 512)
    before = disk.read(0, disk.size)

    with pytest.raises(BackendError, match="state of this disk is damaged"):
        disk.load({**disk.save(), **damage})
    assert disk.read(0, disk.size) == before

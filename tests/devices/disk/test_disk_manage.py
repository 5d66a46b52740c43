"""What `hypervisor disk info|create|commit` stand on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devices.disk import DiskInfo, commit, create, info, open_disk
from hypervisor.device import BackendError


def change(path: Path) -> bytes:
    """Change a disk through a kept overlay; returns the content it should have."""
    disk = open_disk(path, overlay="keep", read_only=False)
    disk.write(1536, b"changed!" * 64)
    disk.discard(1 << 20, 1 << 20)
    disk.write(disk.size - 512, b"the end." * 64)
    expected = disk.read(0, disk.size)
    disk.close()
    return expected


def test_created_disk_is_empty_and_sparse(tmp_path: Path) -> None:
    path = tmp_path / "new.raw"

    made = create(path, 1 << 30)

    assert made == DiskInfo(str(path), "raw", 1 << 30, 0)
    disk = open_disk(path, overlay="none", read_only=False)
    assert disk.read(0, 1 << 20) == bytes(1 << 20)


def test_create_replaces_nothing(raw: Path, content: bytes) -> None:
    with pytest.raises(BackendError, match="is there already"):
        create(raw, 1 << 20)
    assert raw.read_bytes() == content


@pytest.mark.parametrize("size", [-512, 0, 100, 513])
def test_create_refuses_a_size_that_is_no_disk(tmp_path: Path, size: int) -> None:
    with pytest.raises(BackendError, match=f"multiple of 512 bytes above zero, not {size}"):
        create(tmp_path / "new.raw", size)
    assert os.listdir(tmp_path) == []


def test_create_leaves_nothing_when_the_host_refuses_the_size(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="file too large"):
        create(tmp_path / "new.raw", 1 << 62)
    assert os.listdir(tmp_path) == []


def test_info_describes_raw_and_its_overlay(raw: Path, content: bytes) -> None:
    change(raw)

    disk, overlay = info(raw), info(f"{raw}.overlay")

    assert (disk.format, disk.size, disk.overlay) == ("raw", len(content), f"{raw}.overlay")
    assert (overlay.format, overlay.size, overlay.base) == ("overlay", len(content), str(raw))
    assert overlay.changed == 4096 + (1 << 20) + 2560
    assert overlay.block_size == 4096
    assert overlay.allocated < 1 << 20


def test_info_describes_qcow2(qcow2: Path, content: bytes) -> None:
    disk = info(qcow2)

    assert (disk.format, disk.size, disk.version) == ("qcow2", len(content), 3)
    assert (disk.block_size, disk.compression, disk.base) == (65536, "zlib", None)


def test_commit_merges_and_removes_the_overlay(raw: Path) -> None:
    expected = change(raw)
    seen: list[tuple[int, int]] = []

    where = commit(f"{raw}.overlay", progress=lambda done, total: seen.append((done, total)))

    assert where == str(raw)
    assert raw.read_bytes() == expected
    assert os.listdir(raw.parent) == [raw.name]
    assert seen[-1][0] == seen[-1][1] > 1 << 20


def test_commit_makes_the_base_durable_before_the_overlay_goes(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(raw)
    order: list[str] = []
    for name in ("pwrite", "fdatasync", "unlink"):
        call = getattr(os, name)

        def logged(*words: object, name: str = name, call: object = call) -> object:
            order.append(name)
            return call(*words)  # type: ignore[operator]

        monkeypatch.setattr(os, name, logged)

    commit(f"{raw}.overlay")

    assert order == ["pwrite", "fdatasync", "pwrite", "pwrite", "fdatasync", "unlink"]


def test_commit_that_fails_midway_is_finished_later(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = change(raw)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit(f"{raw}.overlay", progress=stop)
    assert info(f"{raw}.overlay").committing
    with pytest.raises(BackendError, match="finish it with `hypervisor disk commit"):
        open_disk(raw, overlay="keep", read_only=False)

    commit(f"{raw}.overlay")

    assert raw.read_bytes() == expected


def test_commit_into_a_changed_base_is_refused(raw: Path) -> None:
    change(raw)
    raw.touch()
    before = raw.read_bytes()

    with pytest.raises(BackendError, match="was changed after"):
        commit(f"{raw}.overlay")
    assert raw.read_bytes() == before
    assert Path(f"{raw}.overlay").exists()


def test_commit_of_a_disk_in_use_is_refused(raw: Path) -> None:
    change(raw)
    disk = open_disk(raw, overlay="keep", read_only=False)

    with pytest.raises(BackendError, match=r"overlay: another machine"):
        commit(f"{raw}.overlay")
    disk.close()


def test_commit_into_a_base_that_others_read_is_refused(raw: Path) -> None:
    change(raw)
    disk = open_disk(raw, overlay="discard", read_only=False)

    with pytest.raises(BackendError, match=r"disk\.raw: another machine"):
        commit(f"{raw}.overlay")
    disk.close()
    assert not info(f"{raw}.overlay").committing


def test_commit_over_qcow2_says_how(qcow2: Path) -> None:
    change(qcow2)

    with pytest.raises(BackendError, match="--into FILE"):
        commit(f"{qcow2}.overlay")


@pytest.mark.parametrize("base", ["raw", "qcow2"])
def test_commit_into_a_new_file_leaves_the_rest_alone(
    request: pytest.FixtureRequest, tmp_path: Path, base: str
) -> None:
    path: Path = request.getfixturevalue(base)
    expected = change(path)
    before, target = path.read_bytes(), tmp_path / "merged.raw"

    assert commit(f"{path}.overlay", into=target) == str(target)

    assert target.read_bytes() == expected
    assert path.read_bytes() == before
    with pytest.raises(BackendError, match="is there already"):
        commit(f"{path}.overlay", into=target)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_commit_of_something_else_is_refused(raw: Path) -> None:
    with pytest.raises(BackendError, match="not an overlay, which a machine makes") as refused:
        commit(raw)
    assert "remove" not in str(refused.value)  # it is somebody's disk


def test_overlay_moved_with_its_base_is_still_good(raw: Path, tmp_path: Path) -> None:
    expected = change(raw)
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in (raw.name, f"{raw.name}.overlay"):
        (tmp_path / name).rename(place / name)

    commit(place / f"{raw.name}.overlay")

    assert (place / raw.name).read_bytes() == expected

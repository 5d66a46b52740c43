"""Overlays against a model: whatever is done, a disk reads as a plain array of bytes would."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devices.disk import OverlayMode, open_disk
from devices.disk.overlay import MAX_SIZE, block_size_for
from devices.disk.overlay_file import open_temporary
from hypervisor.device import BackendError, BlockBackend
from tests.effort import effort

SECTORS = 8 * 37 + 5  # ends inside a block
SIZE = SECTORS * 512
BASE = b"".join(b"base sector %3d " % (n % 7) * 32 for n in range(SECTORS))

sectors = st.integers(0, SECTORS - 1)
counts = st.one_of(st.integers(1, 20), st.integers(1, SECTORS))


class OverlayModel(RuleBasedStateMachine):
    mode: ClassVar[OverlayMode]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "base.raw"
        self.path.write_bytes(BASE)
        self.model = bytearray(BASE)
        self.disk = self.open()

    def open(self) -> BlockBackend:
        return open_disk(self.path, overlay=self.mode, read_only=False)

    @rule(sector=sectors, count=counts, value=st.integers(1, 255))
    def write(self, sector: int, count: int, value: int) -> None:
        start, end = sector * 512, min(SIZE, (sector + count) * 512)
        data = bytes([value]) * (end - start)
        self.disk.write(start, memoryview(data))
        self.model[start:end] = data

    @rule(sector=sectors, count=counts)
    def read(self, sector: int, count: int) -> None:
        start, end = sector * 512, min(SIZE, (sector + count) * 512)
        assert self.disk.read(start, end - start) == self.model[start:end]

    @rule(sector=sectors, count=counts)
    def discard(self, sector: int, count: int) -> None:
        start, end = sector * 512, min(SIZE, (sector + count) * 512)
        self.disk.discard(start, end - start)
        self.model[start:end] = bytes(end - start)

    @rule(sector=sectors, count=counts)
    def write_zeroes(self, sector: int, count: int) -> None:
        start, end = sector * 512, min(SIZE, (sector + count) * 512)
        self.disk.write_zeroes(start, end - start)
        self.model[start:end] = bytes(end - start)

    @rule()
    def flush(self) -> None:
        self.disk.flush()

    @precondition(lambda self: self.mode == "keep")
    @rule()
    def reopen(self) -> None:
        self.disk.close()
        self.disk = self.open()

    @precondition(lambda self: self.mode == "discard")
    @rule()
    def save_and_load_into_another(self) -> None:
        state = self.disk.save()
        other = self.open()
        other.write(0, b"to be forgotten!" * 32)
        other.load(state)
        self.disk.close()
        self.disk = other

    @invariant()
    def everything_reads_as_modelled(self) -> None:
        assert self.disk.read(0, SIZE) == self.model

    def teardown(self) -> None:
        self.disk.close()
        assert self.path.read_bytes() == BASE
        shutil.rmtree(self.directory)


class KeptOverlayModel(OverlayModel):
    mode = "keep"


class TemporaryOverlayModel(OverlayModel):
    mode = "discard"


limits = settings(max_examples=effort(40, 2_000), stateful_step_count=25, deadline=None)
TestKeptOverlay = KeptOverlayModel.TestCase
TestKeptOverlay.settings = settings(limits, suppress_health_check=[HealthCheck.too_slow])
TestTemporaryOverlay = TemporaryOverlayModel.TestCase
TestTemporaryOverlay.settings = settings(limits, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("mode", ["keep", "discard"])
def test_overlay_over_qcow2_reads_through_and_takes_writes(
    qcow2: Path, content: bytes, mode: OverlayMode
) -> None:
    before = qcow2.read_bytes()
    disk = open_disk(qcow2, overlay=mode, read_only=False)

    disk.write(66_048, b"w" * 512)

    assert disk.read(0, disk.size) == content[:66_048] + b"w" * 512 + content[66_560:]
    disk.close()
    assert qcow2.read_bytes() == before


def test_kept_changes_are_there_again_and_temporary_ones_are_not(raw: Path, content: bytes) -> None:
    modes: list[OverlayMode] = ["keep", "discard"]
    for mode in modes:
        disk = open_disk(raw, overlay=mode, read_only=False)
        disk.write(512, mode.encode().ljust(512))
        disk.close()

    kept = open_disk(raw, overlay="keep", read_only=False)
    temporary = open_disk(raw, overlay="discard", read_only=False)

    assert kept.read(512, 512) == b"keep".ljust(512)
    assert temporary.read(512, 512) == content[512:1024]


def test_temporary_overlay_has_no_name_and_goes_where_tmpdir_says(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))

    disk = open_disk(raw, overlay="discard", read_only=False)
    disk.write(0, bytes(1 << 20))

    assert list(place.iterdir()) == []
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(BackendError, match="gone: no such file"):
        open_disk(raw, overlay="discard", read_only=False)


def test_read_only_disk_shows_kept_changes_and_makes_no_overlay(raw: Path, content: bytes) -> None:
    plain = open_disk(raw, overlay="keep", read_only=True)
    made = Path(f"{raw}.overlay").exists()
    plain.close()
    disk = open_disk(raw, overlay="keep", read_only=False)
    disk.write(0, b"k" * 512)
    disk.close()

    shown = open_disk(raw, overlay="keep", read_only=True)

    assert not made
    assert shown.read(0, 1024) == b"k" * 512 + content[512:1024]
    with pytest.raises(OSError, match="read-only"):
        shown.write(0, bytes(512))


def test_overlay_is_as_sparse_as_its_changes(tmp_path: Path) -> None:
    path = tmp_path / "large.raw"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    disk = open_disk(path, overlay="keep", read_only=False)

    disk.write((1 << 40) - 512, b"z" * 512)
    disk.discard(0, 1 << 39)
    disk.close()

    assert Path(f"{path}.overlay").stat().st_blocks * 512 < 40 << 20
    again = open_disk(path, overlay="keep", read_only=True)
    assert again.read((1 << 40) - 1024, 1024) == bytes(512) + b"z" * 512


@pytest.mark.parametrize("size", [512, 1 << 30, 1 << 38, (1 << 38) + 512, MAX_SIZE])
def test_map_never_exceeds_64_mib(size: int) -> None:
    assert 1 <= -(-size // block_size_for(size)) <= 64 << 20


class Huge:
    """Stands in for an image of an absurd size."""

    path = "huge.qcow2"
    size = MAX_SIZE + 512


def test_disk_too_large_for_an_overlay_is_refused() -> None:
    with pytest.raises(BackendError, match="8 TiB"):
        open_temporary(Huge())  # type: ignore[arg-type]


def test_changed_base_is_refused_with_a_way_back(raw: Path) -> None:
    open_disk(raw, overlay="keep", read_only=False).close()
    before = raw.stat().st_mtime_ns
    raw.touch()

    with pytest.raises(BackendError, match="was changed after this overlay was made") as refused:
        open_disk(raw, overlay="keep", read_only=False)
    seconds, nanoseconds = divmod(before, 10**9)
    assert f"touch -d @{seconds}.{nanoseconds:09d} {raw}" in str(refused.value)


def test_changed_backing_file_is_refused(qcow2: Path, tmp_path: Path) -> None:
    import subprocess

    top = tmp_path / "top.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2.name]
    subprocess.run([*command, str(top)], check=True)
    open_disk(top, overlay="keep", read_only=False).close()
    qcow2.touch()

    with pytest.raises(BackendError, match=r"disk\.qcow2 was changed"):
        open_disk(top, overlay="keep", read_only=False)


def test_base_of_another_size_is_refused(raw: Path) -> None:
    open_disk(raw, overlay="keep", read_only=False).close()
    raw.write_bytes(bytes(1 << 20))

    with pytest.raises(BackendError, match="belongs to a raw disk of"):
        open_disk(raw, overlay="keep", read_only=False)


def test_writing_below_a_kept_overlay_is_refused(raw: Path) -> None:
    open_disk(raw, overlay="keep", read_only=False).close()

    with pytest.raises(BackendError, match="would be lost"):
        open_disk(raw, overlay="none", read_only=False)


def test_overlay_named_as_a_disk_is_refused(raw: Path) -> None:
    open_disk(raw, overlay="keep", read_only=False).close()

    with pytest.raises(BackendError, match="name the disk it belongs to"):
        open_disk(f"{raw}.overlay", overlay="none", read_only=True)


@pytest.mark.parametrize(
    ("offset", "patch", "sentence"),
    [
        (0, b"X", "not an overlay"),
        (20, b"X", "header of the overlay is damaged"),
        (50, b"\xff\xff\xff\xff", "header of the overlay is damaged"),
        (80, b"X", "header of the overlay is damaged"),
        (4095, b"\1", "a commit of this overlay was interrupted"),
        (4096, b"\2", "map of its overlay is damaged"),
    ],
)
def test_damaged_overlay_is_refused(raw: Path, offset: int, patch: bytes, sentence: str) -> None:
    open_disk(raw, overlay="keep", read_only=False).close()
    with Path(f"{raw}.overlay").open("r+b") as file:
        file.seek(offset)
        file.write(patch)

    with pytest.raises(BackendError, match=sentence):
        open_disk(raw, overlay="keep", read_only=False)

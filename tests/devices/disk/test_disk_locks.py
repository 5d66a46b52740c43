"""Two machines, or a machine and QEMU's tools, cannot corrupt one file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.disk import open_disk
from hypervisor.device import BackendError


def test_second_writer_is_refused(raw: Path) -> None:
    first = open_disk(raw, overlay="none", read_only=False)

    with pytest.raises(BackendError, match=r"disk\.raw: another machine or program is using"):
        open_disk(raw, overlay="none", read_only=False)
    first.close()
    open_disk(raw, overlay="none", read_only=False).close()


def test_reader_of_a_disk_being_written_is_refused(raw: Path) -> None:
    first = open_disk(raw, overlay="none", read_only=False)

    with pytest.raises(BackendError, match="is writing to this disk"):
        open_disk(raw, overlay="discard", read_only=False)
    first.close()


def test_writer_of_a_base_in_use_is_refused(raw: Path) -> None:
    first = open_disk(raw, overlay="discard", read_only=False)

    with pytest.raises(BackendError, match="another machine or program is using"):
        open_disk(raw, overlay="none", read_only=False)
    first.close()


def test_machines_with_temporary_overlays_share_a_base(raw: Path) -> None:
    first = open_disk(raw, overlay="discard", read_only=False)
    second = open_disk(raw, overlay="discard", read_only=False)

    first.write(0, b"1" * 512)
    second.write(0, b"2" * 512)

    assert (first.read(0, 1), second.read(0, 1)) == (b"1", b"2")
    first.close()
    second.close()


def test_second_machine_on_a_kept_overlay_is_refused(raw: Path) -> None:
    first = open_disk(raw, overlay="keep", read_only=False)

    with pytest.raises(BackendError, match=r"disk\.raw\.overlay: another machine"):
        open_disk(raw, overlay="keep", read_only=False)
    first.close()


def test_refused_open_leaves_no_lock_behind(raw: Path) -> None:
    first = open_disk(raw, overlay="keep", read_only=False)
    with pytest.raises(BackendError):
        open_disk(raw, overlay="keep", read_only=False)
    first.close()
    Path(f"{raw}.overlay").unlink()

    open_disk(raw, overlay="none", read_only=False).close()


def test_qemu_is_kept_from_a_disk_in_use(raw: Path) -> None:
    disk = open_disk(raw, overlay="none", read_only=False)

    outcome = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", str(raw)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert outcome.returncode != 0
    assert "lock" in outcome.stderr
    disk.close()


def test_disk_in_use_by_qemu_is_refused(raw: Path) -> None:
    user = subprocess.Popen(
        ["qemu-io", "-f", "raw", str(raw)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdin
    assert user.stdout
    user.stdin.write("read 0 512\n")
    user.stdin.flush()
    user.stdout.readline()

    with pytest.raises(BackendError, match="another machine or program"):
        open_disk(raw, overlay="discard", read_only=False)
    user.communicate("quit\n")
    open_disk(raw, overlay="discard", read_only=False).close()


def test_qemu_reads_a_base_beside_us(
    raw: Path, qemu: Callable[..., None], tmp_path: Path, content: bytes
) -> None:
    disk = open_disk(raw, overlay="discard", read_only=False)

    qemu("qemu-img", "convert", "-f", "raw", "-O", "raw", raw, tmp_path / "copy.raw")

    assert (tmp_path / "copy.raw").read_bytes() == content
    disk.close()

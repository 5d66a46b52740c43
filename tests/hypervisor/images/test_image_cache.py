"""The cache: whole or absent, and one process at a time."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from hypervisor.images import cache
from hypervisor.images.errors import ImageError
from hypervisor.images.progress import silent


def sealed(folder: Path, content: bytes = b"content") -> tuple[Path, int, str]:
    file = folder / "file"
    file.write_bytes(content)
    digest = cache.digest_of(file)
    cache.seal(file)
    return file, len(content), digest


def test_sealed_file_is_intact_without_being_read(tmp_path: Path) -> None:
    file, size, _ = sealed(tmp_path)
    assert cache.intact(file, size, "digest of something else")


def test_thorough_check_reads_the_file(tmp_path: Path) -> None:
    file, size, digest = sealed(tmp_path)
    assert cache.intact(file, size, digest, thorough=True)
    assert not cache.intact(file, size, "0" * 64, thorough=True)


@pytest.mark.parametrize("change", [b"CONTENT", b"short", b"", b"content and more"])
def test_file_that_was_written_to_is_not_intact(tmp_path: Path, change: bytes) -> None:
    file, size, digest = sealed(tmp_path)
    file.chmod(0o644)
    file.write_bytes(change)
    assert not cache.intact(file, size, digest)


def test_touched_file_is_read_once_and_sealed_again(tmp_path: Path) -> None:
    file, size, digest = sealed(tmp_path)
    os.utime(file)
    assert cache.intact(file, size, digest)
    assert file.stat().st_mtime == cache.FINISHED


def test_absent_file_is_not_intact(tmp_path: Path) -> None:
    assert not cache.intact(tmp_path / "nothing", 0, "")


def test_directory_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "packages" / "one"

    def fail() -> None:
        with cache.new_directory(target) as scratch:
            (scratch / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "packages").iterdir()) == []


def test_new_directory_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "packages" / "one"
    with cache.new_directory(target) as scratch:
        (scratch / "old").touch()
    with cache.new_directory(target) as scratch:
        (scratch / "new").touch()
    assert [file.name for file in target.iterdir()] == ["new"]
    assert [file.name for file in target.parent.iterdir()] == ["one"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "packages" / ".new-killed" / "files").mkdir(parents=True)
    with cache.locked(tmp_path, silent):
        assert list((tmp_path / "packages").iterdir()) == []


def test_damaged_record_counts_as_absent(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    cache.write_json(record, {"a": 1})
    assert cache.read_json(record) == {"a": 1}
    record.write_text('{"a":')
    assert cache.read_json(record) is None


def _hold(directory: Path, log: Path) -> None:
    with cache.locked(directory, silent), log.open("a") as file:
        file.write("in ")
        file.flush()
        time.sleep(0.05)
        file.write("out ")


def test_processes_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [
        multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path / "cache", log))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert log.read_text() == "in out " * 4


def test_unusable_cache_directory_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ImageError, match="cannot use the image cache"),
        cache.locked(tmp_path / "file" / "cache", silent),
    ):
        pass


def test_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_directory() == tmp_path / "hypervisor"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.default_directory() == Path("/home/someone/.cache/hypervisor")

"""The folders of workers, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu.host.folders import WorkerFolder, sweep

LEAVE_ONE = """
import sys, time
from gpu.host.folders import WorkerFolder
folder = WorkerFolder()
open(folder.path + "/file", "w").close()
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Another hypervisor, with a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE_ONE], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    with process:
        yield process
        process.kill()


def test_folder_is_gone_when_it_is_closed(temporary: Path) -> None:
    folder = WorkerFolder()
    Path(folder.path, "file").touch()

    folder.close()

    assert list(temporary.iterdir()) == []


def test_folder_in_use_stays(temporary: Path, other: subprocess.Popen[str]) -> None:
    assert other.stdout is not None
    path = Path(other.stdout.readline().strip())

    sweep()

    assert (path / "file").exists()


def test_folder_of_a_process_that_was_killed_goes(
    temporary: Path, other: subprocess.Popen[str]
) -> None:
    assert other.stdout is not None
    path = Path(other.stdout.readline().strip())
    other.send_signal(signal.SIGKILL)
    other.wait()

    sweep()

    assert path.parent == temporary
    assert list(temporary.iterdir()) == []


def test_what_only_looks_like_one_stays(temporary: Path) -> None:
    precious = temporary / "precious"
    precious.mkdir()
    (temporary / "hypervisor-gpu-x.lock").symlink_to(precious)
    (temporary / "hypervisor-gpu-y").mkdir()

    sweep()

    assert precious.is_dir()
    assert (temporary / "hypervisor-gpu-y").is_dir()

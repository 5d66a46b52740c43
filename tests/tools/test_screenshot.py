"""Pictures of a machine's display, at a run's end and of snapshots."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

WITH_DISPLAY = "  gpu0: {type: virtio.gpu, at: 0x1000_1000, irq: plic.1, display: {width: 320}}\n"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def board(folder):
    """A description with a display."""
    path = folder / "board.yaml"
    path.write_text(path.read_text() + WITH_DISPLAY)
    return path


def test_run_ends_with_a_picture(board, folder, command):
    result = command("run", "board.yaml", "--until", "ready", "--screenshot", "out.png")

    picture = (folder / "out.png").read_bytes()
    assert result.code == 0
    assert picture.startswith(SIGNATURE)
    assert int.from_bytes(picture[16:20], "big") == 320


def test_snapshot_has_the_picture_of_its_moment(board, folder, command):
    script = ("--until", "ready", "--snapshot", "snap", "--screenshot", "end.png")
    command("run", "board.yaml", *script)

    result = command("screenshot", "board.yaml", "snap", "out.png")

    assert (result.code, result.out) == (0, "")
    assert (folder / "out.png").read_bytes() == (folder / "end.png").read_bytes()


@pytest.fixture
def running(board, folder):
    """A machine that runs elsewhere, with a QMP socket `qmp`."""
    words = ("run", "board.yaml", "--console", "none", "--qmp", "unix:qmp")
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", "from tools.main import main; main()", *words],
        env={**os.environ, "PYTHONPATH": root},
    )
    end = time.monotonic() + 60
    while not (folder / "qmp").exists() and time.monotonic() < end:
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_machine_that_runs_writes_what_it_shows_now(running, folder, command):
    result = command("screenshot", "qmp", "now.png")

    assert (result.code, result.out, result.err) == (0, "", "")
    assert (folder / "now.png").read_bytes().startswith(SIGNATURE)
    assert running.poll() is None


def test_machine_that_runs_needs_no_snapshot(running, command):
    result = command("screenshot", "qmp", "snap", "now.png")

    assert result.code == 2
    assert "hypervisor screenshot SOCKET FILE.png" in result.err


@pytest.mark.parametrize(
    "arguments",
    [("run", "board.yaml", "--screenshot", "out.png"), ("screenshot", "board.yaml", "s", "o.png")],
)
def test_machine_without_a_display_is_said_so_before_it_runs(folder, command, arguments):
    result = command(*arguments)

    assert result.code == 2
    assert "the machine has no display" in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "board.yaml", "--screenshot", "no/out.png"),
        ("screenshot", "board.yaml", "snap", "no/out.png"),
    ],
)
def test_picture_that_cannot_be_written_is_said_so_before_the_run(board, command, arguments):
    result = command(*arguments)

    assert result.code == 3
    assert "the screenshot no/out.png cannot be written" in result.err
    assert result.out == ""

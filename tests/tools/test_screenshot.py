"""Pictures of a machine's display, at a run's end and of snapshots."""

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

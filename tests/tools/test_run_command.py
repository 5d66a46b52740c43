"""`hypervisor run` in this process: scripts, exit codes, figures and snapshots."""

import hashlib
import json

import click
import pytest

from tools.run_command import parse_text

READY = "guest ready\n"


def test_awaited_text_ends_the_run_with_0(folder, command):
    result = command("run", "board.yaml", "--until", "guest ready", "--timeout", "60")

    assert result.code == 0
    assert result.out == "guest ready"


def test_power_off_ends_the_run_with_0(folder, command):
    result = command("run", "board.yaml", "--send", "abcq", "--timeout", "60")

    assert result.code == 0
    assert result.out == READY + "abcq"
    assert result.err == ""


def test_until_and_send_are_taken_in_order(folder, command):
    script = ["--until", "ready", "--send", "one", "--until=one", "--send=dos", "--until", "dos"]

    result = command("run", *script, "board.yaml", "--timeout", "60")

    assert result.code == 0
    assert result.out == READY + "onedos"


def test_power_off_before_awaited_text_is_a_failure(folder, command):
    result = command("run", "board.yaml", "--send", "q", "--until", "never", "--timeout", "60")

    assert result.code == 1
    assert "powered off before it printed 'never'" in result.err


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("f", "failure code 7"),
        ("w", "the guest hangs"),
        ("t", "no handler"),
    ],
)
def test_failure_of_the_guest_ends_the_run_with_1(folder, command, typed, sentence):
    result = command("run", "board.yaml", "--send", typed, "--timeout", "60")

    assert result.code == 1
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_failure_shows_registers_and_code(folder, command):
    result = command("run", "board.yaml", "--send", "w", "--timeout", "60")

    assert "a0 0000000000000077" in result.err
    assert "=> 0x800000" in result.err


def test_timeout_ends_the_run_with_124_and_names_the_text(folder, command):
    result = command("run", "board.yaml", "--until", "never", "--timeout", "0.2")

    assert result.code == 124
    assert "before 'never' was printed" in result.err


def test_override_changes_the_machine(folder, command):
    result = command("run", "board.yaml", "--set", "cpu.harts=0", "--timeout", "9")

    assert result.code == 2
    assert "--set cpu.harts" in result.err


def test_console_none_shows_nothing(folder, command):
    result = command("run", "board.yaml", "--console", "none", "--send", "q")

    assert (result.code, result.out, result.err) == (0, "", "")


def test_console_file_gets_the_output(folder, command):
    result = command("run", "board.yaml", "--console", "file:out.txt", "--send", "q")

    assert (result.code, result.out) == (0, "")
    assert (folder / "out.txt").read_text() == READY + "q"


def test_console_file_that_fills_up_does_not_stop_the_guest(folder, command):
    result = command("run", "board.yaml", "--console", "file:/dev/full", "--send", "q")

    assert result.code == 0
    assert (
        result.err == "hypervisor: the console file /dev/full ends here: No space left on device\n"
    )


def test_stats_hold_every_figure(folder, command):
    command("run", "board.yaml", "--send", "q", "--stats", "stats.json")

    stats = json.loads((folder / "stats.json").read_text())
    assert stats["exit"] == 0
    assert stats["outcome"] == "power-off"
    assert stats["executed_bytes"] > 100
    assert stats["virtual_ns"] > 0
    assert 0 < stats["wall_s"] < 600
    assert stats["startup_s"] > 0
    assert stats["traps"] == {}
    assert stats["mmio"]["uart0"]["writes"] == len(READY + "q")
    assert stats["mmio"]["finisher"] == {"reads": 0, "writes": 1}
    assert stats["console_sha256"] == hashlib.sha256((READY + "q").encode()).hexdigest()
    assert len(stats["state_sha256"]) == 64


def test_equal_scripts_make_equal_runs(folder, command):
    keys = ("executed_bytes", "virtual_ns", "console_sha256", "state_sha256")
    runs = []

    for _ in range(2):
        command("run", "board.yaml", "--until", "ready", "--send", "abq", "--stats", "s.json")
        runs.append(json.loads((folder / "s.json").read_text()))

    assert [runs[0][key] for key in keys] == [runs[1][key] for key in keys]


@pytest.mark.parametrize(
    ("arguments", "code", "outcome"),
    [
        (["--send", "t"], 1, "failed"),
        (["--until", "never", "--timeout", "0.1"], 124, "timeout"),
        (["--restore", "no-file"], 3, "error"),
        (["--set", "machine="], 2, "error"),
    ],
)
def test_stats_are_written_however_the_run_ends(folder, command, arguments, code, outcome):
    result = command("run", "board.yaml", *arguments, "--stats", "stats.json")

    stats = json.loads((folder / "stats.json").read_text())
    assert result.code == code
    assert (stats["exit"], stats["outcome"]) == (code, outcome)
    assert stats["sentence"]


def test_restored_run_ends_like_the_uninterrupted_one(folder, command):
    rest = ["--until", "b", "--send", "q", "--stats"]
    command("run", "board.yaml", "--until", "ready", "--send", "ab", *rest, "whole.json")

    first = command(
        *("run", "board.yaml", "--until", "ready", "--send", "ab", "--until", "a"),
        *("--snapshot", "half.snapshot"),
    )
    second = command("run", "board.yaml", "--restore", "half.snapshot", *rest, "rest.json")

    assert (first.code, second.code) == (0, 0)
    whole, restored = (json.loads((folder / f"{n}.json").read_text()) for n in ("whole", "rest"))
    assert restored["state_sha256"] == whole["state_sha256"]
    assert restored["console_sha256"] == whole["console_sha256"]


def test_snapshot_is_written_when_the_time_ran_out(folder, command):
    result = command("run", "board.yaml", "--timeout", "0.1", "--snapshot", "late", "--send", "a")

    assert result.code == 124
    assert (folder / "late").stat().st_size > 100


def test_snapshot_of_a_powered_off_guest_is_refused_aloud(folder, command):
    result = command("run", "board.yaml", "--send", "q", "--snapshot", "none")

    assert result.code == 0
    assert "no snapshot was written to none: the guest's run is over" in result.err
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain", b"plain"),
        (r"a\nb\r\t", b"a\nb\r\t"),
        (r"\\n", rb"\n"),
        (r"\x41\x7f\e\0", b"A\x7f\x1b\0"),
        ("é", "é".encode()),
    ],
)
def test_escapes_stand_for_their_bytes(written, meant):
    assert parse_text(written) == meant


@pytest.mark.parametrize("written", [r"\q", r"\x4", "\\", r"\xzz", ""])
def test_escape_that_means_nothing_is_refused(written):
    with pytest.raises(click.BadParameter):
        parse_text(written)


def test_paused_machine_that_nobody_could_let_go_on_is_refused(folder, command):
    result = command("run", "board.yaml", "--paused", "--console", "none")

    assert result.code == 2
    assert "--paused waits for somebody who lets the machine go on" in result.err

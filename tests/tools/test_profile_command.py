"""`hypervisor profile`: its tables, its files, and what it says of wrong arguments."""

from __future__ import annotations

import json
import struct

import pytest


@pytest.fixture
def profile(folder, command):
    """`profile(*arguments)` of the small guest, to which much is typed: code, output, errors."""

    def call(*arguments):
        typed = ("--send", "b" * 300, "--until", "b" * 290)
        words = ("profile", "board.yaml", "--until", "guest ready", *typed)
        result = command(*words, *map(str, arguments))
        return result.code, result.out, result.err

    return call


def test_tables_say_where_time_went(profile):
    code, out, err = profile("--period", "1us", "--exact")

    lines = [line.split("  ") for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert out.startswith("test-board: ")
    assert any(line[0] == "machine" and "100.0 %" in line[1] for line in lines if len(line) > 1)
    assert any(line[0] == "uart0" for line in lines)
    assert "[0x80000000]" in out


def test_the_run_is_the_same_as_without(folder, command):
    digests = set()
    for name in ("run", "profile"):
        words = (name, "board.yaml", "--console", "none", "--until", "guest ready")
        command(*words, "--stats", name)
        digests.add(json.loads((folder / name).read_text())["state_sha256"])

    assert len(digests) == 1


def test_files_are_written(profile, tmp_path):
    names = ("folded", "speedscope", "drcov")
    paths = {name: tmp_path / name for name in names}

    code, _, _ = profile("--period", "1us", *(f"--{name}={paths[name]}" for name in names))

    assert code == 0
    assert paths["folded"].read_text().startswith("[0x80000000] ")
    assert json.loads(paths["speedscope"].read_text())["profiles"][0]["type"] == "sampled"
    head, _, blocks = paths["drcov"].read_bytes().partition(b" bbs\n")
    assert b"guest.bin" in head
    assert struct.unpack_from("<IH", blocks)[0] == 0


def test_a_program_without_lines_has_no_lcov(profile, tmp_path):
    code, _, err = profile("--lcov", tmp_path / "lcov")

    assert code == 3
    assert "no ELF program was booted: give one by --symbols" in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--period", "soon"), 2, "'soon' is not a time such as 100us, 2ms or 5s"),
        (("--period", "1ns"), 2, "'1ns' is less than 1 us"),
        (("--symbols", "nothing"), 3, "nothing: cannot be read (No such file or directory)"),
        (("--folded", "/nowhere/f"), 3, "the folded file /nowhere/f cannot be written"),
    ],
)
def test_wrong_arguments_are_sentences_before_the_run(profile, arguments, code, sentence):
    found, out, err = profile(*arguments)

    assert (found, out) == (code, "")
    assert sentence in err


def test_the_profile_of_a_run_that_failed_is_shown(profile):
    code, out, err = profile("--send", "f", "--until", "never")

    assert code == 1
    assert out.startswith("test-board: ")
    assert "the guest powered off before it printed 'never'" in err

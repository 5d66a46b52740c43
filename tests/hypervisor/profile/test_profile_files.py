"""What profiles are written as: folded stacks, speedscope, drcov, lcov."""

from __future__ import annotations

import json
import re
import struct

import pytest

from hypervisor.cpu.cells import NEVER
from hypervisor.profile.coverage import Stretch, edges, stretches
from hypervisor.profile.drcov import Module, drcov
from hypervisor.profile.lcov import Executed, LcovError, lcov
from hypervisor.profile.profile import Profile
from hypervisor.profile.stacks import folded, speedscope


@pytest.fixture
def profile(guest) -> Profile:
    profile = Profile(guest, 2_000, exact=True)
    guest.run(timeout=10)
    profile.close()
    return profile


@pytest.fixture
def records(profile, guest_file) -> dict[str, list[str]]:
    """lcov's records of the guest, by kind."""
    runs = profile.runs()
    text = lcov(guest_file.read_bytes(), "guest", Executed(stretches(runs), edges(runs)))
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(":")
        found.setdefault(kind, []).append(rest)
    return found


# -- stacks -----------------------------------------------------------------------------------


def test_folded_lines_are_stacks_and_weights(profile):
    lines = folded(profile).splitlines()

    assert [re.fullmatch(r"\S+(;\S+)* \d+", line) is not None for line in lines] == [True] * 3
    assert lines[0].startswith("_start;guest;middle;innermost ")
    assert sum(int(line.split()[-1]) for line in lines) == profile.samples


def test_folded_lines_name_harts_where_there_are_several(guest_file, workshop):
    machine = workshop.build(guest_file.read_bytes(), harts=2)
    profile = Profile(machine, 2_000)
    machine.run(timeout=10)
    profile.close()

    assert {line.split(";")[0] for line in folded(profile).splitlines()} == {"hart0", "hart1"}


def test_speedscope_s_file_is_of_its_format(profile):
    """The facts of https://www.speedscope.app/file-format-schema.json: what is required of a file
    and of a sampled profile, and how samples refer to frames."""
    file = json.loads(json.dumps(speedscope(profile)))

    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert all(set(frame) <= {"name", "file", "line", "col"} for frame in file["shared"]["frames"])
    assert 0 <= file["activeProfileIndex"] < len(file["profiles"])
    (sampled,) = file["profiles"]
    assert set(sampled) == {
        *("type", "name", "unit", "startValue", "endValue", "samples", "weights")
    }
    assert (sampled["type"], sampled["unit"]) == ("sampled", "nanoseconds")
    assert len(sampled["samples"]) == len(sampled["weights"])
    assert sampled["endValue"] - sampled["startValue"] == sum(sampled["weights"])
    used = {index for stack in sampled["samples"] for index in stack}
    assert used == set(range(len(file["shared"]["frames"])))


def test_speedscope_s_stacks_are_in_the_order_of_time(profile):
    file = speedscope(profile)
    names = [frame["name"] for frame in file["shared"]["frames"]]
    stacks = [[names[i] for i in stack] for stack in file["profiles"][0]["samples"]]

    assert stacks[0] == ["_start", "guest", "middle", "innermost"]
    assert stacks[-1] == ["_start", "guest", *["recurse"] * 6, "innermost"]


# -- drcov ------------------------------------------------------------------------------------


def parsed(data: bytes) -> tuple[list[list[str]], list[tuple[int, int, int]]]:
    """Modules' columns and blocks of a drcov file."""
    head, _, rest = data.partition(b"BB Table: ")
    lines = head.decode().splitlines()
    assert lines[:2] == ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov"]
    assert lines[2] == f"Module Table: version 2, count {len(lines) - 4}"
    assert lines[3] == "Columns: id, base, end, entry, checksum, timestamp, path"
    count, _, blocks = rest.partition(b" bbs\n")
    assert len(blocks) == 8 * int(count)
    modules = [[cell.strip() for cell in line.split(",")] for line in lines[4:]]
    return modules, list(struct.iter_unpack("<IHH", blocks))


def test_drcov_has_modules_and_blocks_within_them():
    covered = [Stretch(0x1000, 0x1010, 3), Stretch(0x2004, 0x2006, 1)]

    modules, blocks = parsed(drcov(covered, [Module("b", 0x2000, 0x3000), Module("a", 0, 0x2000)]))

    assert [(m[0], int(m[1], 16), int(m[2], 16), m[6]) for m in modules] == [
        *(("0", 0, 0x2000, "a"), ("1", 0x2000, 0x3000, "b"))
    ]
    assert blocks == [(0x1000, 16, 0), (4, 2, 1)]


def test_drcov_cuts_what_is_too_long_or_crosses_modules():
    covered = [Stretch(0x0, 0x30000, 1)]

    _, blocks = parsed(drcov(covered, [Module("a", 0, 0x18000), Module("b", 0x18000, 0x40000)]))

    assert blocks == [*((0, 0xFFFF, 0), (0xFFFF, 0x8001, 0), (0, 0xFFFF, 1), (0xFFFF, 0x8001, 1))]


@pytest.mark.parametrize("address", [0x10, 0x5555_1234, 0x3F_8000_1000, 0xFFFF_FFFF_FFFF_0000])
def test_drcov_has_modules_for_unknown_code(address):
    modules, blocks = parsed(drcov([Stretch(address, address + 4, 1)], []))

    start = int(modules[0][1], 16)
    assert (start + blocks[0][0], blocks[0][1:]) == (address, (4, 0))
    assert modules[0][6] == f"[code at {start:#x}]"


def test_drcov_of_a_guest_covers_what_was_executed(profile):
    covered = stretches(profile.runs())

    _, blocks = parsed(drcov(covered, [Module("guest", 0x8000_0000, 0x8000_1000)]))

    assert {(0x8000_0000 + at, size) for at, size, _ in blocks} == {
        (each.start, each.end - each.start) for each in covered
    }


# -- lcov -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "line", "calls"),
    [
        ("innermost", 7, 11),
        ("middle", 13, 10),
        ("other", 19, 1),
        ("recurse", 26, 6),
        ("never", 35, 0),
        ("guest", 50, 1),
    ],
)
def test_lcov_counts_calls(records, function, line, calls):
    assert f"{line},{function}" in records["FN"]
    assert f"{calls},{function}" in records["FNDA"]


@pytest.mark.parametrize(
    ("line", "times"),
    [(9, 13_000), (14, 10), (15, 10), (21, 2000), (22, 500), (28, 5), (30, 1), (31, 6), (36, 0)],
)
def test_lcov_counts_lines(records, line, times):
    assert f"{line},{times}" in records["DA"]


@pytest.mark.parametrize(("line", "ways"), [(21, {500, 1500}), (27, {1, 5}), (55, {0, 1})])
def test_lcov_counts_branches(records, line, ways):
    found = [each.split(",") for each in records["BRDA"]]

    assert {int(times) for at, *_, times in found if int(at) == line} == ways


def test_lcov_s_sums_are_right(records):
    lines = [each.split(",")[1] for each in records["DA"]]
    calls = [each.split(",")[0] for each in records["FNDA"]]
    branches = [each.split(",")[3] for each in records["BRDA"]]

    assert records["LF"] == [str(len(lines))]
    assert records["LH"] == [str(sum(each != "0" for each in lines))]
    assert (records["FNF"], records["FNH"]) == (["7"], [str(sum(c != "0" for c in calls))])
    assert (records["BRF"], records["BRH"]) == (
        [str(len(branches))],
        [str(sum(each not in "0-" for each in branches))],
    )
    assert records["SF"][0].endswith("/guest.c")


def test_lcov_marks_branches_that_were_not_met(guest_file):
    text = lcov(guest_file.read_bytes(), "guest", Executed([], {}))

    assert set(re.findall(r"BRDA:.*,(.*)", text)) == {"-"}


def test_lcov_follows_a_moved_program(profile, guest_file):
    moved = [Stretch(s.start + 0x1000, s.end + 0x1000, s.times) for s in stretches(profile.runs())]

    text = lcov(guest_file.read_bytes(), "guest", Executed(moved, {}, 0x1000))

    assert "DA:9,13000" in text


def test_a_program_without_lines_is_refused(guest_file):
    data = guest_file.read_bytes().replace(b".debug_", b".xebug_")

    with pytest.raises(LcovError, match="guest: has no DWARF line table; compile it with -g"):
        lcov(data, "guest", Executed([], {}))


@pytest.mark.parametrize("cut", [64, 500, 2000, 4000, 9000])
def test_a_damaged_program_is_refused(guest_file, cut):
    with pytest.raises(LcovError, match="guest: "):
        lcov(guest_file.read_bytes()[:cut], "guest", Executed([], {}))


def test_open_runs_are_no_edges(profile):
    assert all(after != NEVER for _, after in edges(profile.runs()))

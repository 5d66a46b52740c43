"""Profiles of an AArch64 guest: stacks by x29, exact coverage, the run unchanged."""

from __future__ import annotations

import pytest

from hypervisor.profile.coverage import edges, stretches
from hypervisor.profile.lcov import Executed, lcov
from hypervisor.profile.profile import Profile
from hypervisor.profile.stacks import folded


@pytest.fixture
def machine(aarch64):
    return aarch64()


@pytest.fixture
def profile(machine) -> Profile:
    profile = Profile(machine, 2_000, exact=True)
    outcome = machine.run(timeout=20)
    profile.close()
    assert outcome.kind == "power-off"
    return profile


def test_profiling_changes_nothing_in_the_run(aarch64, machine, profile):
    plain = aarch64()
    plain.run(timeout=20)

    assert machine.state_sha256() == plain.state_sha256()


def test_every_byte_is_counted_once(machine, profile):
    assert sum(profile.modes().values()) == machine.clock.executed
    assert set(profile.modes()) == {"kernel"}
    assert sum(row.exact or 0 for row in profile.functions()) == machine.clock.executed


def test_stacks_lead_from_the_outermost_function(profile):
    stacks = {line.rpartition(" ")[0] for line in folded(profile).splitlines()}

    assert stacks == {
        "_start;guest;middle;innermost",
        "_start;guest;other",
        "_start;guest;" + "recurse;" * 6 + "innermost",
    }


@pytest.mark.parametrize("record", ["DA:9,13000", "DA:22,500", "FNDA:11,innermost", "DA:36,0"])
def test_lines_and_calls_are_counted(profile, aarch64_file, record):
    runs = profile.runs()

    text = lcov(aarch64_file.read_bytes(), "guest", Executed(stretches(runs), edges(runs)))

    assert record in text.splitlines()


def test_branches_are_counted(profile, aarch64_file):
    runs = profile.runs()

    text = lcov(aarch64_file.read_bytes(), "guest", Executed(stretches(runs), edges(runs)))

    found = [line.split(",") for line in text.splitlines() if line.startswith("BRDA:21,")]
    assert {int(each[3]) for each in found} == {500, 1500}

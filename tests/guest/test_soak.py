"""Campaigns: many boots, and many snapshots at random moments, that must all end the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.guest, pytest.mark.slow]

BOOTS = 50
RESTORES = 15
AT_ONCE = 2
END = [
    ("send", "cat /proc/interrupts; nproc; echo typed | tr a-z A-Z\n"),
    ("expect", "\n# "),
    ("mark", "typed"),
    ("send", "poweroff -f\n"),
    ("finish",),
    ("mark", "end"),
]


@pytest.mark.parametrize("harts", [1, 4])
def test_fifty_boots_in_a_row_are_equal(harts: int, guest_of: Callable[[int], Any]) -> None:
    guest = guest_of(harts)

    ends: list[str] = []
    for _ in range(BOOTS // AT_ONCE):
        runs = [guest.run(("expect", "\n# "), *END) for _ in range(AT_ONCE)]
        ends += [f"{run.wait()['outcome']['kind']} {run.marks['end']}" for run in runs]
        print(len(ends), ends[-1], flush=True)

    assert len(ends) == BOOTS
    assert len(set(ends)) == 1


@pytest.mark.parametrize("harts", [1, 4])
def test_restores_at_random_moments_end_the_same(
    harts: int, reference_of: Callable[[int], Any], tmp_path: Path
) -> None:
    reference = reference_of(harts)
    chance = random.Random(harts)
    length = reference.plain.marks["shell"]["virtual_ns"]

    for number in range(RESTORES):
        # Saved, restored, saved again and restored once more, each in a process of its own.
        moments = sorted(chance.sample(range(100_000_000, length), 2))
        files = [str(tmp_path / f"{number}.{n}") for n in range(2)]
        first = reference.guest.run(("until", moments[0]), ("snapshot", files[0]))
        first.wait()
        second = reference.guest.run(
            ("restore", files[0]),
            ("hook", chance.choice(["block", "code"])),
            ("until", moments[1]),
            ("snapshot", files[1]),
        )
        second.wait()
        third = reference.guest.run(
            ("restore", files[1]), ("expect", "\n# "), ("mark", "shell"), *END
        )

        assert third.marks == reference.plain.marks, moments

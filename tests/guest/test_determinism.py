"""The same machine with the same inputs makes the same run, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.guest

Referenced = Callable[..., Any]
ARCHITECTURES = ("riscv64", "aarch64")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("harts", [1, 4])
def test_busy_host_and_snapshots_taken_on_the_way_change_nothing(
    harts: int, arch: str, reference_of: Referenced
) -> None:
    reference = reference_of(harts, arch)

    assert [reference.disturbed.marks[name] for name in ("shell", "typed", "end")] == [
        reference.plain.marks[name] for name in ("shell", "typed", "end")
    ]
    assert reference.plain.wait()["outcome"]["kind"] == "power-off"
    assert reference.plain.wait()["messages"] == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("moment", "harts"), [("early", 1), ("middle", 4), ("shell", 1)])
def test_machine_restored_in_another_process_ends_the_same(
    moment: str, harts: int, arch: str, reference_of: Referenced
) -> None:
    reference = reference_of(harts, arch)
    moments = list(reference.snapshots)
    marks = dict(reference.disturbed.marks)
    for passed in moments[: moments.index(moment)]:
        del marks[passed]

    run = reference.guest.run(
        ("restore", str(reference.snapshots[moment])), ("mark", moment), *reference.rest(moment)
    )

    assert run.marks == marks


# Each architecture and each number of harts is hooked in both ways.
@pytest.mark.parametrize(("arch", "harts"), [("riscv64", 1), ("aarch64", 4)])
def test_hook_on_every_block_from_power_on_changes_nothing(
    arch: str, harts: int, reference_of: Referenced
) -> None:
    reference = reference_of(harts, arch)

    run = reference.guest.run(
        ("hook", "block"), ("expect", "\n# "), ("mark", "shell"), *reference.rest("shell")
    )

    assert run.marks == reference.plain.marks
    assert run.wait()["hooked"] > 50_000_000


@pytest.mark.parametrize(("arch", "harts"), [("riscv64", 4), ("aarch64", 1)])
def test_hook_on_every_instruction_changes_nothing(
    arch: str, harts: int, reference_of: Referenced
) -> None:
    reference = reference_of(harts, arch)

    run = reference.guest.run(
        ("restore", str(reference.snapshots["middle"])),
        ("hook", "code"),
        ("expect", "\n# "),
        ("mark", "shell"),
        *reference.rest("shell"),
    )

    assert run.marks == reference.plain.marks
    assert run.wait()["hooked"] > 50_000_000

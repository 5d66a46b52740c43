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


@pytest.mark.parametrize(
    ("arch", "moment"),
    [
        *(("riscv64", "early"), ("riscv64", "middle"), ("riscv64", "shell")),
        *(("aarch64", "early"), ("aarch64", "middle"), ("aarch64", "shell")),
    ],
)
def test_machine_restored_in_another_process_ends_the_same(
    arch: str, moment: str, reference_of: Referenced
) -> None:
    references = [reference_of(1, arch), reference_of(4, arch)]
    moments = list(references[0].snapshots)
    passed = moments[: moments.index(moment)]

    runs = [
        reference.guest.run(
            ("restore", str(reference.snapshots[moment])),
            ("mark", moment),
            *reference.rest(moment),
        )
        for reference in references
    ]

    for run, reference in zip(runs, references, strict=True):
        marks = dict(reference.disturbed.marks)
        for name in passed:
            del marks[name]
        assert run.marks == marks


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_hook_on_every_block_from_power_on_changes_nothing(
    arch: str, reference_of: Referenced
) -> None:
    references = [reference_of(1, arch), reference_of(4, arch)]

    runs = [
        reference.guest.run(
            ("hook", "block"), ("expect", "\n# "), ("mark", "shell"), *reference.rest("shell")
        )
        for reference in references
    ]

    for run, reference in zip(runs, references, strict=True):
        assert run.marks == reference.plain.marks
        assert run.wait()["hooked"] > 50_000_000


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_hook_on_every_instruction_changes_nothing(arch: str, reference_of: Referenced) -> None:
    references = [reference_of(1, arch), reference_of(4, arch)]

    runs = [
        reference.guest.run(
            ("restore", str(reference.snapshots["middle"])),
            ("hook", "code"),
            ("expect", "\n# "),
            ("mark", "shell"),
            *reference.rest("shell"),
        )
        for reference in references
    ]

    for run, reference in zip(runs, references, strict=True):
        assert run.marks == reference.plain.marks
        assert run.wait()["hooked"] > 50_000_000

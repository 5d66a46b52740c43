"""A Linux guest's OpenCL repeats bit for bit, and is done again without the guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from gpu.capture_file import CaptureReader
from gpu.replay import replay
from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIG = Path(__file__).parents[2] / "configs" / "riscv64-gpu.yaml"
PROMPT = "\n# "
PROGRAMS = ("gemm", "reduction", "transfers")


@dataclass(frozen=True)
class Run:
    """What a run came to: its capture, console and the machine's digest at the end."""

    capture: Path
    console: str
    digest: str
    now: int


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """One from the machine's start, one from a snapshot that the first made at its prompt."""
    folder = tmp_path_factory.mktemp("replay")
    snapshot, capture = folder / "prompt", folder / "run.gpu"
    overrides = [f"devices.gpu0.capture={capture}", "devices.gpu0.opencl.timeout=20s"]
    with Machine.load(CONFIG, overrides) as machine:
        machine.console.expect(PROMPT, timeout=400)
        machine.snapshot(snapshot)
        first = compute(machine, folder / "first.gpu")
    capture.rename(first.capture)  # the next machine has the same description
    with Machine.load(CONFIG, overrides) as machine:
        machine.restore(snapshot)
        second = compute(machine, capture)
    return first, second


def compute(machine: Machine, capture: Path) -> Run:
    seen = len(machine.console.text)
    for name in PROGRAMS:
        machine.console.send(f"gpu-{name}\n")
        machine.console.expect(f"PASS {name}", timeout=300)
        machine.console.expect(PROMPT, timeout=300)
    text = machine.console.text[seen:]
    return Run(capture, text, machine.state_sha256(), machine.clock.now())


def test_two_runs_ask_the_same(runs: tuple[Run, Run]) -> None:
    first, second = runs

    assert records(first) == records(second)


def test_two_runs_end_in_the_same_state(runs: tuple[Run, Run]) -> None:
    first, second = runs

    assert (first.now, first.console) == (second.now, second.console)
    assert first.digest == second.digest


def test_replay_without_the_guest_writes_the_same_bytes(runs: tuple[Run, Run]) -> None:
    with CaptureReader(runs[0].capture) as capture:
        result = replay(capture)

    assert result.differences == []
    assert result.completions == result.submissions > 0
    assert result.output_bytes > 1 << 16
    assert {"gemm", "sum"} <= set(result.kernels)


def records(run: Run) -> list[object]:
    with CaptureReader(run.capture) as capture:
        return list(capture.records())

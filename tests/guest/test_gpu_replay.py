"""A Linux guest's OpenCL repeats bit for bit, from its boot and from a snapshot amid a kernel.

And it is done again without the guest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpu.capture_file import CaptureReader
from gpu.replay import replay

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]
PROMPT = "\n# "
PROGRAMS = ("gemm", "reduction", "transfers")
COSTS = ("devices.gpu0.opencl.timeout=20s", "devices.gpu0.model.launch=2ms")
"""Commands that take long in the guest's time are under way when a snapshot is made."""

AMID = (("expect", PROMPT), ("send", "gpu-gemm\n"), ("launched", "gemm"), ("mark", "amid"))
REST = (
    *(("expect", "PASS gemm"), ("expect", PROMPT), ("mark", "gemm")),
    *(("send", "gpu-reduction\n"), ("expect", "PASS reduction"), ("expect", PROMPT)),
    *(("send", "gpu-transfers\n"), ("expect", "PASS transfers"), ("expect", PROMPT)),
    ("mark", "end"),
)


class Run:
    """A scenario in a process of its own, with a folder for its capture."""

    def __init__(self, architecture: str, folder: Path, *steps: Sequence[str]) -> None:
        self.capture = folder / "run.gpu"
        folder.mkdir(exist_ok=True)
        overrides = [f"devices.gpu0.capture={self.capture}", *COSTS]
        machine = str(ROOT / "configs" / f"{architecture}-gpu.yaml")
        spec = {"machine": machine, "overrides": overrides, "steps": steps}
        script = str(Path(__file__).with_name("scenario.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> dict[str, Any]:
        output, errors = self._process.communicate(timeout=900)
        assert self._process.returncode == 0, errors[-6000:]
        result: dict[str, Any] = json.loads(output)
        return result


@dataclass(frozen=True)
class Runs:
    """What three runs came to. The second capture is of the second run."""

    first: dict[str, Any]
    second: dict[str, Any]
    restored: dict[str, Any]
    captures: tuple[Path, Path]


@pytest.fixture(scope="module", params=["riscv64", "aarch64"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two from the machine's start, side by side, and one from a snapshot that the first made."""
    architecture: str = request.param
    folder = tmp_path_factory.mktemp("replay")
    snapshot = str(folder / "amid")
    one = Run(architecture, folder / "one", *AMID, ("snapshot", snapshot), *REST)
    other = Run(architecture, folder / "other", *AMID, *REST)
    first, second = one.wait(), other.wait()
    kept = one.capture.rename(folder / "first.gpu")  # the next has the same description
    resumed = ("restore", snapshot), ("mark", "amid"), *REST
    restored = Run(architecture, folder / "one", *resumed).wait()
    return Runs(first, second, restored, (kept, other.capture))


def test_two_boots_ask_the_same(runs: Runs) -> None:
    first, second = map(records, runs.captures)

    assert first == second


def test_two_boots_end_in_the_same_state(runs: Runs) -> None:
    assert runs.first["marks"] == runs.second["marks"]
    assert runs.first["console"] == runs.second["console"]


@pytest.mark.parametrize("moment", ["amid", "gemm", "end"])
def test_snapshot_amid_a_kernel_goes_on_the_same_elsewhere(runs: Runs, moment: str) -> None:
    assert runs.restored["marks"][moment] == runs.first["marks"][moment]


def test_programs_are_right_after_a_snapshot_amid_a_kernel(runs: Runs) -> None:
    said = runs.restored["console"]

    assert [line for line in said.splitlines() if line.startswith(("PASS", "FAIL"))] == [
        f"PASS {name}" for name in PROGRAMS
    ]
    assert runs.restored["messages"] == [
        "gpu0: a capture has no snapshot's contexts, so it ends here"
    ]


def test_replay_without_the_guest_writes_the_same_bytes(runs: Runs) -> None:
    with CaptureReader(runs.captures[0]) as capture:
        result = replay(capture)

    assert result.differences == []
    assert result.completions == result.submissions > 0
    assert result.output_bytes > 1 << 16
    assert {"gemm", "sum"} <= set(result.kernels)


def records(capture: Path) -> list[object]:
    with CaptureReader(capture) as reader:
        return list(reader.records())

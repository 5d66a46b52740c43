"""The bundled guest with a GPU, on each architecture: `hypervisor run configs/gpu-demo.yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest

import configs
from hypervisor.machine import Machine

CONFIG = Path(configs.__file__).parent / "gpu-demo.yaml"
AARCH64 = CONFIG.with_name("aarch64-gpu-demo.yaml")
everywhere = pytest.mark.parametrize("config", [CONFIG, AARCH64], ids=["riscv64", "aarch64"])
PASSED = """
Hello from bare metal, with a GPU.
GPU: {name}
PASS saxpy of 65536 elements
PASS gemm of 96 x 96
PASS mandelbrot of 640 x 480, 608 pixels checked
all passed
"""


def output_of(machine: Machine) -> str:
    return machine.console.output.decode().replace("\r", "")


@everywhere
def test_it_computes_right_and_draws(config: Path) -> None:
    with Machine.load(config) as machine:
        outcome = machine.run(timeout=300)
        name = machine.devices["gpu0"].core.limits.parameters[0x102B].rstrip(b"\0").decode()
        width, height, pixels = machine.devices["gpu0"].scanout.rgb()

    assert outcome.kind == "power-off"
    assert output_of(machine) == PASSED.format(name=name)
    assert (width, height) == (640, 480)
    middle = (240 * 640 + 400) * 3
    assert pixels[middle : middle + 3] == bytes(3)
    assert len(set(zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True))) > 50


@everywhere
def test_two_runs_are_the_same_and_a_snapshot_changes_nothing(config: Path) -> None:
    with Machine.load(config) as machine, Machine.load(config) as other:
        machine.run(timeout=300)
        other.run(until="PASS gemm", timeout=300)
        saved = other.snapshot()
        other.run(timeout=300)

        digest, repeated = machine.state_sha256(), other.state_sha256()
        other.restore(saved)
        other.run(timeout=300)
        restored = other.state_sha256()

    assert repeated == digest
    assert restored == digest


@pytest.mark.parametrize("option", ["isolation=strict", "timing=strict"])
def test_it_passes_with(option: str) -> None:
    with Machine.load(CONFIG, f"devices.gpu0.{option}") as machine:
        outcome = machine.run(timeout=300)

    assert outcome.kind == "power-off"


def test_it_passes_at_the_hosts_own_times() -> None:
    with Machine.load(CONFIG, "devices.gpu0.timing=host") as machine:
        outcome = machine.run(timeout=300)

    assert outcome.kind == "power-off"


@everywhere
def test_without_opencl_it_is_told_so(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCL_ICD_VENDORS", "/nonexistent")

    with Machine.load(config) as machine:
        outcome = machine.run(timeout=300)

    assert outcome.kind == "failed"
    assert "FAIL there is no OpenCL device: OpenCL error -1\n" in output_of(machine)
    assert "gpu0: the host has no OpenCL platform: no guest can compute" in machine.messages

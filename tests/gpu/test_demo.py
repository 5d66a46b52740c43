"""The bundled guest with a GPU, on each architecture: `hypervisor run configs/gpu-demo.yaml`."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import configs
from hypervisor.machine import Machine
from tests.hypervisor.trace.test_perfetto import parse
from tools.main import run

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


LIMIT = 200
"""Rounds after which a point counts as one of the set."""


def decode(png: bytes) -> npt.NDArray[np.uint8]:
    """The picture of a PNG file whose rows have no filter: rows, columns, and RGB."""
    at, chunks = 8, {}
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        chunks[kind] = png[at + 8 : at + 8 + size]
        at += 12 + size
    width, height = struct.unpack_from(">2I", chunks[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def mandelbrot(width: int, height: int) -> npt.NDArray[Any]:
    """The picture that is to be drawn, with 24 bits behind the point: rows, columns, and RGB."""
    step = (1 << 24) // 2048 * 10
    real = np.arange(width, dtype=np.int64) * step - (35 << 20)
    imaginary = np.arange(height, dtype=np.int64)[:, None] * step - height // 2 * step
    x = y = rounds = np.zeros((height, width), np.int64)
    for _ in range(LIMIT):
        is_near = x * x + y * y < 4 << 48
        rounds = rounds + is_near
        moved = ((x * x - y * y) >> 24) + real, ((x * y) >> 23) + imaginary
        x, y = (np.where(is_near, new, old) for new, old in zip(moved, (x, y), strict=True))
    colors = np.stack([rounds * 9, rounds * 5, rounds * 3 + 64], axis=-1) & 255
    return np.where(rounds[..., None] == LIMIT, 0, colors)


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


def test_screenshot_is_the_picture_that_is_shown_pixel_by_pixel(tmp_path: Path) -> None:
    file = tmp_path / "out.png"

    code = run(["run", str(CONFIG), "--console", "none", "--screenshot", str(file)])
    with Machine.load(CONFIG) as machine:
        machine.run(timeout=300)
        shown = decode(machine.gpu.screenshot())
        width, height, pixels = machine.devices["gpu0"].scanout.rgb()

    picture = decode(file.read_bytes())
    assert code == 0
    assert picture.shape == (height, width, 3)
    assert np.array_equal(picture, shown)
    assert picture.tobytes() == pixels
    assert np.array_equal(picture, mandelbrot(width, height))


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


def test_timeline_has_kernels_beside_the_interrupts_of_their_fences(tmp_path: Path) -> None:
    file = tmp_path / "out.pftrace"

    code = run(
        ["run", str(CONFIG), "--console", "none", "--trace", "gpu,irq", "--trace-to", str(file)]
    )
    tracks = parse(file).tracks
    kernels = {name for _, _, name in tracks["GPU queues/gpu0.1.5/#0"]}
    fences = [time for _, time, name in tracks["GPU queues/gpu0.1.ring0/#0"] if name == "fence"]
    line = [time for _, time, name in tracks["Interrupt lines/gpu0 (plic.11)"] if name == "raised"]

    assert code == 0
    assert {"saxpy", "gemm", "mandelbrot"} <= kernels
    assert len(fences) == len(line) > 3
    assert all(fence <= raised < fence + 1000 for fence, raised in zip(fences, line, strict=True))


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

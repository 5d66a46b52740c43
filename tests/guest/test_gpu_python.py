"""Debian's python3-pyopencl and its own demonstration on the virtual GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = [pytest.mark.guest, pytest.mark.slow]

CONFIGS = Path(__file__).parents[2] / "configs"
PROMPT = "\n# "
IMAGES = {"riscv64": "pyopencl.yaml", "aarch64": "pyopencl-arm64.yaml"}
# What Debian's alternatives would choose: no installation scripts ran.
DEMO = (
    "cd /usr/lib/*-linux-gnu; LD_LIBRARY_PATH=$PWD/blas:$PWD/lapack PYOPENCL_CTX=0 "
    "python3 /root/demo.py; echo $?"
)

everywhere = pytest.mark.parametrize("architecture", IMAGES)


@everywhere
def test_pyopencls_demonstration_is_right(
    architecture: str, build: Callable[[str], Path], ask: Callable[..., str]
) -> None:
    overrides = [f"boot.initrd={build(IMAGES[architecture])}", "memory.ram.size=1G"]
    with Machine.load(CONFIGS / f"{architecture}-gpu.yaml", overrides) as machine:
        machine.console.expect(PROMPT, timeout=900)

        said = ask(machine, DEMO, timeout=3000)

    assert re.search(r"^(Norm: )?0\.0+(e\+00)?$", said, re.MULTILINE), said
    assert said.endswith("\n0")


@everywhere
def test_pyopencl_finds_no_device_without_opencl_on_the_host(
    architecture: str, build: Callable[[str], Path], ask: Callable[..., str]
) -> None:
    overrides = [
        f"boot.initrd={build(IMAGES[architecture])}",
        "memory.ram.size=1G",
        "devices.gpu0.opencl.platform=no platform has this name",
    ]
    with Machine.load(CONFIGS / f"{architecture}-gpu.yaml", overrides) as machine:
        machine.console.expect(PROMPT, timeout=900)

        said = ask(machine, DEMO, timeout=3000)

    assert "no devices found" in said, said
    assert said.endswith("\n1")

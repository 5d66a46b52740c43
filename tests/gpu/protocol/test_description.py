"""What a monitor says of a GPU."""

from gpu.core.observation import KernelFigures
from gpu.testing import GuestBench


def test_contexts_and_the_kernels_that_took_most_time_are_named():
    with GuestBench() as guest:
        guest.gpu.observation.kernels["copy"] = KernelFigures(runs=1, items=64, time=10)
        guest.gpu.observation.kernels["matmul"] = KernelFigures(runs=2, items=4096, time=5000)

        lines = guest.gpu.describe()

    assert lines == [
        "contexts: 1, commands so far: 0",
        "bytes copied because the device does not reach them: 0",
        "context 1 (test): 0 submissions in flight",
        "kernel matmul: 2 runs of 4096 work-items, 5000 ns",
        "kernel copy: 1 runs of 64 work-items, 10 ns",
    ]

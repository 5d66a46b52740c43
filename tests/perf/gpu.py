"""What the virtual GPU costs, beside pyopencl on the same device with nothing between."""

from __future__ import annotations

import json
import os
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from gpu import protocol as p
from gpu.opencl import MapFlags, Status
from gpu.ring import DESCRIPTOR, ENABLE, RingGpu, RingGpuOptions
from gpu.testing import BULK, CONTEXT, QUEUE, RAM, GuestBench
from hypervisor.device.board import Board
from tests.perf.table import Row

TABLE: Literal["gpu-bench"] = "gpu-bench"
ORDER = 512
LAUNCHES = 500
COMMANDS = 10_000
BYTES = 64 << 20
SOURCE = """
__kernel void empty(void) {}
__kernel void spin(volatile __global int *a) { a[0] = 1; while (a[0]) ; }
__kernel void scale(__global float *a) { a[get_global_id(0)] *= 2.0f; }
#define TILE 16
__kernel void gemm(uint n, __global const float *a, __global const float *b, __global float *c)
{
    __local float as[TILE][TILE], bs[TILE][TILE];
    uint column = get_global_id(0), row = get_global_id(1);
    uint x = get_local_id(0), y = get_local_id(1);
    float sum = 0.0f;
    for (uint tile = 0; tile < n; tile += TILE) {
        as[y][x] = a[row * n + tile + x];
        bs[y][x] = b[(tile + y) * n + column];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint k = 0; k < TILE; k++) sum += as[y][k] * bs[k][x];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    c[row * n + column] = sum;
}
"""
GEMM, EMPTY, SCALE = 11, 12, 13
_RING, _STREAM = RAM + (1 << 16), RAM + (1 << 17)


def rows(runs: int, folder: Path, linux_launch: float) -> list[Row]:
    """Each figure is the median of `runs` (launches: of LAUNCHES). `linux_launch`: seconds of one
    in a Linux guest."""
    native = _native(runs, folder)
    with GuestBench(memory=BYTES + (1 << 20)) as guest:
        guest.bench.is_watched = False
        _prepare(guest)
        gemm = p.NdRange(
            queue=QUEUE, kernel=GEMM, dimensions=2, global_size=(ORDER, ORDER, 1),
            local_size=(16, 16, 0),
        )  # fmt: skip
        empty = p.NdRange(queue=QUEUE, kernel=EMPTY, dimensions=1, global_size=(1, 1, 1))
        batch = empty.encode() * COMMANDS
        gemm_seconds = _median(runs, lambda: guest.wait(guest.submit(gemm)))
        batch_seconds = _median(runs, lambda: guest.wait(guest.submit_bytes(batch)))
        before = guest.gpu.bounced_bytes
        scale_seconds = _median(runs, lambda: _upload_and_read_back(guest))
        copied = guest.gpu.bounced_bytes - before
    launch = 1e6 * native["empty"]
    return [
        Row(f"kernel of some 100 ms: GEMM of order {ORDER} with tiles", "ms", 1e3 * gemm_seconds,
            1e3 * native["gemm"], 1 / 0.95, "ratio", TABLE),
        Row("empty kernel on the ring, doorbell to fence", "us", 1e6 * _empty_on_the_ring(),
            launch, 150, table=TABLE),
        Row("empty kernel in a Linux guest, launch to clFinish", "us", 1e6 * linux_launch,
            launch, 600, table=TABLE),
        Row(f"each of {COMMANDS:,} empty kernels in one stream", "us",
            1e6 * batch_seconds / COMMANDS, 1e6 * native["batch"] / COMMANDS, 15, table=TABLE),
        Row("64 MiB: upload, kernel, read back", "ms", 1e3 * scale_seconds,
            1e3 * native["scale"], table=TABLE),
        Row("bytes that we copy for that", "B", float(copied), target=0, table=TABLE),
        Row("a worker killed amid a kernel: until the guest has its error", "ms",
            1e3 * _death(runs), target=2000, table=TABLE),
    ]  # fmt: skip


def _prepare(guest: GuestBench) -> None:
    guest.set_up()
    guest.program(10, SOURCE)
    guest.do(
        p.CreateKernel(id=GEMM, program=10, function_name=b"gemm"),
        p.CreateKernel(id=EMPTY, program=10, function_name=b"empty"),
        p.CreateKernel(id=SCALE, program=10, function_name=b"scale"),
        *(p.CreateBuffer(id=20 + i, context=CONTEXT, size=ORDER * ORDER * 4) for i in range(3)),
        p.CreateBuffer(id=23, context=CONTEXT, size=BYTES, blob=BULK),
        p.SetArgument(kernel=GEMM, index=0, value=struct.pack("<I", ORDER)),
        *(p.SetArgumentObject(kernel=GEMM, index=1 + i, object=20 + i) for i in range(3)),
        p.SetArgumentObject(kernel=SCALE, index=0, object=23),
    )


def _upload_and_read_back(guest: GuestBench) -> None:
    """As a guest does that has its data where the device can see it: map, fill, unmap, run, map."""
    write = p.MapBuffer(
        queue=QUEUE, buffer=23, size=BYTES, flags=MapFlags.WRITE_INVALIDATE_REGION, id=40
    )
    guest.wait(guest.submit(write))
    guest.wait(
        guest.submit(
            p.Unmap(queue=QUEUE, mapping=40),
            p.NdRange(queue=QUEUE, kernel=SCALE, dimensions=1, global_size=(BYTES // 4, 1, 1)),
            p.MapBuffer(queue=QUEUE, buffer=23, size=BYTES, flags=MapFlags.READ, id=41),
        )
    )
    guest.wait(guest.submit(p.Unmap(queue=QUEUE, mapping=41)))


def _empty_on_the_ring() -> float:
    """Seconds from the doorbell until the fence stands in its register, the median."""
    with GuestBench() as bench:
        bench.bench.is_watched = False
        device = RingGpu("gpu1", RingGpuOptions(type="gpu.ring"), cast(Board, bench.bench))
        ring = _Ring(bench, device)
        try:
            ring.run(
                p.CreateContext(id=1), p.CreateQueue(id=2, context=1),
                p.CreateProgram(id=10, context=1, source=SOURCE.encode()),
                p.BuildProgram(program=10),
                p.CreateKernel(id=EMPTY, program=10, function_name=b"empty"),
            )  # fmt: skip
            empty = p.NdRange(queue=2, kernel=EMPTY, dimensions=1, global_size=(1, 1, 1))
            return _median(LAUNCHES, lambda: ring.run(empty))
        finally:
            device.close()


def _death(runs: int) -> float:
    """Seconds from the end of a worker, amid a kernel, to the fence of what it was at."""
    found = []
    for _ in range(runs):
        with GuestBench(opencl={"timeout": "60s"}) as guest:
            guest.set_up()
            guest.program(10, SOURCE)
            guest.do(
                p.CreateBuffer(id=20, context=CONTEXT, size=64, blob=BULK),
                p.CreateKernel(id=30, program=10, function_name=b"spin"),
                p.SetArgumentObject(kernel=30, index=0, object=20),
            )
            worker = guest.context.link.worker
            assert worker is not None
            task = guest.submit(p.Task(queue=QUEUE, kernel=30))
            while not any(guest.read(0, 4)):
                time.sleep(0.001)
            begun = time.perf_counter()
            os.kill(worker.pid, signal.SIGKILL)
            guest.wait(task)
            found.append(time.perf_counter() - begun)
            assert guest.ask(p.GetError()).error == Status.OUT_OF_RESOURCES
    return statistics.median(found)


class _Ring:
    """A program on the bare metal, without its processor."""

    def __init__(self, bench: GuestBench, device: RingGpu) -> None:
        self._bench = bench.bench
        self._device = device
        self._count = 0
        device.write(device_offset("RING_BASE"), 8, _RING)
        device.write(device_offset("RING_SIZE"), 4, 64)
        device.write(device_offset("CONTROL"), 4, ENABLE)

    def run(self, *commands: p.Command) -> None:
        stream = b"".join(command.encode() for command in commands)
        self._bench.memory.write(_STREAM, stream)
        at = _RING + self._count % 64 * DESCRIPTOR.size
        self._count += 1
        self._bench.memory.write(at, DESCRIPTOR.pack(_STREAM, len(stream), 0, self._count, 0))
        self._device.write(device_offset("DOORBELL"), 4, self._count)
        self._bench.clock.advance(1 << 40)
        assert self._device.read(device_offset("FENCE"), 8) == self._count


def device_offset(name: str) -> int:
    """Where the ring has a register."""
    return int(vars(RingGpu)[name].offset)


def _native(runs: int, folder: Path) -> dict[str, float]:
    task = folder / "native.json"
    task.write_text(
        json.dumps(
            {
                "source": SOURCE, "order": ORDER, "bytes": BYTES, "commands": COMMANDS,
                "launches": LAUNCHES, "runs": runs,
            }
        )
    )  # fmt: skip
    command = [sys.executable, "-m", "tests.perf.native_opencl", str(task)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=600)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _median(runs: int, measured: Callable[[], None]) -> float:
    measured()
    found = []
    for _ in range(runs):
        begun = time.perf_counter()
        measured()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)

"""What the virtual GPU costs, in turn with pyopencl on the same device with nothing between."""

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
from tests.perf.child import BenchmarkError
from tests.perf.table import Row

TABLE: Literal["gpu-bench"] = "gpu-bench"
ORDER = 512
LAUNCHES, IN_A_ROW = 500, 25
"""Empty kernels that are timed, and how many until it is the other's turn."""
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


def rows(runs: int, folder: Path, launch_in_linux: Callable[[], float]) -> list[Row]:
    """Each figure is the median of `runs` (launches: of LAUNCHES). `launch_in_linux`: seconds of
    one in a Linux guest, which it boots."""
    with _Native(folder) as native, GuestBench(memory=BYTES + (1 << 20)) as guest:
        guest.bench.is_watched = False
        _prepare(guest)
        gemm = p.NdRange(
            queue=QUEUE, kernel=GEMM, dimensions=2, global_size=(ORDER, ORDER, 1),
            local_size=(16, 16, 0),
        )  # fmt: skip
        empty = p.NdRange(queue=QUEUE, kernel=EMPTY, dimensions=1, global_size=(1, 1, 1))
        batch = empty.encode() * COMMANDS
        gemms = native.in_turn("gemm", runs, _times(lambda: guest.wait(guest.submit(gemm))))
        batches = native.in_turn(
            "batch", runs, _times(lambda: guest.wait(guest.submit_bytes(batch)))
        )
        before = guest.gpu.bounced_bytes
        scales = native.in_turn("scale", runs, _times(lambda: _upload_and_read_back(guest)))
        copied = guest.gpu.bounced_bytes - before
        with Ring(guest) as ring:
            rings = native.in_turn(
                "empty",
                LAUNCHES // IN_A_ROW,
                lambda: [ring.launch() for _ in range(IN_A_ROW)],
                IN_A_ROW,
            )
        linux = native.in_turn("empty", runs, lambda: [launch_in_linux()], LAUNCHES)
    return [
        _row(f"kernel of some 100 ms: GEMM of order {ORDER} with tiles", "ms", gemms, 1e3,
             1 / 0.95, "ratio"),
        _row("empty kernel on the ring, doorbell to fence", "us", rings, 1e6, 150),
        _row("empty kernel in a Linux guest, launch to clFinish", "us", linux, 1e6, 600),
        _row(f"each of {COMMANDS:,} empty kernels in one stream", "us", batches, 1e6 / COMMANDS,
             15),
        _row("64 MiB: upload, kernel, read back", "ms", scales, 1e3),
        Row("bytes that we copy for that", "B", float(copied), target=0, table=TABLE),
        Row("a worker killed amid a kernel: until the guest has its error", "ms",
            1e3 * _death(runs), target=2000, table=TABLE),
    ]  # fmt: skip


def _row(
    name: str,
    unit: str,
    seconds: tuple[float, float],
    scale: float,
    target: float | None = None,
    of: Literal["ratio", "most"] = "most",
) -> Row:
    """Ours and native."""
    ours, native = seconds
    return Row(name, unit, scale * ours, scale * native, target, of, TABLE)


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


class Ring:
    """A program on the bare metal, without its processor."""

    def __init__(self, bench: GuestBench) -> None:
        self._bench = bench.bench
        self._device = RingGpu("gpu1", RingGpuOptions(type="gpu.ring"), cast(Board, bench.bench))
        self._count = 0

    def __enter__(self) -> Ring:
        self._device.write(device_offset("RING_BASE"), 8, _RING)
        self._device.write(device_offset("RING_SIZE"), 4, 64)
        self._device.write(device_offset("CONTROL"), 4, ENABLE)
        self.run(
            p.CreateContext(id=1), p.CreateQueue(id=2, context=1),
            p.CreateProgram(id=10, context=1, source=SOURCE.encode()),
            p.BuildProgram(program=10),
            p.CreateKernel(id=EMPTY, program=10, function_name=b"empty"),
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        self._device.close()

    def launch(self) -> float:
        """Seconds of an empty kernel, from the doorbell until the fence stands in its register."""
        return self.run(p.NdRange(queue=2, kernel=EMPTY, dimensions=1, global_size=(1, 1, 1)))

    def run(self, *commands: p.Command) -> float:
        """Seconds from the doorbell, when the packets are in memory, to the fence."""
        stream = b"".join(command.encode() for command in commands)
        self._bench.memory.write(_STREAM, stream)
        at = _RING + self._count % 64 * DESCRIPTOR.size
        self._count += 1
        self._bench.memory.write(at, DESCRIPTOR.pack(_STREAM, len(stream), 0, self._count, 0))
        begun = time.perf_counter()
        self._device.write(_DOORBELL, 4, self._count)
        self._bench.clock.advance(1 << 40)
        fence = self._device.read(_FENCE, 8)
        took = time.perf_counter() - begun
        assert fence == self._count
        return took


def device_offset(name: str) -> int:
    """Where the ring has a register."""
    return int(vars(RingGpu)[name].offset)


_DOORBELL, _FENCE = device_offset("DOORBELL"), device_offset("FENCE")


class _Native:
    """pyopencl, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        task = folder / "native.json"
        task.write_text(
            json.dumps({"source": SOURCE, "order": ORDER, "bytes": BYTES, "commands": COMMANDS})
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.perf.native_opencl", str(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> _Native:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def in_turn(
        self, name: str, turns: int, ours: Callable[[], list[float]], times: int = 1
    ) -> tuple[float, float]:
        """Medians of the seconds of ours, and of what has this name here. In each of its turns it
        does that so many `times`."""
        both: tuple[list[float], list[float]] = [], []
        self._run(name, 1)
        for _ in range(turns):
            both[0].extend(ours())
            both[1].extend(self._run(name, times))
        return statistics.median(both[0]), statistics.median(both[1])

    def _run(self, name: str, times: int) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name} {times}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("pyopencl did not do what was to be timed")
        found: list[float] = json.loads(line)
        return found


def _times(measured: Callable[[], None], times: int = 1) -> Callable[[], list[float]]:
    """What each of `times` takes, in seconds. It is done once before that counts."""
    measured()

    def run() -> list[float]:
        found = []
        for _ in range(times):
            begun = time.perf_counter()
            measured()
            found.append(time.perf_counter() - begun)
        return found

    return run

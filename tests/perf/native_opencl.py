"""python -m tests.perf.native_opencl FILE: what gpu.py measures, by pyopencl with nothing between.

FILE is JSON of source and sizes. Prints JSON: seconds by measurement.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyopencl

from gpu.worker.device import choose


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        task = json.load(file)
    cl: Any = pyopencl
    device = choose("auto", "auto")
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    program = cl.Program(context, task["source"]).build()
    order, size, runs = task["order"], task["bytes"], task["runs"]
    matrices = [cl.Buffer(context, 1, order * order * 4) for _ in range(3)]
    gemm, empty, scale = program.gemm, program.empty, program.scale
    gemm.set_args(np.uint32(order), *matrices)
    host = np.zeros(size, np.uint8)
    shared = cl.Buffer(context, 1 | cl.mem_flags.USE_HOST_PTR, hostbuf=host)
    scale.set_args(shared)

    def run(kernel: Any, sizes: tuple[int, ...], local: tuple[int, ...] | None) -> None:
        cl.enqueue_nd_range_kernel(queue, kernel, sizes, local).wait()

    def batch() -> None:
        for _ in range(task["commands"]):
            cl.enqueue_nd_range_kernel(queue, empty, (1,), None)
        queue.finish()

    print(
        json.dumps(
            {
                "gemm": _median(runs, lambda: run(gemm, (order, order), (16, 16))),
                "empty": _median(task["launches"], lambda: run(empty, (1,), None)),
                "batch": _median(runs, batch),
                "scale": _median(runs, lambda: run(scale, (size // 4,), None)),
            }
        )
    )


def _median(runs: int, measured: Callable[[], None]) -> float:
    measured()
    found = []
    for _ in range(runs):
        begun = time.perf_counter()
        measured()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


if __name__ == "__main__":
    main()

"""python -m tests.perf.native_opencl FILE: what gpu.py measures, by pyopencl with nothing between.

FILE is JSON of source and sizes. For each line "NAME TIMES" that it reads it does that so often,
and prints what each took, as JSON: seconds.
"""

from __future__ import annotations

import json
import sys
import time
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
    order, size = task["order"], task["bytes"]
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

    measured = {
        "gemm": lambda: run(gemm, (order, order), (16, 16)),
        "empty": lambda: run(empty, (1,), None),
        "batch": batch,
        "scale": lambda: run(scale, (size // 4,), None),
    }
    for each in measured.values():
        each()  # from here on what the device compiles is there
    for line in sys.stdin:
        name, times = line.split()
        found = []
        for _ in range(int(times)):
            begun = time.perf_counter()
            measured[name]()
            found.append(time.perf_counter() - begun)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

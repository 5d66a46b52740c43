"""What has one work-group is executed in the worker's own thread."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gpu import protocol as p
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
from gpu.worker.direct import binary_for

THREADS = SimpleNamespace(version="OpenCL 3.0 PoCL HSTR: pthread-x86_64-unknown-linux-gnu-znver3")
DIRECT = SimpleNamespace(version="OpenCL 3.0 PoCL HSTR: basic-x86_64-unknown-linux-gnu-znver3")
NUMBERS = {"pthread": 0x2799_C699_0B96_5277, "basic": 0xBEA3_7F47_F0BD_4565}
"""What PoCL 3.0 writes into binaries of these devices."""

EMPTY = "__kernel void empty(void) {}"
WHERE = """
import os, sys, tempfile
os.environ["POCL_CACHE_DIR"] = tempfile.mkdtemp()
from gpu.worker.device import choose
from gpu.worker.execute import Executor
device = choose("portable", "auto")
executor = Executor(device, "zero-copy", memoryview(bytearray(8)).cast("Q"), None)
executor._program(1, sys.stdin.buffer.read())
executor._kernel(2, 1, "empty")
for items in (4, 8):
    event = executor._range(2, [], (items,), (4,), None)
    event.wait()
    print(event.command_queue.device.name.partition("-")[0])
"""


def binary_of(number: int) -> bytes:
    return b"poclbin\0" + struct.pack("<Q", number) + b"and what follows"


def test_binary_of_one_device_becomes_one_of_the_other() -> None:
    found = binary_for(DIRECT, THREADS, binary_of(NUMBERS["pthread"]))
    assert found == binary_of(NUMBERS["basic"])


def test_binary_of_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="another device"):
        binary_for(DIRECT, THREADS, binary_of(NUMBERS["basic"]))


def test_one_group_runs_in_the_thread_that_asks_and_more_share_all() -> None:
    with GuestBench() as guest:
        guest.set_up()
        guest.program(10, EMPTY)
        binary = guest.context.table[10].build.join().binary
    environment = {
        **os.environ, "POCL_DEVICES": "pthread basic", "POCL_WORK_GROUP_SPECIALIZATION": "0"
    }  # fmt: skip
    command = [sys.executable, "-c", WHERE]
    done = subprocess.run(
        command, env=environment, input=binary, capture_output=True, timeout=120, check=False
    )
    assert done.stdout.split() == [b"basic", b"pthread"], done.stderr


def test_commands_on_both_devices_keep_their_order() -> None:
    source = "__kernel void grow(__global uint *a) { a[get_global_id(0)] *= 3; }"
    rounds = 50
    with GuestBench() as guest:
        guest.set_up()
        guest.program(10, source)
        guest.write(0, struct.pack("<2I", 1, 0))
        guest.do(
            p.CreateKernel(id=11, program=10, function_name=b"grow"),
            p.CreateBuffer(id=20, context=CONTEXT, size=256, blob=BULK),
            p.SetArgumentObject(kernel=11, index=0, object=20),
        )
        one, many = (
            p.NdRange(
                queue=QUEUE, kernel=11, dimensions=1, global_size=(size, 1, 1), local_size=(1, 0, 0)
            )
            for size in (1, 2)
        )
        there, back = (
            p.CopyBuffer(
                queue=QUEUE, source=20, destination=20, size=4, source_offset=start,
                destination_offset=4 - start,
            )
            for start in (0, 4)
        )  # fmt: skip
        guest.do(*[one, there, many, back] * rounds)
        found = struct.unpack("<2I", guest.read(0, 8))
    assert found == (pow(9, rounds, 1 << 32),) * 2

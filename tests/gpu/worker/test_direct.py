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

SOURCE = """
__kernel void empty(void) {}
__kernel void mixed(__global float *a, __local float *l) {
    uint i = get_local_id(0), n = get_local_size(0);
    float x = a[i];
    double d = x;
    float4 v = (float4)(x, x * 0.7f, x + 1, erf(x));
    l[i] = native_sin(x) * exp(x) + rsqrt(x + 1.5f) * pow(x, 1.3f) + dot(v, v.wzyx);
    l[i] += convert_float(convert_int_rtp(x * 10)) + tgamma(x + 1) + fma(x, 1.1f, x * 1e-40f);
    barrier(CLK_LOCAL_MEM_FENCE);
    float sum = (float)(remainder(d, 0.3) + log(d + 1) / 3);
    for (uint j = 0; j < n; j++) sum += l[(i * 7 + j) % n] * 1.0001f;
    a[i] = i & 1 ? sum : sum * 1e-40f / 3;
}
"""
START = """
import os, random, struct, sys, tempfile
os.environ["POCL_CACHE_DIR"] = tempfile.mkdtemp()
from gpu.worker.device import choose
from gpu.worker.execute import Executor
device = choose("portable", "auto")
executor = Executor(device, "zero-copy", None, memoryview(bytearray(8)).cast("Q"), None)
executor._program(1, sys.stdin.buffer.read())
executor._kernel(2, 1, "empty")

def launch(items, kernel=2, arguments=[], group=4):
    event = executor._range(kernel, arguments, (items,), (group,), None)
    event.wait()
    print(event.command_queue.device.name.partition("-")[0], end=" ")
"""
WHERE = """
launch(4), launch(8), launch(4)
executor._settle_until(0)
launch(4), launch(8)
for _ in range(17):
    launch(4)
"""
BITS = """
executor._kernel(3, 1, "mixed")
executor.memories.buffer(4, 256)
view = executor.memories.objects[4].view
for first in (4, 8):
    executor._settle_until(0)
    launch(first)
    random.seed(1)
    view[:] = struct.pack("<64f", *(random.random() * 10.0 ** -(i % 44) for i in range(64)))
    launch(64, 3, [(0, 1, 4), (1, 3, 256)], 64)
    print(view.hex())
"""


def binary_of(number: int) -> bytes:
    return b"poclbin\0" + struct.pack("<Q", number) + b"and what follows"


def test_binary_of_one_device_becomes_one_of_the_other() -> None:
    found = binary_for(DIRECT, THREADS, binary_of(NUMBERS["pthread"]))
    assert found == binary_of(NUMBERS["basic"])


def test_binary_of_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="another device"):
        binary_for(DIRECT, THREADS, binary_of(NUMBERS["basic"]))


@pytest.fixture(scope="module")
def binary() -> bytes:
    """Of SOURCE."""
    with GuestBench() as guest:
        guest.set_up()
        guest.program(10, SOURCE)
        found: bytes = guest.context.table[10].build.join().binary
    return found


def run(program: str, binary: bytes) -> str:
    """What a program says of an executor of its own."""
    environment = {
        **os.environ, "POCL_DEVICES": "pthread basic", "POCL_WORK_GROUP_SPECIALIZATION": "0"
    }  # fmt: skip
    command = [sys.executable, "-c", START + program]
    done = subprocess.run(
        command, env=environment, input=binary, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_one_group_runs_in_the_thread_that_asks_except_behind_more(binary: bytes) -> None:
    said = run(WHERE, binary)

    before, after = ["basic", "pthread", "pthread"], ["basic", "pthread"]
    assert said.split() == [*before, *after, *["pthread"] * 16, "basic"]


def test_both_compute_the_same_bits(binary: bytes) -> None:
    one, other = run(BITS, binary).splitlines()

    assert one.split()[:2] == ["basic", "basic"]
    assert other.split()[:2] == ["pthread", "pthread"]
    assert one.split()[2] == other.split()[2]
    assert len(set(struct.unpack("<64f", bytes.fromhex(one.split()[2])))) > 8


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

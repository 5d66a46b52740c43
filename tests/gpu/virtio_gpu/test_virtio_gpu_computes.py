"""A driver, the device and the real core: what it computes, and snapshots while it does."""

from __future__ import annotations

from struct import pack, unpack, unpack_from

import cbor2
import pytest

from gpu import protocol as p
from gpu.virtio_gpu import VirtioGpu
from gpu.virtio_gpu.protocol import FLAG_FENCE, FLAG_INFO_RING_IDX, Command, Response
from hypervisor.device.testing import Bench, BenchMemory

ON_RING = FLAG_FENCE | FLAG_INFO_RING_IDX
PAGE = 4096
ADD = b"__kernel void add(__global uint *a, uint n) { a[get_global_id(0)] += n; }"
RUN = p.NdRange(queue=2, kernel=30, dimensions=1, global_size=(64, 1, 1))


def stream(*commands: p.Command) -> bytes:
    return b"".join(command.encode() for command in commands)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.memory = BenchMemory(size=8 << 20, shared=True)
    return bench


@pytest.fixture
def gpu(bench):
    return bench.build(VirtioGpu, "gpu0")


@pytest.fixture
def driver(gpu, driver_of):
    """A driver with the context 1, whose blob 7 is a page of memory."""
    driver = driver_of(gpu)
    driver.context(1)
    driver.page = driver.allocate(PAGE, PAGE)
    driver.blob(7, [(driver.page, PAGE)])
    driver.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))
    return driver


@pytest.fixture
def prepared(bench, driver):
    """A kernel 30 that adds 7 to the numbers of the buffer 20."""
    driver.submit(
        stream(
            p.CreateContext(id=1),
            p.CreateQueue(id=2, context=1),
            p.CreateBuffer(id=20, context=1, size=256),
            p.CreateProgram(id=10, context=1, source=ADD),
            p.BuildProgram(program=10),
        )
    )
    driver.submit(
        stream(
            p.CreateKernel(id=30, program=10, function_name=b"add"),
            p.SetArgumentObject(kernel=30, index=0, object=20),
            p.SetArgument(kernel=30, index=1, value=pack("<I", 7)),
            RUN,
        )
    )
    bench.clock.advance(1 << 40)
    driver.queues[0].used()
    return driver


READ = p.ReadBuffer(queue=2, buffer=20, size=256, blob=7)


def test_work_in_flight_survives_in_another_device(bench, gpu, prepared):
    pending = prepared.submit(stream(RUN, READ), flags=ON_RING, fence=5, ring=3)
    state = cbor2.loads(cbor2.dumps(gpu.save()))
    gpu.close()
    other = bench.build(VirtioGpu, "gpu0")

    other.load(state)
    early = prepared.queues[0].used()
    bench.clock.advance(1 << 40)
    done = prepared.queues[0].used()
    other.close()

    assert early == []
    assert [head for head, _ in done] == [pending.head]
    assert unpack_from("<IIQ", pending.data()) == (Response.OK_NODATA, ON_RING, 5)
    assert unpack("<64I", bench.memory.read(prepared.page, 256)) == (14,) * 64


def test_programs_kernels_and_buffers_are_there_after_a_restore(
    bench, gpu, prepared, driver_of, monkeypatch
):
    prepared.submit(stream(p.CreateUserEvent(id=40, context=1)))
    held = p.NdRange(queue=2, kernel=30, dimensions=1, global_size=(64, 1, 1), wait=(40,))
    waiting = prepared.submit(stream(held), flags=FLAG_FENCE, fence=6)
    bench.clock.advance(1 << 40)
    prepared.queues[0].used()
    state = cbor2.loads(cbor2.dumps(gpu.save()))
    gpu.close()
    other = bench.build(VirtioGpu, "gpu0")

    other.load(state)
    prepared.device = other
    prepared.submit(stream(p.SetUserEventStatus(event=40, status=0), RUN, READ), ring=1)
    bench.clock.advance(1 << 40)
    heads = [head for head, _ in prepared.queues[0].used()]
    other.close()

    assert waiting.head in heads
    assert unpack("<64I", bench.memory.read(prepared.page, 256)) == (21,) * 64

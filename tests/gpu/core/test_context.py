"""Packets through a real worker: buffers, programs, kernels, fences."""

from __future__ import annotations

import struct

from gpu import protocol as p
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, RAM, GuestBench

SAXPY = """
__kernel void saxpy(float a, __global const float *x, __global float *y) {
    size_t i = get_global_id(0);
    y[i] = a * x[i] + y[i];
}
"""


def test_saxpy_on_the_guests_own_pages(guest: GuestBench) -> None:
    x = [float(i) for i in range(1024)]
    y = [0.5] * 1024
    guest.write(0, struct.pack("<1024f", *x))
    guest.write(4096, struct.pack("<1024f", *y))
    guest.program(10, SAXPY)

    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK, blob_offset=0),
        p.CreateBuffer(id=21, context=CONTEXT, size=4096, blob=BULK, blob_offset=4096),
        p.CreateKernel(id=30, program=10, function_name=b"saxpy"),
        p.SetArgument(kernel=30, index=0, value=struct.pack("<f", 2.0)),
        p.SetArgumentObject(kernel=30, index=1, object=20),
        p.SetArgumentObject(kernel=30, index=2, object=21),
        p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(1024, 1, 1)),
    )

    result = struct.unpack("<1024f", guest.read(4096, 4096))
    assert result == tuple(2 * a + 0.5 for a in x)
    assert guest.gpu.bounced_bytes == 0


def test_device_memory_is_written_and_read_back(guest: GuestBench) -> None:
    guest.write(0, bytes(range(256)))

    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=4096),
        p.WriteBuffer(queue=QUEUE, buffer=20, offset=16, size=256, blob=BULK),
        p.ReadBuffer(queue=QUEUE, buffer=20, offset=0, size=512, blob=BULK, blob_offset=4096),
    )

    assert guest.read(4096, 512) == bytes(16) + bytes(range(256)) + bytes(240)


def test_build_failure_is_answered_with_its_log(guest: GuestBench) -> None:
    guest.do(p.CreateProgram(id=10, context=CONTEXT, source=b"__kernel void k( { }"))

    status = guest.status_of(p.BuildProgram(program=10))
    answer = guest.ask(p.GetProgramBuild(program=10))

    assert status == Status.BUILD_PROGRAM_FAILURE
    assert answer.build_status == -2
    assert b"error" in answer.log
    assert b"/" not in answer.log.replace(b"//", b"")


def test_fences_of_a_ring_come_in_order_at_modelled_times(guest: GuestBench) -> None:
    guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=1 << 20))
    guest.signalled.clear()

    slow = guest.submit(p.FillBuffer(queue=QUEUE, buffer=20, size=1 << 20, pattern=b"\1"))
    fence = guest.submit()
    guest.bench.clock.advance(50_000)
    early = list(guest.signalled)
    guest.bench.clock.advance(100_000)

    assert early == []
    assert guest.signalled == [slow, fence]


def test_answer_to_a_blob_that_is_another_by_now_is_not_written() -> None:
    with GuestBench() as guest:
        guest.submit_bytes(p.GetError().encode(p.AnswerPlace(BULK, 1 << 20, 64)))
        guest.context.revoke(BULK)
        guest.context.grant(BULK, [(RAM + guest.bulk_at, 4096)])
        guest.write(0, b"\xa5" * 4096)

        guest.bench.clock.advance(1 << 50)

        assert guest.signalled == [1]
        assert guest.read(0, 4096) == b"\xa5" * 4096


def test_many_submissions_at_one_time_complete(guest: GuestBench) -> None:
    guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=64))
    write = p.WriteBufferInline(queue=QUEUE, buffer=20, data=b"8 bytes.")
    guest.signalled.clear()

    tags = [guest.submit(write) for _ in range(1500)]
    guest.bench.clock.advance(1 << 50)

    assert guest.signalled == tags
    assert not guest.context.lost

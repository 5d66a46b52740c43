"""The hypervisor's own memory, which programs, arguments and waiting commands take."""

from __future__ import annotations

import pytest

from gpu import protocol as p
from gpu.core import handles
from gpu.opencl import Status
from gpu.testing import CONTEXT, QUEUE, GuestBench

COPY = "__kernel void copy(__global uint *a, ulong8 b) { a[0] = (uint)b.x; }"
ROOM = 1 << 16


@pytest.fixture
def bounded(guest: GuestBench, monkeypatch: pytest.MonkeyPatch) -> GuestBench:
    """A context that may hold ROOM bytes of the hypervisor's memory."""
    assert guest.context.host_used == 0
    monkeypatch.setattr(handles, "MAX_HOST", ROOM)
    return guest


def release(guest: GuestBench, *ids: int) -> None:
    guest.submit(*(p.Release(id=i) for i in ids))
    guest.bench.clock.advance(1 << 50)


def test_sources_are_bounded(bounded: GuestBench) -> None:
    source = b"// " + bytes(b"x" * (ROOM // 2))

    first, second = (
        bounded.status_of(p.CreateProgram(id=i, context=CONTEXT, source=source)) for i in (10, 11)
    )
    release(bounded, 10)
    third = bounded.status_of(p.CreateProgram(id=11, context=CONTEXT, source=source))

    assert (first, second, third) == (0, Status.OUT_OF_HOST_MEMORY, 0)


def test_all_contexts_of_a_gpu_share_one_bound(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "MAX_HOST_ALL", ROOM)
    source = bytes(b"x" * (ROOM // 2 + 1))
    other = guest.new_context("other")
    guest.ask(p.CreateContext(id=1), context=other)

    mine = guest.try_(p.CreateProgram(id=10, context=CONTEXT, source=source))[0]
    others = guest.try_(p.CreateProgram(id=10, context=1, source=source), context=other)[0]
    other.close()

    assert (mine, others) == (0, Status.OUT_OF_HOST_MEMORY)


def test_what_a_program_is_built_to_is_bounded(bounded: GuestBench) -> None:
    bounded.do(p.CreateProgram(id=10, context=CONTEXT, source=COPY.encode()))
    bounded.do(p.CreateProgram(id=11, context=CONTEXT, source=bytes(b"/" * (ROOM - 4096))))

    large = bounded.status_of(p.BuildProgram(program=10))
    release(bounded, 11)
    alone = bounded.status_of(p.BuildProgram(program=10))
    held = bounded.context.host_used
    release(bounded, 10)

    assert (large, alone) == (Status.OUT_OF_HOST_MEMORY, 0)
    assert held > len(COPY)
    assert bounded.context.host_used == bounded.gpu.host_used == 0


def test_answers_keep_a_build_until_they_are_given(bounded: GuestBench) -> None:
    bounded.do(p.CreateProgram(id=10, context=CONTEXT, source=b"no kernel"))
    ask = p.GetProgramBuild(program=10).encode(p.AnswerPlace(1, 0, 1 << 12))
    build, release_it = p.BuildProgram(program=10).encode(), p.Release(id=10).encode()

    bounded.wait(bounded.submit_bytes(build + ask + release_it))
    memory = bounded.bench.memory
    status, size = p.ANSWER_HEADER.unpack(memory.read(memory.base, 8))
    answer = p.ProgramBuild.unpack(memory.read(memory.base + 8, size), 0, size)

    assert status == 0
    assert answer.build_status == -2
    assert bounded.context.host_used == 0


def test_arguments_are_bounded_and_given_back(bounded: GuestBench) -> None:
    bounded.program(10, COPY)
    before = bounded.context.host_used
    bounded.do(p.CreateKernel(id=20, program=10, function_name=b"copy"))

    bounded.do(*[p.SetArgument(kernel=20, index=1, value=bytes(64))] * 3)
    held = bounded.context.host_used - before
    release(bounded, 20)

    assert held == 64
    assert bounded.context.host_used == before


def test_data_that_waits_to_be_written_is_bounded(bounded: GuestBench) -> None:
    bounded.do(
        p.CreateUserEvent(id=30, context=CONTEXT), p.CreateBuffer(id=20, context=CONTEXT, size=ROOM)
    )
    write = p.WriteBufferInline(queue=QUEUE, buffer=20, data=bytes(ROOM // 4), wait=(30,))

    bounded.submit(*[write] * 5, ring=1)
    error = bounded.ask(p.GetError())
    held = bounded.context.host_used
    bounded.do(p.SetUserEventStatus(event=30, status=0))

    assert (error.error, held) == (Status.OUT_OF_HOST_MEMORY, ROOM)
    assert bounded.context.host_used == 0


def test_events_do_not_keep_what_was_written(bounded: GuestBench) -> None:
    bounded.do(p.CreateBuffer(id=20, context=CONTEXT, size=ROOM))

    bounded.do(p.WriteBufferInline(queue=QUEUE, buffer=20, data=bytes(ROOM // 4), event=30))

    assert bounded.context.table[30].work.payload == 0

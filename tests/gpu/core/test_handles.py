"""The hypervisor's own memory, which programs, arguments and waiting commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpu import protocol as p
from gpu.core import handles
from gpu.core.handles import OBJECT_BYTES
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

COPY = "__kernel void copy(__global uint *a, ulong8 b) { a[0] = (uint)b.x; }"
ROOM = 1 << 16


@pytest.fixture
def bounded(guest: GuestBench, monkeypatch: pytest.MonkeyPatch) -> GuestBench:
    """A context that may hold ROOM more bytes of the hypervisor's memory."""
    assert len(guest.context.table) == 2
    monkeypatch.setattr(handles, "MAX_HOST", guest.context.host_used + ROOM)
    return guest


def held(guest: GuestBench) -> int:
    """What is held besides a context and a queue, which every test has."""
    assert guest.context.host_used == guest.gpu.host_used
    return int(guest.context.host_used) - 2 * OBJECT_BYTES


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
    most = ROOM - 2 * OBJECT_BYTES - 1024
    bounded.do(p.CreateProgram(id=11, context=CONTEXT, source=bytes(b"/" * most)))

    large = bounded.status_of(p.BuildProgram(program=10))
    release(bounded, 11)
    alone = bounded.status_of(p.BuildProgram(program=10))
    built = held(bounded)
    release(bounded, 10)

    assert (large, alone) == (Status.OUT_OF_HOST_MEMORY, 0)
    assert built > len(COPY)
    assert held(bounded) == 0


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
    assert held(bounded) == 0


def test_arguments_are_bounded_and_given_back(bounded: GuestBench) -> None:
    bounded.program(10, COPY)
    before = held(bounded)
    bounded.do(p.CreateKernel(id=20, program=10, function_name=b"copy"))
    unset = held(bounded)

    bounded.do(*[p.SetArgument(kernel=20, index=1, value=bytes(64))] * 3)
    longer = held(bounded)
    release(bounded, 20)

    assert unset > before + OBJECT_BYTES
    assert longer > unset + 64
    assert held(bounded) == before


MAKERS: dict[str, Callable[[int], p.Command]] = {
    "user events": lambda i: p.CreateUserEvent(id=i, context=CONTEXT),
    "events": lambda i: p.Marker(queue=QUEUE, event=i),
    "queues": lambda i: p.CreateQueue(id=i, context=CONTEXT),
    "samplers": lambda i: p.CreateSampler(
        id=i, context=CONTEXT, normalized=0, addressing=0x1130, filter=0x1140
    ),
    "buffers": lambda i: p.CreateBuffer(id=i, context=CONTEXT, size=1),
    "kernels": lambda i: p.CreateKernel(id=i, program=10, function_name=b"copy"),
    "mappings": lambda i: p.MapBuffer(id=i, queue=QUEUE, buffer=11, flags=1, offset=0, size=64),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_objects_are_bounded_and_given_back(bounded: GuestBench, kind: str) -> None:
    bounded.program(10, COPY)
    bounded.do(p.CreateBuffer(id=11, context=CONTEXT, size=64, blob=BULK))
    before, few = held(bounded), len(bounded.context.table)
    make = MAKERS[kind]

    bounded.wait(bounded.submit(*(make(i) for i in range(100, 200))))
    error = bounded.ask(p.GetError()).error
    made = len(bounded.context.table) - few
    held_by_them = held(bounded) - before
    unmap = [p.Unmap(queue=QUEUE, mapping=i) for i in range(100, 200) if kind == "mappings"]
    bounded.wait(bounded.submit(*unmap))
    release(bounded, *range(100, 200))
    bounded.ask(p.GetError())

    assert error == Status.OUT_OF_HOST_MEMORY
    assert 5 < made <= ROOM // OBJECT_BYTES
    assert held_by_them >= made * OBJECT_BYTES
    assert held(bounded) == before


def test_events_of_refused_commands_are_bounded(bounded: GuestBench) -> None:
    wrong = [p.FillBuffer(queue=QUEUE, buffer=9, size=1, pattern=b"1", event=100 + i)
             for i in range(100)]  # fmt: skip

    bounded.wait(bounded.submit(*wrong))
    bounded.ask(p.GetError())

    assert len(bounded.context.table) == 2 + ROOM // OBJECT_BYTES


def test_event_counts_what_its_command_is_about(bounded: GuestBench) -> None:
    bounded.do(p.CreateBuffer(id=20, context=CONTEXT, size=64))
    before = held(bounded)

    bounded.do(p.MigrateMemory(queue=QUEUE, memories=(20,) * 1000, event=21))

    assert held(bounded) >= before + OBJECT_BYTES + 8000


def test_events_do_not_keep_a_program_that_is_released(bounded: GuestBench) -> None:
    bounded.program(10, COPY)
    bounded.do(
        p.CreateKernel(id=20, program=10, function_name=b"copy"),
        p.CreateBuffer(id=21, context=CONTEXT, size=64),
        p.SetArgumentObject(kernel=20, index=0, object=21),
        p.SetArgument(kernel=20, index=1, value=bytes(64)),
        p.Task(queue=QUEUE, kernel=20, event=22),
    )

    release(bounded, 10, 20, 21)
    kernel = bounded.context.table[22].work.objects[0]

    assert (kernel.arguments, kernel.sent, kernel.checked) == ([], (), None)
    assert kernel.program.build.join().binary == b""
    assert kernel.description.arguments is None
    assert kernel.description.name == "copy"
    assert bounded.ask(p.GetEventStatus(event=22)).execution == 0


def test_code_does_not_wait_to_be_sent(bounded: GuestBench) -> None:
    """Else many programs that were released again would be held, and not counted."""
    bounded.do(p.CreateProgram(id=10, context=CONTEXT, source=COPY.encode()))
    waiting: list[int] = []
    operate = bounded.context.link.operate

    def spy(operation: tuple[Any, ...], *more: Any) -> int:
        waiting.append(bounded.context.link.waiting if operation[0] == "drop" else 0)
        return operate(operation, *more)

    bounded.context.link.operate = spy
    bounded.do(
        p.BuildProgram(program=10),
        p.CreateKernel(id=20, program=10, function_name=b"copy"),
        p.Release(id=20),
        p.Release(id=10),
    )
    bounded.context.link.operate = operate

    assert max(waiting) <= 1


def test_data_that_waits_to_be_written_is_bounded(bounded: GuestBench) -> None:
    bounded.do(
        p.CreateUserEvent(id=30, context=CONTEXT), p.CreateBuffer(id=20, context=CONTEXT, size=ROOM)
    )
    write = p.WriteBufferInline(queue=QUEUE, buffer=20, data=bytes(ROOM // 4), wait=(30,))

    bounded.submit(*[write] * 5, ring=1)
    error = bounded.ask(p.GetError())
    waiting = held(bounded)
    bounded.do(p.SetUserEventStatus(event=30, status=0))

    assert error.error == Status.OUT_OF_HOST_MEMORY
    assert waiting == 2 * OBJECT_BYTES + 3 * (ROOM // 4 + 16)
    assert held(bounded) == 2 * OBJECT_BYTES


def test_wait_lists_of_commands_that_wait_count(bounded: GuestBench) -> None:
    bounded.do(p.CreateUserEvent(id=30, context=CONTEXT))
    before = held(bounded)
    marker = p.Marker(queue=QUEUE, wait=(30,) * 1024)

    bounded.submit(marker)
    waiting = held(bounded) - before
    bounded.submit(*[marker] * 8)
    error = bounded.ask(p.GetError(), ring=1)
    most = held(bounded)
    bounded.do(p.SetUserEventStatus(event=30, status=0), ring=1)

    assert waiting >= 1024 * 16
    assert error.error == Status.OUT_OF_HOST_MEMORY
    assert 2 * waiting < most <= ROOM
    assert held(bounded) == before


def test_events_do_not_keep_what_was_written(bounded: GuestBench) -> None:
    bounded.do(p.CreateBuffer(id=20, context=CONTEXT, size=ROOM))

    bounded.do(p.WriteBufferInline(queue=QUEUE, buffer=20, data=bytes(ROOM // 4), event=30))

    assert bounded.context.table[30].work.held_bytes == 0

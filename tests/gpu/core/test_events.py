"""Events, queues, and what happens at which virtual time."""

from __future__ import annotations

import pytest

from gpu import protocol as p
from gpu.core.context import MAX_HELD
from gpu.core.work import Engine
from gpu.opencl import Execution, Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

MIB = 1 << 20
OUT_OF_ORDER, PROFILING = 1, 2


def fill(queue: int, byte: int, event: int = 0, wait: tuple[int, ...] = ()) -> p.FillBuffer:
    return p.FillBuffer(
        queue=queue, buffer=20, size=MIB, pattern=bytes([byte]), event=event, wait=wait
    )


@pytest.fixture
def queues(guest: GuestBench) -> GuestBench:
    """A buffer 20, and the queues 11 (profiling) and 12 (out of order, profiling)."""
    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=MIB),
        p.CreateQueue(id=11, context=CONTEXT, properties=PROFILING),
        p.CreateQueue(id=12, context=CONTEXT, properties=PROFILING | OUT_OF_ORDER),
    )
    return guest


def status(guest: GuestBench, event: int) -> int:
    return int(guest.ask(p.GetEventStatus(event=event)).execution)


def profile(guest: GuestBench, event: int) -> p.EventProfile:
    answer: p.EventProfile = guest.ask(p.GetEventProfile(event=event))
    return answer


def first_byte(guest: GuestBench) -> int:
    guest.do(p.ReadBuffer(queue=QUEUE, buffer=20, size=1, blob=BULK))
    return guest.read(0, 1)[0]


def test_profile_has_the_models_times(queues: GuestBench) -> None:
    began = queues.bench.clock.now()
    queues.submit(fill(11, 1, event=30), fill(11, 2, event=31))
    queues.bench.clock.advance(MIB)

    one, two = profile(queues, 30), profile(queues, 31)

    cost = 10_000 + MIB * 1_000_000_000 // 10_000_000_000
    assert (one.queued, one.submit, one.start, one.end) == (began, began, began, began + cost)
    assert (two.start, two.end) == (one.end, one.end + cost)


def test_event_goes_through_its_states(queues: GuestBench) -> None:
    place = p.AnswerPlace(1, 0, 64)
    queues.submit(fill(11, 1, event=30), fill(11, 2, event=31))

    def ask(event: int) -> int:
        queues.submit_bytes(p.GetEventStatus(event=event).encode(place), ring=9)
        queues.bench.clock.advance(1)
        answer = queues.bench.memory.read(queues.bench.memory.base + 8, 4)
        return int.from_bytes(answer, "little", signed=True)

    first = ask(30), ask(31)
    queues.bench.clock.advance(120_000)
    second = ask(30), ask(31)
    queues.bench.clock.advance(120_000)
    third = ask(30), ask(31)

    assert first == (Execution.RUNNING, Execution.SUBMITTED)
    assert second == (Execution.COMPLETE, Execution.RUNNING)
    assert third == (Execution.COMPLETE, Execution.COMPLETE)


def test_command_waits_for_a_user_event(queues: GuestBench) -> None:
    queues.do(p.CreateUserEvent(id=30, context=CONTEXT), fill(QUEUE, 1))
    waiting = queues.submit(fill(11, 2, event=31, wait=(30,)), ring=1)
    queues.bench.clock.advance(1 << 40)
    before = waiting in queues.signalled, status(queues, 31), first_byte(queues)

    queues.do(p.SetUserEventStatus(event=30, status=0))

    assert before == (False, Execution.QUEUED, 1)
    assert waiting in queues.signalled
    assert (status(queues, 31), first_byte(queues)) == (0, 2)


def test_failed_user_event_fails_what_waits_for_it(queues: GuestBench) -> None:
    queues.do(p.CreateUserEvent(id=30, context=CONTEXT), fill(QUEUE, 1))
    tag = queues.submit(
        fill(11, 2, event=31, wait=(30,)), fill(12, 3, event=32, wait=(31,)), fill(12, 1, event=33)
    )

    queues.wait(queues.submit(p.SetUserEventStatus(event=30, status=-5), ring=7))

    failed = Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
    assert [status(queues, event) for event in (30, 31, 32, 33)] == [-5, failed, failed, 0]
    assert tag in queues.signalled
    assert first_byte(queues) == 1


def test_user_event_is_set_once(queues: GuestBench) -> None:
    queues.do(
        p.CreateUserEvent(id=30, context=CONTEXT),
        p.SetUserEventStatus(event=30, status=0),
        p.Marker(queue=11, event=31),
    )

    again = queues.status_of(p.SetUserEventStatus(event=30, status=-1))
    other = queues.status_of(p.SetUserEventStatus(event=31, status=0))

    assert (again, other) == (Status.INVALID_OPERATION, Status.INVALID_EVENT)


def test_released_user_event_holds_nothing_for_ever(queues: GuestBench) -> None:
    queues.do(p.CreateUserEvent(id=30, context=CONTEXT))
    tag = queues.submit(fill(11, 2, event=31, wait=(30,)))

    queues.wait(queues.submit(p.Release(id=30), ring=7))

    assert tag in queues.signalled
    assert status(queues, 31) < 0


def test_queue_in_order_waits_out_of_order_does_not(queues: GuestBench) -> None:
    queues.do(p.CreateUserEvent(id=30, context=CONTEXT))
    queues.submit(
        p.Marker(queue=11, wait=(30,), event=31), fill(11, 1, event=32),
        p.Marker(queue=12, wait=(30,), event=33), fill(12, 2, event=34),
    )  # fmt: skip
    queues.bench.clock.advance(1 << 40)

    held = [status(queues, event) for event in (32, 34)]
    queues.do(p.SetUserEventStatus(event=30, status=0))

    assert held == [Execution.QUEUED, Execution.COMPLETE]
    assert [status(queues, event) for event in (31, 32, 33, 34)] == [0, 0, 0, 0]


def test_barrier_holds_an_out_of_order_queue(queues: GuestBench) -> None:
    queues.do(p.CreateUserEvent(id=30, context=CONTEXT))
    queues.submit(fill(12, 1, wait=(30,)), p.Barrier(queue=12, event=31), fill(12, 2, event=32))
    queues.bench.clock.advance(1 << 40)

    held = status(queues, 32)
    queues.do(p.SetUserEventStatus(event=30, status=0))

    assert held == Execution.QUEUED
    assert status(queues, 32) == 0
    assert first_byte(queues) == 2


def test_finish_holds_its_submissions_fence(queues: GuestBench) -> None:
    queues.do(p.CreateUserEvent(id=30, context=CONTEXT))
    queues.submit(fill(12, 1, wait=(30,)), ring=1)
    finish = queues.submit(p.Finish(queue=12), ring=2)
    flush = queues.submit(p.Flush(queue=12), ring=3)
    queues.bench.clock.advance(1 << 40)

    before = finish in queues.signalled, flush in queues.signalled
    queues.do(p.SetUserEventStatus(event=30, status=0))

    assert before == (False, True)
    assert finish in queues.signalled


def test_profile_needs_a_profiling_queue(queues: GuestBench) -> None:
    queues.do(fill(QUEUE, 1, event=30), p.CreateUserEvent(id=31, context=CONTEXT))

    for event in (30, 31):
        refused = queues.status_of(p.GetEventProfile(event=event))
        assert refused == Status.PROFILING_INFO_NOT_AVAILABLE


def test_completions_are_coalesced() -> None:
    with GuestBench(coalesce=1_000_000) as guest:
        guest.set_up()
        guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=MIB))
        guest.signalled.clear()
        start = -(-guest.bench.clock.now() // 1_000_000) * 1_000_000
        guest.bench.clock.advance(start + 1 - guest.bench.clock.now())

        tags = [guest.submit(fill(QUEUE, n), ring=n) for n in range(4)]
        guest.bench.clock.advance(999_998)
        early = list(guest.signalled)
        guest.bench.clock.advance(1)

        assert early == []
        assert guest.signalled == tags


def test_high_priority_goes_first() -> None:
    engine = Engine()

    low = engine.reserve(0, 100, 2)
    high = engine.reserve(0, 10, 1)
    medium = engine.reserve(0, 20, 0)
    last = engine.reserve(0, 100, 2)

    assert (low, high, medium) == ((0, 100), (0, 10), (10, 30))
    assert last == (130, 230)


def test_queue_of_higher_priority_passes_what_waits_in_others(queues: GuestBench) -> None:
    queues.do(
        p.CreateQueue(id=13, context=CONTEXT, properties=PROFILING, priority=2),
        p.CreateQueue(id=14, context=CONTEXT, properties=PROFILING, priority=1),
    )

    queues.submit(fill(13, 1, event=30), fill(14, 2, event=31), fill(13, 3, event=32))
    queues.bench.clock.advance(MIB)
    begun, high, waiting = (profile(queues, event) for event in (30, 31, 32))

    cost = high.end - high.start
    assert high.start == begun.start
    assert waiting.start == begun.start + 2 * cost


def test_commands_that_wait_are_bounded(guest: GuestBench) -> None:
    guest.do(p.CreateUserEvent(id=30, context=CONTEXT))
    marker = p.Marker(queue=QUEUE, wait=(30,))

    fence = guest.submit(*[marker] * MAX_HELD, ring=1)
    before = guest.ask(p.GetError()).error
    guest.submit(marker, p.Finish(queue=QUEUE), ring=1)
    beyond = guest.ask(p.GetError()).error
    guest.do(p.SetUserEventStatus(event=30, status=0))
    guest.do(marker, p.Finish(queue=QUEUE))

    assert (before, beyond) == (0, Status.OUT_OF_HOST_MEMORY)
    assert fence in guest.signalled
    assert guest.context.held == {}

"""What may be pending, what waits for what, and failures that show late."""

from __future__ import annotations

from collections.abc import Callable

import cbor2
import pytest

from gpu import protocol as p
from gpu.core import schedule
from gpu.core.context import Context
from gpu.core.schedule import MAX_HELD
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

OUT_OF_ORDER = 1


def status(guest: GuestBench, event: int) -> int:
    return int(guest.ask(p.GetEventStatus(event=event)).execution)


# -- what may be pending -----------------------------------------------------------------------


def test_context_is_full_until_something_is_complete(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MAX_PENDING", 4)
    marker = p.Marker(queue=QUEUE)

    guest.submit(marker)
    few = guest.context.is_full
    guest.submit(marker)
    many = guest.context.is_full, guest.context.is_stuck
    guest.bench.clock.advance(1 << 50)

    assert (few, many) == (False, (True, False))
    assert (guest.context.is_full, guest.context.pending) == (False, 0)


def test_context_that_waits_for_user_events_takes_as_much_again(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MAX_PENDING", 3)
    guest.do(p.CreateUserEvent(id=30, context=CONTEXT))
    seen = []

    for command in (p.Marker(queue=QUEUE, wait=(30,)), p.Flush(queue=QUEUE), p.Flush(queue=QUEUE)):
        guest.submit(command)
        guest.bench.clock.advance(1 << 50)
        seen.append((guest.context.pending, guest.context.is_full, guest.context.is_stuck))
    guest.do(p.SetUserEventStatus(event=30, status=0), ring=1)

    assert seen == [(2, False, True), (4, False, True), (6, True, True)]
    assert guest.context.pending == 0


def test_records_that_answers_remember_count_as_pending(guest: GuestBench) -> None:
    names = "".join(f"__kernel void {'k' * 200}{i}() {{}}\n" for i in range(300))
    guest.program(10, names)
    ask = p.GetProgramInfo(program=10).encode(p.AnswerPlace(1, 0, 1 << 16))

    guest.submit_bytes(ask * 1000)
    weight = guest.context.pending
    answers = [answer for each in guest.context.rings[0] for answer in each.answers]
    guest.submit_bytes(ask)
    guest.bench.clock.advance(1 << 50)

    assert schedule.MAX_PENDING < weight < 3 * schedule.MAX_PENDING
    assert guest.context.pending == 0
    refused = [producer for _, _, status, producer in answers if status != Status.SUCCESS]
    assert len(answers) == 1000
    assert refused
    assert set(refused) == {None}
    first = guest.bench.memory.read(guest.bench.memory.base, 4)
    assert int.from_bytes(first, "little", signed=True) == Status.OUT_OF_HOST_MEMORY


# -- what waits for all before it --------------------------------------------------------------


def test_held_markers_share_what_they_wait_for(guest: GuestBench) -> None:
    guest.do(
        p.CreateUserEvent(id=30, context=CONTEXT),
        p.CreateQueue(id=11, context=CONTEXT, properties=OUT_OF_ORDER),
    )
    held = p.Marker(queue=11, wait=(30,))

    guest.submit(*[held, p.Marker(queue=11)] * (MAX_HELD // 2), ring=1)
    waits = sum(len(work.waits) + len(work.dependents) for work in guest.context.held)
    count = len(guest.context.held)
    guest.do(p.SetUserEventStatus(event=30, status=0))

    assert count == MAX_HELD
    assert waits < 5 * MAX_HELD
    assert guest.context.held == {}


def test_marker_waits_for_all_before_it_through_other_markers(guest: GuestBench) -> None:
    guest.do(
        *(p.CreateUserEvent(id=i, context=CONTEXT) for i in (30, 31, 32)),
        p.CreateQueue(id=11, context=CONTEXT, properties=OUT_OF_ORDER),
    )
    guest.submit(
        p.Marker(queue=11, wait=(30,)),
        p.Marker(queue=11, event=40),
        p.Marker(queue=11, wait=(31,)),
        p.Marker(queue=11, event=41),
        p.Barrier(queue=11, event=42),
        ring=1,
    )
    seen = []
    for user in (31, 30):
        guest.submit(p.SetUserEventStatus(event=user, status=0))
        guest.bench.clock.advance(1 << 20)
        seen.append([status(guest, event) for event in (40, 41, 42)])

    assert seen == [[3, 3, 3], [0, 0, 0]]


# -- failures that show late -------------------------------------------------------------------


def write(value: int, buffer: int, event: int, wait: tuple[int, ...] = ()) -> p.FillBuffer:
    return p.FillBuffer(
        queue=11, buffer=buffer, size=4, pattern=bytes([value]), event=event, wait=wait
    )


@pytest.fixture
def failing(guest: GuestBench) -> GuestBench:
    """The worker will fail at what is done with the buffer 20. 21 and 22 are good."""
    guest.do(
        p.CreateQueue(id=11, context=CONTEXT, properties=OUT_OF_ORDER),
        p.CreateQueue(id=12, context=CONTEXT),
        *(p.CreateBuffer(id=i, context=CONTEXT, size=4) for i in (20, 21, 22)),
    )
    guest.context.operate("drop", guest.context.table[20].number)
    return guest


def contents(guest: GuestBench, buffer: int) -> int:
    guest.do(p.ReadBuffer(queue=QUEUE, buffer=buffer, size=1, blob=BULK))
    return guest.read(0, 1)[0]


def test_what_waits_for_a_command_that_fails_at_the_worker_fails_too(failing: GuestBench) -> None:
    failing.submit(
        write(1, 20, event=30),
        write(2, 21, event=31, wait=(30,)),
        p.Marker(queue=12, event=32, wait=(31,)),
        write(3, 22, event=33),
    )
    failing.bench.clock.advance(1 << 50)

    assert [status(failing, event) for event in (30, 31, 32, 33)] == [
        Status.OUT_OF_RESOURCES,
        Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST,
        Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST,
        Status.SUCCESS,
    ]
    failing.ask(p.GetError())
    assert (contents(failing, 21), contents(failing, 22)) == (0, 3)


def test_what_only_follows_a_failed_command_is_done(failing: GuestBench) -> None:
    failing.submit(
        p.FillBuffer(queue=12, buffer=20, size=4, pattern=b"\1", event=30),
        p.FillBuffer(queue=12, buffer=21, size=4, pattern=b"\2", event=31),
    )
    failing.bench.clock.advance(1 << 50)

    assert [status(failing, event) for event in (30, 31)] == [Status.OUT_OF_RESOURCES, 0]
    failing.ask(p.GetError())
    assert contents(failing, 21) == 2


PUT = "__kernel void put(__global int *other, __global int *out, uchar v) { out[0] = v; }"


def launch(event: int, wait: tuple[int, ...] = ()) -> p.NdRange:
    return p.NdRange(
        queue=11, kernel=14, dimensions=1, global_size=(1, 1, 1), event=event, wait=wait
    )


@pytest.fixture
def putting(failing: GuestBench) -> GuestBench:
    """The kernel 14 has put 1 into the buffer 21."""
    failing.program(10, PUT)
    failing.do(
        p.CreateKernel(id=14, program=10, function_name=b"put"),
        p.SetArgumentObject(kernel=14, index=0, object=22),
        p.SetArgumentObject(kernel=14, index=1, object=21),
        p.SetArgument(kernel=14, index=2, value=b"\1"),
        launch(event=40),
    )
    return failing


def test_run_has_the_arguments_that_came_with_one_that_was_not_done(putting: GuestBench) -> None:
    putting.submit(
        write(9, 20, event=30),
        p.SetArgumentObject(kernel=14, index=1, object=22),
        p.SetArgument(kernel=14, index=2, value=b"\7"),
        launch(event=31, wait=(30,)),
        launch(event=32),
    )
    putting.bench.clock.advance(1 << 50)

    assert [status(putting, event) for event in (30, 31, 32)] == [
        Status.OUT_OF_RESOURCES,
        Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST,
        Status.SUCCESS,
    ]
    putting.ask(p.GetError())
    assert (contents(putting, 21), contents(putting, 22)) == (1, 7)


def test_run_has_the_arguments_that_came_with_one_that_could_not_be_set(
    putting: GuestBench,
) -> None:
    putting.submit(
        p.SetArgumentObject(kernel=14, index=0, object=20),
        p.SetArgumentObject(kernel=14, index=1, object=22),
        p.SetArgument(kernel=14, index=2, value=b"\7"),
        launch(event=30),
        p.SetArgument(kernel=14, index=2, value=b"\6"),
        launch(event=31),
        p.SetArgumentObject(kernel=14, index=0, object=21),
        launch(event=32),
    )
    putting.bench.clock.advance(1 << 50)

    assert [status(putting, event) for event in (30, 31, 32)] == [
        Status.OUT_OF_RESOURCES,
        Status.OUT_OF_RESOURCES,
        Status.SUCCESS,
    ]
    putting.ask(p.GetError())
    assert (contents(putting, 21), contents(putting, 22)) == (1, 6)


def test_failure_that_a_snapshot_carries_fails_what_waits_for_it_later() -> None:
    def resume(context: Context, ring: int, tag: int) -> Callable[[], None]:
        return lambda: None

    with GuestBench() as before, GuestBench() as after:
        before.set_up()
        before.do(
            p.CreateQueue(id=11, context=CONTEXT, properties=OUT_OF_ORDER),
            *(p.CreateBuffer(id=i, context=CONTEXT, size=4) for i in (20, 21)),
        )
        before.context.operate("drop", before.context.table[20].number)
        before.submit(write(1, 20, event=30))

        after.bench.clock.advance(before.bench.clock.now() - after.bench.clock.now())
        after.gpu.load(cbor2.loads(cbor2.dumps(before.gpu.save())), resume)
        after.context = after.gpu.contexts[1]
        after.submit(write(2, 21, event=31, wait=(30,)), ring=1)
        after.bench.clock.advance(1 << 50)

        assert [status(after, event) for event in (30, 31)] == [
            Status.OUT_OF_RESOURCES,
            Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST,
        ]

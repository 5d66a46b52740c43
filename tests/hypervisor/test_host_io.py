"""Host work completes at its virtual time, in order, however fast the host is."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.host_io import HostThreads, Inbox
from hypervisor.time.clock import VirtualClock
from tests.effort import effort


@pytest.fixture
def clock():
    return VirtualClock(0)


@pytest.fixture
def host(clock):
    threads = HostThreads(clock)
    yield threads
    threads.close()


def run_all(clock):
    """Let virtual time pass until nothing is due."""
    while (due := clock.next_deadline()) is not None:
        clock.pass_idle(due)
        clock.run_due()


REQUESTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 500)), min_size=1, max_size=25)


@settings(max_examples=effort(30, 2_000))
@given(REQUESTS, st.integers())
def test_completions_come_in_order_of_virtual_time_for_any_host_speed(requests, seed):
    clock = VirtualClock(0)
    host = HostThreads(clock)
    queues = [object() for _ in range(3)]
    slowness = random.Random(seed)
    seen = []
    for number, (queue, at) in enumerate(requests):
        pause = slowness.choice([0, 0, 0.001])
        host.submit(
            queues[queue],
            lambda pause=pause, number=number: time.sleep(pause) or number,
            at,
            lambda result: seen.append((clock.now(), result)),
        )

    run_all(clock)
    host.close()

    assert seen == sorted((at, number) for number, (_, at) in enumerate(requests))


def test_one_queue_works_in_order_and_alone(host, clock):
    busy = []
    order = []

    def work(number):
        busy.append(number)
        assert len(busy) == 1
        time.sleep(0.0005)
        order.append(number)
        busy.remove(number)

    for number in range(20):
        host.submit(host, lambda number=number: work(number), 1000 - number, order.count)
    run_all(clock)

    assert order == list(range(20))


def test_two_queues_work_beside_each_other(host, clock):
    meeting = threading.Barrier(2, timeout=10)
    seen = []
    for queue in ("one", "two"):
        host.submit(queue, meeting.wait, 5, seen.append)

    run_all(clock)

    assert sorted(seen) == [0, 1]


def test_machine_waits_for_a_late_host(host, clock):
    begun = threading.Event()
    seen = []

    def slow():
        begun.wait(10)
        return "done"

    host.submit(host, slow, 100, seen.append)
    threading.Timer(0.05, begun.set).start()
    clock.pass_idle(100)
    clock.run_due()

    assert seen == ["done"]
    assert clock.now() == 100


def test_nothing_completes_before_its_time(host, clock):
    seen = []
    host.submit(host, lambda: 1, 100, seen.append)
    clock.pass_idle(99)
    clock.run_due()

    assert seen == []


def test_failure_is_handed_over_as_a_result(host, clock):
    seen = []
    error = OSError(5, "the disk is gone")

    def fail():
        raise error

    host.submit(host, fail, 0, seen.append)
    run_all(clock)

    assert seen == [error]


def test_completion_may_submit_more(host, clock):
    seen = []

    def again(result):
        seen.append((clock.now(), result))
        if result < 3:
            host.submit(host, lambda: result + 1, clock.now() + 10, again)

    host.submit(host, lambda: 1, 10, again)
    run_all(clock)

    assert seen == [(10, 1), (20, 2), (30, 3)]


def test_failing_completion_leaves_the_others(host, clock):
    seen = []

    def broken(result):
        raise RuntimeError("broken device")

    host.submit(host, lambda: 1, 10, broken)
    host.submit(host, lambda: 2, 10, seen.append)
    host.submit(host, lambda: 3, 20, seen.append)

    with pytest.raises(RuntimeError):
        run_all(clock)
    run_all(clock)

    assert seen == [2, 3]


def test_forgotten_requests_complete_never_but_their_work_is_done(host, clock):
    done = []
    host.submit(host, lambda: time.sleep(0.01) or done.append(1), 10, done.append)

    host.forget()
    clock.pass_idle(100)
    clock.run_due()

    assert done == [1]
    assert clock.next_deadline() is None


def test_close_ends_the_work_and_the_threads(clock):
    host = HostThreads(clock)
    done = []
    before = threading.active_count()
    for queue in range(3):
        host.submit(str(queue), lambda: time.sleep(0.005) or done.append(1), 10, done.append)

    host.close()

    assert done == [1, 1, 1]
    assert threading.active_count() == before


def test_posts_from_threads_are_taken_in_order_at_the_drain():
    wakes, taken = [], []
    inbox = Inbox(lambda: wakes.append(1))

    def post():
        for number in range(100):
            inbox.post(lambda number=number: taken.append(number))

    thread = threading.Thread(target=post)
    thread.start()
    thread.join()

    assert inbox
    assert taken == []
    inbox.drain()
    assert taken == list(range(100))
    assert len(wakes) == 100
    assert not inbox


def test_waiting_ends_when_a_post_arrives():
    inbox = Inbox(lambda: None)
    threading.Timer(0.02, lambda: inbox.post(lambda: None)).start()

    assert inbox.wait(10)


def test_waiting_without_a_post_times_out():
    inbox = Inbox(lambda: None)
    inbox.post(lambda: None)
    inbox.drain()

    assert not inbox.wait(0.001)


def test_post_that_posts_again_waits_for_the_next_drain():
    inbox = Inbox(lambda: None)
    taken = []

    def again():
        taken.append(1)
        inbox.post(again)

    inbox.post(again)
    inbox.drain()

    assert taken == [1]
    assert inbox
    assert inbox.wait(0)


def test_lone_request_is_done_by_the_machine_and_two_by_threads(host, clock):
    threads = []

    def work():
        threads.append(threading.current_thread())

    host.submit(host, work, 10, threads.count)
    run_all(clock)
    for at in (20, 30):
        host.submit(host, work, at, threads.count)
    run_all(clock)

    assert threads[0] is threading.current_thread()
    assert threading.current_thread() not in threads[1:]
    assert len(threads) == 3


def test_next_completion_is_the_earliest(host, clock):
    assert host.next_completion is None

    host.submit(host, lambda: 1, 20, [].append)
    host.submit(host, lambda: 1, 10, [].append)

    assert host.next_completion == 10


def test_close_does_the_work_of_a_lone_request(clock):
    host = HostThreads(clock)
    done = []
    host.submit(host, lambda: done.append(1), 10, done.append)

    host.close()

    assert done == [1]

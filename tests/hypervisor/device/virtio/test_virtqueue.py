"""Virtqueues, seen from a guest that keeps the rules and from one that does not."""

from struct import pack

import pytest

from hypervisor.device.testing import BenchMemory
from hypervisor.device.virtio import transport
from hypervisor.device.virtio.testing import INDIRECT, NEXT, WRITE, GuestDriver

NEEDS_RESET = transport.NEEDS_RESET


def test_chain_comes_back_with_what_the_device_wrote(driver):
    driver.start()
    offer = driver.queues[0].offer(b"hello", room=8)

    driver.notify(0)

    assert driver.queues[0].used() == [(offer.head, 5)]
    assert offer.data() == b"hello\0\0\0"


def test_chain_of_many_segments_reads_and_writes_as_one_run(driver):
    driver.start()
    offer = driver.queues[0].offer([b"ab", b"c", b"defg"], room=[1, 3, 4])

    driver.notify(0)

    assert driver.queues[0].used() == [(offer.head, 7)]
    assert offer.data() == b"abcdefg\0"


def test_indirect_chain_is_one_descriptor(driver):
    driver.start()
    offer = driver.queues[0].offer([b"ab", b"cd"], room=[1, 3], indirect=True)

    driver.notify(0)

    assert driver.queues[0].used() == [(offer.head, 4)]
    assert offer.data() == b"abcd"


def test_indirect_table_may_be_longer_than_the_queue(driver):
    driver.start(size=2)
    offer = driver.queues[0].offer([b"x"] * 100, room=[1] * 100, indirect=True)

    driver.notify(0)

    assert offer.data() == b"x" * 100


def test_indirect_table_may_follow_plain_descriptors(driver):
    driver.start()
    queue = driver.queues[0]
    data, room, table = driver.allocate(4), driver.allocate(4), driver.allocate(16, 16)
    driver.memory.write(data, b"data")
    driver.memory.write(table, pack("<QIHH", room, 4, WRITE, 0))
    queue.describe(0, data, 4, NEXT, 1)
    queue.describe(1, table, 16, INDIRECT)
    queue.publish(0)

    driver.notify(0)

    assert queue.used() == [(0, 4)]
    assert driver.memory.read(room, 4) == b"data"


def test_rings_wrap_around(driver):
    driver.start(size=4)
    queue = driver.queues[0]
    sent = [bytes((number,)) for number in range(50)]

    def echo(data):
        offer = queue.offer(data, room=1)
        driver.notify(0)
        return offer.data()

    assert [echo(data) for data in sent] == sent
    assert len(queue.used()) == 50


def test_index_wraps_at_65536(driver, echo):
    driver.start()
    queue = driver.queues[0]
    device_queue = echo.queues[0]
    device_queue.next = device_queue.seen = device_queue.used = 0xFFFF
    queue.avail_idx = queue.seen = 0xFFFF
    queue.set_used_event(0xFFFF)
    queue.offer(b"a", room=1)
    queue.offer(b"b", room=1)

    driver.notify(0)

    assert len(queue.used()) == 2
    assert driver.take_interrupt() == 1


def test_whole_queue_is_taken_at_one_notification(driver):
    driver.start(size=8)
    queue = driver.queues[0]
    heads = [queue.offer(b"x").head for _ in range(8)]

    driver.notify(0)

    assert [head for head, _ in queue.used()] == heads
    assert queue.avail_event == 8


# -- notifications --------------------------------------------------------------------------------


def test_interrupt_without_event_index_follows_the_flag(driver, echo):
    driver.start(without=transport.EVENT_IDX)
    queue = driver.queues[0]
    queue.set_flags(1)
    queue.offer(b"x")
    driver.notify(0)
    quiet = echo.irq.level
    queue.set_flags(0)
    queue.offer(b"x")
    driver.notify(0)

    assert (quiet, echo.irq.level) == (False, True)


def test_interrupt_with_event_index_comes_at_that_index_only(driver, echo):
    driver.start()
    queue = driver.queues[0]
    queue.set_used_event(1)
    queue.offer(b"x")
    driver.notify(0)
    first = echo.irq.level
    queue.offer(b"x")
    driver.notify(0)
    second = driver.take_interrupt()
    queue.offer(b"x")
    driver.notify(0)

    assert (first, second, echo.irq.level) == (False, 1, False)


def test_flags_do_not_count_with_event_index(driver, echo):
    driver.start()
    driver.queues[0].set_flags(1)
    driver.queues[0].offer(b"x")

    driver.notify(0)

    assert echo.irq.level


def test_device_asks_to_be_notified_of_the_next_chain(driver):
    driver.start()
    queue = driver.queues[0]
    queue.offer(b"x")
    queue.offer(b"x")

    driver.notify(0)

    assert queue.avail_event == 2


def test_unwanted_notifications_are_suppressed_by_flag(driver, echo):
    driver.start(without=transport.EVENT_IDX)

    echo.queues[0].want_notify(False)
    suppressed = driver.queues[0].flags
    echo.queues[0].want_notify(True)

    assert (suppressed, driver.queues[0].flags) == (1, 0)


def test_unwanted_notifications_are_suppressed_by_event_index(driver, echo):
    driver.start()

    echo.queues[0].want_notify(False)
    suppressed = driver.queues[0].avail_event
    echo.queues[0].want_notify(True)

    assert (suppressed, driver.queues[0].avail_event) == (0xFFFF, 0)


def test_chain_given_back_is_popped_again(driver, echo):
    driver.start()
    offer = driver.queues[0].offer(b"x", room=1)
    popped = echo.pop(0)

    echo.queues[0].give_back(1)

    assert popped.head == offer.head
    assert echo.pop(0).head == offer.head


# -- a hostile driver -----------------------------------------------------------------------------


def break_head(driver, queue):
    queue.publish(queue.size)


def break_next(driver, queue):
    queue.describe(0, driver.allocate(4), 4, NEXT, 0xFFFF)
    queue.publish(0)


def break_loop(driver, queue):
    queue.describe(0, driver.allocate(4), 4, NEXT, 1)
    queue.describe(1, driver.allocate(4), 4, NEXT, 0)
    queue.publish(0)


def break_address(driver, queue):
    queue.describe(0, 0x1000, 4, 0)
    queue.publish(0)


def break_end_of_memory(driver, queue):
    queue.describe(0, driver.memory.base + len(driver.memory.data) - 2, 4, 0)
    queue.publish(0)


def break_wrapping_address(driver, queue):
    queue.describe(0, (1 << 64) - 2, 4, 0)
    queue.publish(0)


def break_huge_length(driver, queue):
    queue.describe(0, driver.memory.base, 0xFFFF_FFFF, WRITE)
    queue.publish(0)


def break_zero_length(driver, queue):
    queue.describe(0, driver.memory.base, 0, 0)
    queue.publish(0)


def break_order(driver, queue):
    queue.describe(0, driver.allocate(4), 4, NEXT | WRITE, 1)
    queue.describe(1, driver.allocate(4), 4, 0)
    queue.publish(0)


def break_avail_index(driver, queue):
    queue.publish(0, step=queue.size + 1)


def break_nested_table(driver, queue):
    table = driver.allocate(16, 16)
    driver.memory.write(table, pack("<QIHH", table, 16, INDIRECT, 0))
    queue.describe(0, table, 16, INDIRECT)
    queue.publish(0)


def break_table_with_next(driver, queue):
    queue.describe(0, driver.allocate(16, 16), 16, INDIRECT | NEXT, 1)
    queue.publish(0)


def break_table_loop(driver, queue):
    table = driver.allocate(16, 16)
    driver.memory.write(table, pack("<QIHH", table, 16, NEXT, 0))
    queue.describe(0, table, 16, INDIRECT)
    queue.publish(0)


def break_table_size(driver, queue):
    queue.describe(0, driver.allocate(24, 16), 24, INDIRECT)
    queue.publish(0)


def break_table_length(driver, queue):
    queue.describe(0, driver.memory.base, 16 * 1025, INDIRECT)
    queue.publish(0)


def break_table_address(driver, queue):
    queue.describe(0, 0x2000, 16, INDIRECT)
    queue.publish(0)


BREAKS = [value for name, value in sorted(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("harm", BREAKS)
def test_broken_queue_stops_the_device_until_reset(driver, echo, bench, harm):
    driver.start()
    harm(driver, driver.queues[0])

    driver.notify(0)
    driver.notify(0)

    assert driver.status & NEEDS_RESET
    assert driver.take_interrupt() == 2
    assert driver.queues[0].used() == []
    assert len(bench.messages) == 1
    driver.start()
    offer = driver.queues[0].offer(b"again", room=5)
    driver.notify(0)
    assert offer.data() == b"again"


def test_indirect_table_without_the_feature_breaks_the_queue(driver):
    driver.start(without=transport.INDIRECT_DESC)
    driver.queues[0].offer(b"x", indirect=True)

    driver.notify(0)

    assert driver.status & NEEDS_RESET


def test_chain_of_four_gigabytes_breaks_the_queue(bench, echo):
    bench.memory = BenchMemory(size=5 << 20)
    echo = bench.build(type(echo))
    driver = GuestDriver(echo, bench)
    driver.start()
    table = driver.allocate(16 * 1024, 16)
    for number in range(1024):
        flags = WRITE if number == 1023 else NEXT | WRITE
        entry = pack("<QIHH", bench.memory.base, 4 << 20, flags, number + 1)
        bench.memory.write(table + 16 * number, entry)
    driver.queues[0].describe(0, table, 16 * 1024, INDIRECT)
    driver.queues[0].publish(0)

    driver.notify(0)

    assert driver.status & NEEDS_RESET


def test_more_chains_than_entries_break_the_queue(driver, echo):
    driver.start(size=4)
    echo.on_queue = lambda index: list(echo.chains(index))
    offers = [driver.queues[0].offer(b"x") for _ in range(4)]
    driver.notify(0)
    driver.queues[0].publish(offers[0].head)

    driver.notify(0)

    assert driver.status & NEEDS_RESET


@pytest.mark.parametrize("size", [0, 3, 512, 0xFFFF_FFFF])
def test_queue_of_impossible_size_is_not_enabled(driver, size):
    driver.negotiate(driver.offered())
    queue = driver.add_queue(0, 8)
    driver.set(0x044, 0)
    driver.set(0x038, size)
    driver.set(0x080, queue.descriptors)
    driver.set(0x090, queue.avail)
    driver.set(0x0A0, queue.used_ring)

    driver.set(0x044, 1)

    assert driver.get(0x044) == 0
    assert driver.status & NEEDS_RESET


@pytest.mark.parametrize(
    ("register", "address"),
    [(0x080, 0x8000_0008), (0x090, 0x8000_0001), (0x0A0, 0x8000_0002), (0x080, 0x10)],
)
def test_misplaced_ring_is_not_used(driver, register, address):
    driver.negotiate(driver.offered())
    driver.set(0x038, 8)
    driver.set(0x080, 0x8000_0000)
    driver.set(0x090, 0x8000_0100)
    driver.set(0x0A0, 0x8000_0200)
    driver.set(register, address)

    driver.set(0x044, 1)

    assert driver.get(0x044) == 0
    assert driver.status & NEEDS_RESET


def test_guest_that_never_stops_breaking_rules_does_not_fill_the_log(driver, bench):
    def misbehave():
        driver.start()
        break_head(driver, driver.queues[0])
        driver.notify(0)

    for _ in range(100):
        misbehave()

    assert 1 <= len(bench.messages) <= 16

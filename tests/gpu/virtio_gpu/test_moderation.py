"""When a driver is told that its fences are signalled."""

import cbor2
import pytest

from gpu.virtio_gpu.protocol import FLAG_FENCE, FLAG_INFO_RING_IDX
from hypervisor.device.testing import Bench
from hypervisor.device.virtio.transport import EVENT_IDX

from .conftest import Driver

ON_RING = FLAG_FENCE | FLAG_INFO_RING_IDX
USED = 1
WINDOW = 200_000


@pytest.fixture
def driver_of(bench):
    """driver_of(gpu): a started driver that wants an interrupt for each request."""

    def make(gpu):
        driver = Driver(gpu, bench)
        driver.start(without=EVENT_IDX, size=64)
        return driver

    return make


@pytest.fixture
def driver(gpu, driver_of):
    return driver_of(gpu)


@pytest.fixture
def rings(driver, core):
    """A driver with three commands under way; `core` completes them."""
    driver.context()
    for number in range(3):
        driver.submit(b"run", flags=ON_RING, fence=number + 1, ring=1)
    driver.take_interrupt()
    return core.made[0]


def test_first_fence_after_a_pause_interrupts_at_once(driver, rings):
    rings.complete(1)

    assert driver.take_interrupt() == USED


def test_answer_is_there_before_its_interrupt(driver, rings):
    rings.complete(1)
    driver.take_interrupt()
    driver.queues[0].used()

    later = driver.submit(b"run", flags=ON_RING, fence=9, ring=2)
    rings.complete(2)

    assert driver.take_interrupt() == 0
    assert [head for head, _ in driver.queues[0].used()] == [later.head]


def test_fences_that_follow_closely_interrupt_once(driver, rings, bench):
    rings.complete(1)
    driver.take_interrupt()
    bench.clock.advance(WINDOW // 4)
    rings.complete(1)
    rings.complete(1)

    bench.clock.advance(WINDOW * 3 // 4 - 1)
    before = driver.take_interrupt()
    bench.clock.advance(1)
    at_the_end = driver.take_interrupt()
    bench.clock.advance(WINDOW)

    assert (before, at_the_end, driver.take_interrupt()) == (0, USED, 0)


def test_fence_after_the_window_interrupts_at_once(driver, rings, bench):
    rings.complete(1)
    driver.take_interrupt()
    bench.clock.advance(WINDOW)

    rings.complete(1)

    assert driver.take_interrupt() == USED


def test_answer_to_another_request_tells_of_fences_too(gpu, bench, core):
    """With event indexes the driver asks for the next interrupt only, which is the fence's."""
    driver = Driver(gpu, bench)
    driver.start(size=64)
    driver.context()
    for number in range(2):
        driver.submit(b"run", flags=ON_RING, fence=number + 1, ring=1)
    driver.queues[0].set_used_event(1)
    core.made[0].complete(1)
    driver.queues[0].set_used_event(2)
    driver.take_interrupt()
    core.made[0].complete(1)
    before = driver.take_interrupt()

    driver.context(2)

    assert (before, driver.take_interrupt()) == (0, USED)


def test_moderation_of_nothing_interrupts_for_each(build, bench, driver_of, core):
    driver = driver_of(build(bench, moderation=0))
    driver.context()
    driver.take_interrupt()
    found = []
    for number in range(3):
        driver.submit(b"run", flags=ON_RING, fence=number + 1, ring=1)
        core.made[0].complete(1)
        found.append(driver.take_interrupt())

    assert found == [USED] * 3


def test_reset_forgets_an_interrupt_that_was_to_come(gpu, driver, rings, bench):
    rings.complete(1)
    driver.take_interrupt()
    rings.complete(1)

    gpu.reset()
    bench.clock.advance(WINDOW)

    assert driver.take_interrupt() == 0


def test_interrupt_that_was_to_come_comes_after_a_restore(gpu, driver, rings, bench, build):
    rings.complete(1)
    driver.take_interrupt()
    rings.complete(1)
    other_bench = Bench()
    other_bench.memory = bench.memory
    other = build(other_bench)

    other.load(cbor2.loads(cbor2.dumps(gpu.save())))
    driver.device = other
    before = driver.take_interrupt()
    other_bench.clock.advance(WINDOW)

    assert (before, driver.take_interrupt()) == (0, USED)


def test_window_goes_on_after_a_restore(gpu, driver, rings, bench, build):
    rings.complete(1)
    driver.take_interrupt()
    other_bench = Bench()
    other_bench.memory = bench.memory
    other = build(other_bench)

    other.load(cbor2.loads(cbor2.dumps(gpu.save())))
    driver.device = other
    driver.submit(b"run")

    assert driver.take_interrupt() == 0


def test_submissions_without_fences_that_follow_closely_interrupt_once(driver, core, bench):
    driver.context()
    bench.clock.advance(WINDOW)
    driver.take_interrupt()

    driver.submit(b"run")
    first = driver.take_interrupt()
    driver.submit(b"run")
    driver.submit(b"run")
    before = driver.take_interrupt()
    bench.clock.advance(WINDOW)

    assert (first, before, driver.take_interrupt()) == (USED, 0, USED)

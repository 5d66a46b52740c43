"""The MMIO transport: identification, negotiation, status, configuration, resets, snapshots."""

import pytest

from hypervisor.device.testing import Bench
from hypervisor.device.virtio import transport
from hypervisor.device.virtio.testing import GuestDriver

FEATURES_OK, DRIVER_OK = transport.FEATURES_OK, transport.DRIVER_OK


def test_device_identifies_itself(driver):
    assert driver.get(0x000).to_bytes(4, "little") == b"virt"
    assert driver.get(0x004) == 2
    assert driver.get(0x008) == 0x42


def test_node_is_of_a_coherent_mmio_device(echo):
    node = echo.node()

    assert node.name == "virtio_mmio@10001000"
    assert node["dma-coherent"] is True
    assert echo.compatible == ("virtio,mmio",)


def test_features_are_read_in_two_words_and_no_more(driver):
    driver.set(0x014, 2)

    assert driver.get(0x010) == 0
    assert driver.offered() == 1 << 3 | transport.TRANSPORT_FEATURES


def test_features_that_were_offered_are_accepted(driver, echo):
    status = driver.negotiate(transport.VERSION_1 | 1 << 3)

    assert status & FEATURES_OK
    assert echo.accepted(1 << 3)
    assert not echo.accepted(transport.EVENT_IDX)


@pytest.mark.parametrize("features", [1 << 3, 0, transport.VERSION_1 | 1 << 4])
def test_features_that_can_not_be_are_refused(driver, features):
    assert not driver.negotiate(features) & FEATURES_OK


def test_features_do_not_change_after_features_ok(driver, echo):
    driver.negotiate(transport.VERSION_1)
    driver.set(0x024, 0)

    driver.set(0x020, 1 << 3)

    assert echo.driver_features == transport.VERSION_1


def test_driver_ok_needs_features_ok(driver):
    driver.negotiate(0)

    driver.set(0x070, 0xF)

    assert not driver.status & DRIVER_OK


def test_status_bits_stay_until_reset(driver):
    driver.start()
    driver.set(0x070, 128)
    assert driver.status == 0x8F

    driver.set(0x070, 0)

    assert driver.status == 0


def test_buffers_wait_for_driver_ok(driver):
    driver.negotiate(driver.offered())
    queue = driver.add_queue(0, 8)
    queue.offer(b"x")
    driver.notify(0)
    before = queue.used()

    driver.set(0x070, 0xF)

    assert before == []
    assert len(queue.used()) == 1


def test_queue_that_is_not_there_has_no_size(driver):
    sizes = []
    for index in range(3):
        driver.set(0x030, index)
        sizes.append(driver.get(0x034))

    assert sizes == [256, 256, 0]


def test_ring_addresses_are_fixed_while_the_queue_is_ready(driver, echo):
    driver.start()
    driver.set(0x030, 0)
    before = echo.queues[0].descriptors

    driver.set(0x080, 0)
    driver.set(0x038, 4)

    assert (echo.queues[0].descriptors, echo.queues[0].size) == (before, 8)


def test_queue_is_not_enabled_before_features_ok(driver):
    driver.set(0x070, 0)

    driver.add_queue(0, 8)

    assert driver.get(0x044) == 0


def test_acknowledging_lowers_the_interrupt(driver, echo):
    driver.start()
    driver.queues[0].offer(b"x")
    driver.notify(0)
    raised = echo.irq.level

    driver.take_interrupt()

    assert (raised, echo.irq.level, driver.get(0x060)) == (True, False, 0)


def test_queue_reset_leaves_other_queues_alone(driver, echo):
    driver.start()
    driver.queues[1].offer(b"y")
    driver.set(0x030, 0)

    driver.set(0x0C0, 1)

    assert (driver.get(0x0C0), driver.get(0x044)) == (0, 0)
    driver.notify(1)
    assert len(driver.queues[1].used()) == 1


def test_queue_works_again_after_queue_reset(driver):
    driver.start()
    driver.queues[0].offer(b"x")
    driver.notify(0)
    driver.set(0x030, 0)
    driver.set(0x0C0, 1)

    queue = driver.add_queue(0, 16)
    offer = queue.offer(b"new", room=3)
    driver.notify(0)

    assert offer.data() == b"new"
    assert queue.used() == [(offer.head, 3)]


def test_queue_reset_needs_its_feature(driver):
    driver.start(without=transport.RING_RESET)
    driver.set(0x030, 0)

    driver.set(0x0C0, 1)

    assert driver.get(0x044) == 1


def test_chain_taken_before_a_queue_reset_is_not_returned_after_it(driver, echo):
    driver.start()
    driver.queues[0].offer(b"x")
    chain = echo.pop(0)
    driver.set(0x030, 0)
    driver.set(0x0C0, 1)
    queue = driver.add_queue(0, 8)

    echo.complete(chain, 0)

    assert queue.used() == []


def test_configuration_is_read_at_every_width(echo):
    assert echo.read(0x100, 4) == 0x11223344
    assert echo.read(0x102, 2) == 0x1122
    assert [echo.read(0x100 + at, 1) for at in range(4)] == [0x44, 0x33, 0x22, 0x11]


def test_configuration_change_interrupts_and_counts(driver, echo):
    driver.start()
    before = driver.get(0x0FC)

    echo.config_changed()

    assert driver.take_interrupt() == 2
    assert driver.get(0x0FC) == before + 1


def test_there_is_no_shared_memory(driver):
    assert [driver.get(offset) for offset in (0xB0, 0xB4, 0xB8, 0xBC)] == [0xFFFF_FFFF] * 4


def test_restored_device_goes_on(driver, echo, bench):
    driver.start()
    driver.queues[0].offer(b"x")
    driver.notify(0)
    driver.queues[0].used()
    offer = driver.queues[0].offer(b"rest", room=4)
    state = echo.save()
    other = Bench()
    other.memory.data[:] = bench.memory.data

    copy = other.build(type(echo), "echo0", at=0x1000_1000)
    copy.load(state)
    copy.write(0x050, 4, 0)

    assert copy.save()["queues"][0]["used"] == 2
    assert copy.irq.level
    room, size = offer.room[0]
    assert other.memory.read(room, size) == b"rest"


def test_saved_state_is_loaded_unchanged(driver, echo):
    driver.start()
    driver.queues[0].offer(b"x")
    driver.notify(0)
    state = echo.save()
    other = Bench().build(type(echo), "echo0")

    other.load(state)

    assert other.save() == state


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 3), ("next", -1), ("descriptors", 0x10), ("used", "many"), ("driver", 1 << 70)],
)
def test_state_of_an_impossible_queue_is_refused(driver, echo, name, value):
    driver.start()
    state = echo.save()
    state["queues"][0][name] = value

    with pytest.raises(ValueError, match="virtqueue"):
        echo.load(state)


def test_state_with_other_queues_is_refused(echo):
    state = echo.save()
    state["queues"].pop()

    with pytest.raises(ValueError, match="1 virtqueues, the device has 2"):
        echo.load(state)


def test_guest_reset_forgets_everything(driver, echo):
    driver.start()
    driver.queues[0].offer(b"x")
    driver.notify(0)

    driver.set(0x070, 0)

    assert (driver.status, echo.irq.level, echo.driver_features) == (0, False, 0)
    assert not any(queue.ready for queue in echo.queues)
    fresh = GuestDriver(echo, Bench())
    assert fresh.get(0x060) == 0

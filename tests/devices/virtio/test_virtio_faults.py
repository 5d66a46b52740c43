"""What virtio devices do where a fault is asked for."""

from struct import pack

import pytest

from devices.virtio.blk_request import DISCARD, FLUSH, GET_ID, IN, IOERR, OK, OUT
from devices.virtio.net import VirtioNet
from hypervisor.device import RequestFault
from hypervisor.device.virtio.testing import GuestDriver

LATENCY = 100_000
SECOND = 1_000_000_000


class Hook:
    """Answers every question the same, and keeps what it was asked."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked: list[tuple] = []

    def __call__(self, *question):
        self.asked.append(question)
        return self.answer


@pytest.fixture
def disk(bench, make_disk, fake):
    return make_disk(bench, fake)


@pytest.fixture
def driver(disk, bench):
    driver = GuestDriver(disk, bench)
    driver.start(size=16)
    return driver


def request(driver, kind, sector=0, data=(), room=()):
    header = pack("<IIQ", kind, 0, sector)
    offer = driver.queues[0].offer([header, *data], [*room, 1])
    offer.memory.write(offer.room[-1][0], b"\xff")
    driver.notify(0)
    return offer


def status(offer):
    return offer.data()[-1]


def test_a_failed_read_is_an_io_error_and_reads_nothing(driver, disk, bench, fake):
    disk.request_fault = Hook(RequestFault(error="faults.0: it fails"))

    offer = request(driver, IN, 3, room=[512])
    bench.clock.advance(SECOND)

    assert status(offer) == IOERR
    assert fake.calls == []
    assert bench.messages == ["disk0: faults.0: it fails"]


def test_a_failed_write_leaves_the_medium_alone(driver, disk, bench, fake):
    disk.request_fault = Hook(RequestFault(error="faults.0: it fails"))
    before = bytes(fake.data)

    offer = request(driver, OUT, 3, data=[b"x" * 512])
    bench.clock.advance(SECOND)

    assert status(offer) == IOERR
    assert fake.data == before


def test_a_delayed_request_is_answered_later_and_right(driver, disk, bench):
    disk.request_fault = Hook(RequestFault(delay=2 * SECOND))

    offer = request(driver, OUT, 3, data=[b"x" * 512])
    bench.clock.advance(2 * SECOND)
    before = status(offer)
    bench.clock.advance(SECOND)

    assert (before, status(offer)) == (0xFF, OK)


def test_a_request_behind_a_delayed_one_is_answered_before_it(driver, disk, bench):
    disk.request_fault = Hook(RequestFault(delay=2 * SECOND))
    first = request(driver, IN, 0, room=[512])
    disk.request_fault = None

    second = request(driver, IN, 1, room=[512])
    bench.clock.advance(SECOND)

    assert (status(first), status(second)) == (0xFF, OK)


def test_the_hook_is_told_operation_place_and_size(driver, disk, bench):
    hook = disk.request_fault = Hook(None)

    request(driver, IN, 3, room=[512, 512])
    request(driver, OUT, 8, data=[b"x" * 512])
    request(driver, FLUSH)
    request(driver, DISCARD, data=[pack("<QII", 8, 8, 0)])
    request(driver, GET_ID, room=[20])

    assert hook.asked == [
        *(("read", 1536, 1024), ("write", 4096, 512), ("flush", 0, 0), ("discard", 0, 16))
    ]


def test_a_request_that_the_device_refuses_is_no_occasion(driver, disk, bench):
    hook = disk.request_fault = Hook(RequestFault(delay=SECOND))

    offer = request(driver, IN, 1 << 40, room=[512])

    assert (status(offer), hook.asked) == (IOERR, [])


def test_a_snapshot_carries_a_failing_request(driver, disk, bench, fake):
    disk.request_fault = Hook(RequestFault(error="faults.0: it fails"))
    offer = request(driver, OUT, 3, data=[b"x" * 512])
    before = bytes(fake.data)

    state = disk.save()
    bench.clock.advance(SECOND)

    assert state["requests"][0]["outcome"][0] == IOERR
    assert (status(offer), fake.data) == (IOERR, before)


class FakeLink:
    live = False
    problem = None

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, frame):
        self.sent.append(frame)


@pytest.fixture
def card(bench):
    card = bench.build(VirtioNet, "net0", backend="none")
    card.backend = FakeLink()
    return card


@pytest.fixture
def network(card, bench):
    network = GuestDriver(card, bench)
    network.start(size=16)
    return network


def send(network, frame):
    network.queues[1].offer([bytes(12) + frame], [])
    network.notify(1)


def test_a_lost_packet_is_taken_from_the_guest_and_not_sent(card, network):
    hook = card.packet_fault = Hook(True)

    send(network, b"x" * 60)

    assert hook.asked == [("sent", 60)]
    assert card.backend.sent == []
    assert len(network.queues[1].used()) == 1


def test_a_packet_that_is_not_lost_is_sent(card, network):
    card.packet_fault = Hook(False)

    send(network, b"x" * 60)

    assert card.backend.sent == [b"x" * 60]


def test_a_frame_of_no_valid_length_is_no_occasion(card, network):
    hook = card.packet_fault = Hook(True)

    send(network, b"x" * 5)

    assert (hook.asked, card.tx_dropped) == ([], 1)


@pytest.mark.parametrize(("lost", "arrived"), [(True, 0), (False, 1)])
def test_a_received_packet_may_be_lost(card, network, lost, arrived):
    network.queues[0].offer([], [2048])
    hook = card.packet_fault = Hook(lost)

    card._received(b"y" * 60)

    assert hook.asked == [("received", 60)]
    assert len(network.queues[0].used()) == arrived

"""The virtio network device."""

import pytest
from pydantic import ValidationError

from devices.virtio import net
from devices.virtio.net import MAX_WAITING, VirtioNet
from hypervisor.device.testing import Bench
from hypervisor.device.virtio.testing import GuestDriver

RX, TX = 0, 1
HEADER = bytes(12)
ONE_BUFFER = bytes(10) + b"\x01\x00"
FRAME = bytes(range(60))


class FakeLink:
    live = True
    problem = None

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def open(self, post, receive):
        self.post = post
        self.receive = receive

    def send(self, frame):
        self.sent.append(frame)

    def close(self):
        self.closed = True

    def arrive(self, bench, *frames):
        for frame in frames:
            self.post(lambda frame=frame: self.receive(frame))
        bench.run_posted()


@pytest.fixture
def link(monkeypatch):
    link = FakeLink()
    monkeypatch.setattr(net, "open_net", lambda options, clock: link)
    return link


@pytest.fixture
def nic(bench, link):
    return bench.build(VirtioNet, "net0")


@pytest.fixture
def driver(nic, bench):
    driver = GuestDriver(nic, bench)
    driver.start(size=16)
    return driver


def test_frame_is_sent_without_its_header(driver, link):
    driver.queues[TX].offer([HEADER, FRAME[:20], FRAME[20:]])

    driver.notify(TX)

    assert link.sent == [FRAME]
    assert driver.queues[TX].used() == [(0, 0)]


@pytest.mark.parametrize("size", [0, 5, 12, 12 + 13, 12 + 65_551, 200_000])
def test_what_is_no_frame_is_not_sent(driver, link, nic, size):
    driver.queues[TX].offer([b"x" * size] if size else [], [] if size else [8])

    driver.notify(TX)

    assert link.sent == []
    assert nic.tx_dropped == 1
    assert len(driver.queues[TX].used()) == 1


def test_frame_arrives_with_a_header(driver, link, bench):
    offer = driver.queues[RX].offer((), 1526)
    driver.notify(RX)

    link.arrive(bench, FRAME)

    assert driver.queues[RX].used() == [(offer.head, 72)]
    assert offer.data()[:72] == ONE_BUFFER + FRAME
    assert driver.take_interrupt() == 1


def test_large_frame_is_merged_over_buffers(driver, link, bench):
    offers = [driver.queues[RX].offer((), 40) for _ in range(3)]

    link.arrive(bench, FRAME)

    assert driver.queues[RX].used() == [(offers[0].head, 40), (offers[1].head, 32)]
    assert offers[0].data()[10:12] == b"\x02\x00"
    assert offers[0].data()[12:] + offers[1].data()[:32] == FRAME


def test_frame_waits_until_there_are_buffers_enough(driver, link, bench):
    driver.queues[RX].offer((), 40)
    link.arrive(bench, FRAME)
    before = driver.queues[RX].used()
    wanted = driver.queues[RX].avail_event

    driver.queues[RX].offer((), 40)
    driver.notify(RX)

    assert (before, wanted) == ([], 1)
    assert [size for _, size in driver.queues[RX].used()] == [40, 32]


def test_frame_larger_than_the_buffer_is_dropped_without_merging(nic, link, bench):
    driver = GuestDriver(nic, bench)
    driver.start(without=net.F_MRG_RXBUF)
    offer = driver.queues[RX].offer((), 60)

    link.arrive(bench, FRAME, FRAME[:40])

    assert nic.rx_dropped == 1
    assert driver.queues[RX].used() == [(offer.head, 52)]


def test_frame_larger_than_all_buffers_is_dropped(nic, link, bench):
    driver = GuestDriver(nic, bench)
    driver.start(size=2)
    driver.queues[RX].offer((), 20)
    driver.queues[RX].offer((), 20)

    link.arrive(bench, FRAME)

    assert (nic.rx_dropped, driver.queues[RX].used()) == (1, [])


def test_notifications_of_buffers_are_wanted_only_while_frames_wait(driver, link, bench):
    queue = driver.queues[RX]
    idle = queue.avail_event
    link.arrive(bench, FRAME)
    waiting = queue.avail_event
    queue.offer((), 1526)
    driver.notify(RX)

    assert (idle, waiting, queue.avail_event) == (0xFFFF, 0, 0)


def test_frames_beyond_the_bound_are_dropped(driver, link, bench, nic):
    link.arrive(bench, *[FRAME] * (MAX_WAITING + 10))

    assert nic.rx_dropped == 10
    assert len(nic.save()["waiting"]) == MAX_WAITING


def test_frames_before_the_driver_are_dropped(nic, link, bench):
    link.arrive(bench, FRAME)

    assert nic.rx_dropped == 1


def test_guest_reset_forgets_waiting_frames(driver, link, bench, nic):
    link.arrive(bench, FRAME)

    driver.set(0x070, 0)

    assert nic.save()["waiting"] == []


def test_default_address_is_fixed_by_the_name(bench, link):
    first, again, second = (bench.build(VirtioNet, name).address for name in ("a", "a", "b"))

    assert first == again != second
    assert first[:3] == b"\x52\x54\x00"


def test_given_address_is_in_the_configuration(bench, link):
    nic = bench.build(VirtioNet, "net0", mac="52:54:00:12:34:56")

    address = [nic.read(0x100 + at, 1) for at in range(6)]

    assert bytes(address).hex(":") == "52:54:00:12:34:56"
    assert nic.read(0x106, 2) == 1


@pytest.mark.parametrize(
    "mac", ["", "52:54:00:12:34", "01:00:00:00:00:00", "00:00:00:00:00:00", "525400123456", "x"]
)
def test_impossible_address_is_refused(mac):
    with pytest.raises(ValidationError, match="not the MAC address of one station"):
        VirtioNet.Options(mac=mac)


def test_dead_link_is_said_once(driver, link, bench):
    link.problem = "passt ended"

    driver.queues[TX].offer([HEADER, FRAME])
    driver.notify(TX)
    driver.queues[TX].offer([HEADER, FRAME])
    driver.notify(TX)

    assert bench.messages == ["net0: passt ended"]


def test_restored_device_delivers_what_waited(driver, link, bench, nic):
    link.arrive(bench, FRAME)
    state = nic.save()
    other = Bench()
    other.memory.data[:] = bench.memory.data
    copy = other.build(VirtioNet, "net0")

    copy.load(state)
    driver.device = copy
    driver.memory = other.memory
    driver.queues[RX].memory = other.memory
    offer = driver.queues[RX].offer((), 1526)
    driver.notify(RX)

    assert offer.data()[:72] == ONE_BUFFER + FRAME


def test_closing_closes_the_link(nic, link):
    nic.close()

    assert link.closed
    assert nic.live

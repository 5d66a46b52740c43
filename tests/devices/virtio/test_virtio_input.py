"""The virtio keyboard and tablet against VIRTIO 1.2, section 5.8."""

from struct import unpack, unpack_from

import cbor2
import pytest

from devices.virtio.input import (
    ABS_INFO,
    EV_ABS,
    EV_BITS,
    EV_KEY,
    EV_LED,
    EV_REL,
    EV_SYN,
    ID_DEVIDS,
    ID_NAME,
    ID_SERIAL,
    MAX_WAITING,
    VirtioInput,
)
from hypervisor.device.testing import Bench
from hypervisor.device.virtio.testing import GuestDriver

A, B = 30, 48
SYN = (EV_SYN, 0, 0)


class Driver(GuestDriver):
    """Keeps the event queue filled with buffers."""

    offers: dict

    def fill(self, count):
        offers = [self.queues[0].offer((), 8) for _ in range(count)]
        self.offers = getattr(self, "offers", {}) | {offer.head: offer for offer in offers}
        self.notify(0)

    def events(self):
        """(type, code, value) of what came since the last call."""
        heads = [head for head, _ in self.queues[0].used()]
        return [unpack("<HHi", self.offers[head].data()) for head in heads]

    def config(self, select, subsel=0):
        """The bytes that a selection shows."""
        self.device.write(0x100, 1, select)
        self.device.write(0x101, 1, subsel)
        size = self.device.read(0x102, 1)
        return bytes(self.device.read(0x108 + at, 1) for at in range(size))


@pytest.fixture
def make(bench):
    """make(kind): (device, its driver with 16 buffers)."""

    def build(kind, on=bench):
        device = on.build(VirtioInput, "input0", kind=kind)
        driver = Driver(device, on)
        driver.start(size=64)
        driver.fill(16)
        return device, driver

    return build


def test_keyboard_says_what_it_is(make):
    _, driver = make("keyboard")

    keys = int.from_bytes(driver.config(EV_BITS, EV_KEY), "little")
    assert driver.config(ID_NAME) == b"Hypervisor keyboard"
    assert driver.config(ID_SERIAL) == b"input0"
    assert unpack("<4H", driver.config(ID_DEVIDS)) == (6, 0x5048, 1, 1)
    assert keys >> A & 1
    assert not keys & 1
    assert driver.config(EV_BITS, EV_LED) == b"\x07"
    assert driver.config(EV_BITS, EV_ABS) == b""
    assert driver.config(0x77) == b""


def test_tablet_says_its_axes(make):
    _, driver = make("tablet")

    assert driver.config(EV_BITS, EV_ABS) == b"\x03"
    assert driver.config(EV_BITS, EV_REL) == b"\x00\x01"
    assert unpack_from("<2I", driver.config(ABS_INFO, 1)) == (0, 0x7FFF)
    assert driver.config(ABS_INFO, 2) == b""
    assert driver.config(EV_BITS, EV_KEY)[0x110 // 8] == 0b111


def test_keys_come_with_their_reports(make, bench):
    _, driver = make("keyboard")

    bench.seat.key(A, True)
    bench.seat.key(A, False)

    assert driver.events() == [(EV_KEY, A, 1), SYN, (EV_KEY, A, 0), SYN]
    assert driver.take_interrupt() == 1


def test_key_that_repeats_is_told_once(make, bench):
    _, driver = make("keyboard")

    for _ in range(3):
        bench.seat.key(A, True)
    bench.seat.key(B, False)

    assert driver.events() == [(EV_KEY, A, 1), SYN]


@pytest.mark.parametrize("code", [0, 249, 1 << 20])
def test_key_that_no_keyboard_has_is_ignored(make, bench, code):
    _, driver = make("keyboard")

    bench.seat.key(code, True)

    assert driver.events() == []


def test_pointer_tells_place_buttons_and_wheel(make, bench):
    _, driver = make("tablet")

    bench.seat.point(5, 6, 0b00101)
    bench.seat.point(5, 6, 0b01100)
    events = driver.events()

    place = [(EV_ABS, 0, 5), (EV_ABS, 1, 6)]
    assert events[:5] == [*place, (EV_KEY, 0x110, 1), (EV_KEY, 0x111, 1), SYN]
    assert events[5:] == [*place, (EV_KEY, 0x110, 0), (EV_REL, 8, 1), SYN]


def test_each_takes_only_its_own(make, bench):
    _, keyboard = make("keyboard")
    device = bench.build(VirtioInput, "input1", kind="tablet")

    bench.seat.point(1, 1, 1)
    bench.seat.key(A, True)

    assert keyboard.events() == [(EV_KEY, A, 1), SYN]
    assert device.save()["waiting"] == []


def test_events_wait_for_buffers_and_keep_their_order(make, bench):
    _, driver = make("keyboard")
    for code in range(1, 13):
        bench.seat.key(code, True)
    first = driver.events()

    driver.fill(16)

    codes = [code for kind, code, _ in first + driver.events() if kind == EV_KEY]
    assert len(first) == 16
    assert codes == list(range(1, 13))


def test_flood_is_bounded_and_leaves_no_key_down(make, bench):
    device, driver = make("keyboard")
    for _ in range(MAX_WAITING):
        bench.seat.key(A, True)
        bench.seat.key(A, False)
    bench.seat.key(B, True)
    bench.seat.key(B, False)
    held = len(device.save()["waiting"])

    events = driver.events()
    while device.save()["waiting"]:
        driver.fill(16)
        events += driver.events()

    presses = [(code, value) for kind, code, value in events if kind == EV_KEY]
    assert held <= MAX_WAITING + 2
    assert presses.count((A, 1)) == presses.count((A, 0))
    assert (B, 1) not in presses


def test_nothing_waits_for_a_driver_that_is_not_there(bench):
    device = bench.build(VirtioInput, "input0", kind="keyboard")

    bench.seat.key(A, True)

    assert device.save()["waiting"] == []


def test_lights_are_taken(make):
    _, driver = make("keyboard")

    offer = driver.queues[1].offer(b"\x11\x00\x01\x00\x01\x00\x00\x00")
    driver.notify(1)

    assert driver.queues[1].used() == [(offer.head, 0)]


def test_waiting_events_are_in_a_snapshot(make, bench):
    device, driver = make("keyboard")
    for code in range(1, 13):
        bench.seat.key(code, True)
    driver.events()
    other_bench = Bench()
    other_bench.memory = bench.memory
    other = other_bench.build(VirtioInput, "input0", kind="keyboard")

    other.load(cbor2.loads(cbor2.dumps(device.save())))
    driver.device = other
    driver.fill(16)
    other_bench.seat.key(12, False)

    codes = [(code, value) for kind, code, value in driver.events() if kind == EV_KEY]
    assert codes == [(9, 1), (10, 1), (11, 1), (12, 1), (12, 0)]

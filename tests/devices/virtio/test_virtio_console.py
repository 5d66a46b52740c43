"""The virtio console: data, ports, control messages."""

from struct import pack, unpack

import pytest
from pydantic import ValidationError

from devices.virtio import console
from devices.virtio.console import VirtioConsole
from hypervisor.device.testing import Bench, BenchChannel
from hypervisor.device.virtio.testing import GuestDriver

CONTROL_RX, CONTROL_TX = 2, 3


class ChannelBench(Bench):
    """A bench with one channel per name."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: dict[str | None, BenchChannel] = {}

    def channel(self, spec):
        return self.channels.setdefault(spec, BenchChannel())


@pytest.fixture
def bench():
    return ChannelBench()


@pytest.fixture
def device(bench):
    ports = [{"name": "org.test.0", "backend": "channel:agent"}]
    return bench.build(VirtioConsole, "con0", backend="stdio", ports=ports, columns=132, rows=43)


@pytest.fixture
def driver(device, bench):
    driver = GuestDriver(device, bench)
    driver.start(size=16)
    return driver


def tell(driver, port, event, value):
    driver.queues[CONTROL_TX].offer(pack("<IHH", port, event, value))
    driver.notify(CONTROL_TX)


def listen(driver, count=8):
    """Give the device room for control messages."""
    offers = {}
    for _ in range(count):
        offer = driver.queues[CONTROL_RX].offer((), 64)
        offers[offer.head] = offer
    driver.notify(CONTROL_RX)
    return offers


def told(driver, offers):
    """The control messages that came: (port, event, value, text)."""
    return [
        (*unpack("<IHH", offers[head].data()[:8]), offers[head].data()[8:written])
        for head, written in driver.queues[CONTROL_RX].used()
    ]


def test_configuration_gives_size_and_ports(device):
    assert [device.read(0x100, 2), device.read(0x102, 2)] == [132, 43]
    assert device.read(0x104, 4) == 2


def test_output_reaches_the_channel(driver, bench):
    driver.queues[1].offer([b"hello ", b"world"])

    driver.notify(1)

    assert bench.channels["stdio"].output == b"hello world"


def test_output_of_one_chain_is_bounded(driver, bench, monkeypatch):
    monkeypatch.setattr(console, "MAX_WRITE", 8192)
    driver.queues[1].offer(b"x" * 10_000)

    driver.notify(1)

    assert len(driver.queues[1].used()) == 1
    assert len(bench.channels["stdio"].output) == 8192


def test_input_waits_for_a_buffer(device, bench):
    driver = GuestDriver(device, bench)
    driver.start(without=console.F_MULTIPORT)
    bench.channels["stdio"].type(b"typed")

    offer = driver.queues[0].offer((), 3)
    driver.notify(0)
    more = driver.queues[0].offer((), 3)
    driver.notify(0)

    assert (offer.data(), more.data()[:2]) == (b"typ", b"ed")
    assert [size for _, size in driver.queues[0].used()] == [3, 2]


def test_input_finds_the_waiting_buffer(device, bench):
    driver = GuestDriver(device, bench)
    driver.start(without=console.F_MULTIPORT)
    offer = driver.queues[0].offer((), 16)
    driver.notify(0)

    bench.channels["stdio"].type(b"typed")

    assert driver.queues[0].used() == [(offer.head, 5)]
    assert offer.data()[:5] == b"typed"
    assert driver.take_interrupt() == 1


def test_device_takes_no_more_input_than_it_can_hold(device, bench):
    driver = GuestDriver(device, bench)
    driver.start(without=console.F_MULTIPORT)

    bench.channels["stdio"].type(b"x" * 10_000)

    assert len(bench.channels["stdio"].read(10_000)) >= 10_000 - 4096


def test_ready_device_adds_its_ports(driver):
    offers = listen(driver)

    tell(driver, 0, console.DEVICE_READY, 1)

    assert told(driver, offers) == [(0, 1, 0, b""), (1, 1, 0, b"")]


def test_ready_ports_are_named_and_opened(driver):
    offers = listen(driver)

    tell(driver, 0, console.PORT_READY, 1)
    tell(driver, 1, console.PORT_READY, 1)

    assert told(driver, offers) == [
        (0, console.CONSOLE_PORT, 1, b""),
        (0, console.PORT_OPEN, 1, b""),
        (1, console.PORT_NAME, 1, b"org.test.0"),
        (1, console.PORT_OPEN, 1, b""),
    ]


def test_control_messages_wait_for_buffers(driver):
    tell(driver, 0, console.DEVICE_READY, 1)

    offers = listen(driver)

    assert len(told(driver, offers)) == 2


def test_named_port_gets_input_once_the_guest_opened_it(driver, bench):
    offer = driver.queues[4].offer((), 16)
    driver.notify(4)
    bench.channels["channel:agent"].type(b"ping")
    before = driver.queues[4].used()

    tell(driver, 1, console.PORT_OPEN, 1)

    assert before == []
    assert offer.data()[:4] == b"ping"


def test_named_port_sends_to_its_own_channel(driver, bench):
    driver.queues[5].offer(b"pong")

    driver.notify(5)

    assert bench.channels["channel:agent"].output == b"pong"
    assert bench.channels["stdio"].output == b""


@pytest.mark.parametrize(
    "message",
    [
        pack("<IHH", 99, console.PORT_READY, 1),
        pack("<IHH", 0xFFFF_FFFF, console.PORT_OPEN, 1),
        pack("<IHH", 0, 0xFFFF, 1),
        pack("<IHH", 0, console.DEVICE_READY, 0),
        b"short",
    ],
)
def test_meaningless_control_message_is_ignored(driver, message):
    offers = listen(driver)
    driver.queues[CONTROL_TX].offer(message)

    driver.notify(CONTROL_TX)

    assert len(driver.queues[CONTROL_TX].used()) == 1
    assert told(driver, offers) == []


def test_answers_to_a_guest_that_asks_forever_are_bounded(driver, device):
    for _ in range(100):
        tell(driver, 1, console.PORT_READY, 1)

    assert len(device.save()["control"]) == 8


def test_emergency_write_needs_no_driver(device, bench):
    device.write(0x108, 4, ord("!"))

    assert bench.channels["stdio"].output == b"!"


def test_restored_console_has_its_input_and_open_ports(driver, device, bench):
    tell(driver, 1, console.PORT_OPEN, 1)
    bench.channels["channel:agent"].type(b"held")
    tell(driver, 0, console.DEVICE_READY, 1)
    state = device.save()
    other = ChannelBench()
    other.memory.data[:] = bench.memory.data
    copy = other.build(VirtioConsole, "con0", ports=[{"name": "org.test.0"}])

    copy.load(state)

    assert copy.save() == state
    assert copy.ports[1].open
    assert copy.ports[1].pending == b"held"


def test_state_with_other_ports_is_refused(device):
    state = device.save()
    state["ports"].pop()

    with pytest.raises(ValueError, match="1 ports, the device has 2"):
        device.load(state)


def test_ports_with_the_same_name_are_refused():
    with pytest.raises(ValidationError, match="two ports have the name 'a'"):
        VirtioConsole.Options(ports=[{"name": "a"}, {"name": "a"}])


def test_restored_console_takes_no_buffer_before_the_driver_notifies(driver, device, bench):
    tell(driver, 0, console.PORT_OPEN, 1)
    bench.channels["stdio"].type(b"held")
    driver.queues[0].offer((), 16)

    device.load(device.save())
    early = driver.queues[0].used()
    driver.notify(0)

    assert early == []
    assert driver.queues[0].used() == [(0, 4)]


@pytest.mark.parametrize("end", ["stdio", "tcp:5555", "channel:", "agent", ""])
def test_other_end_that_a_port_cannot_have_is_refused(bench, end):
    ports = [{"name": "a", "backend": end}]
    with pytest.raises(ValidationError, match=r"say (stdio, )?none or channel:NAME"):
        bench.build(VirtioConsole, ports=ports)

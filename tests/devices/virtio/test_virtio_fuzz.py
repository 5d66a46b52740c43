"""Hostile drivers: random rings, descriptors and register accesses against every virtio device.

What must hold: no exception reaches the machine, the log and the device's memory stay bounded, and
after a reset the device works.
"""

from __future__ import annotations

from contextlib import suppress
from struct import pack

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.virtio import net
from devices.virtio.console import VirtioConsole
from devices.virtio.net import VirtioNet
from devices.virtio.rng import VirtioRng
from hypervisor.device import BackendError
from hypervisor.device.testing import Bench, BenchMemory
from hypervisor.device.virtio import VirtioDevice, transport
from hypervisor.device.virtio.testing import GuestDriver
from tests.effort import effort

ACCESSES = effort(2_000, 100_000)
BURST = 100
RECORD = 10
WIDTHS = (1, 2, 4, 8)
LENGTHS = (0, 1, 11, 16, 17, 512, 513, 4096, 1 << 16, 1 << 20, 0xFFFF_FFFF)
ROOMS = (0, 1, 8, 60, 512, 2000, 4096, 0)
SIZES = (1, 2, 8, 256)
WITHOUT = (0, transport.EVENT_IDX, transport.INDIRECT_DESC, 0xFFFF)
REQUESTS = 64
LARGEST_STATE = 70 << 20
MOST_MESSAGES = 100


class SilentLink:
    live = False
    problem = None

    def open(self, post, receive):
        self.receive = receive

    def send(self, frame):
        assert 14 <= len(frame) <= 65_550

    def close(self):
        pass


class Attacker:
    """Turns random bytes into the acts of a guest that is wrong in likely places."""

    def __init__(self, device: VirtioDevice, bench: Bench, link: SilentLink) -> None:
        self.device = device
        self.bench = bench
        self.link = link
        self.driver = GuestDriver(device, bench)
        self.acts = (
            self._register,
            self._register_small,
            self._descriptor,
            self._publish,
            self._notify,
            *(self._offer,) * 5,
            self._wait,
            self._wait,
            self._input,
            self._input,
            self._scribble,
            self._restart,
        )
        self._restart(0, 2, 0)

    def run(self, burst: bytes) -> None:
        for at in range(0, len(burst), RECORD):
            record = burst[at : at + RECORD]
            act = self.acts[record[0] % len(self.acts)]
            if self.device.Status & transport.NEEDS_RESET and record[0] >> 7:
                act = self._restart
            act(record[1], record[2], int.from_bytes(record[3:], "little"))

    def _register(self, kind: int, where: int, value: int) -> None:
        size = WIDTHS[kind & 3]
        offset = where << 1 | kind >> 7
        if kind & 4:
            answer = self.device.read(offset, size)
            assert 0 <= answer < 1 << 8 * size
        else:
            self.device.write(offset, size, value & (1 << 8 * size) - 1)

    def _register_small(self, kind: int, where: int, value: int) -> None:
        self.device.write((where & 0x3F) << 2, 4, kind & 0x1F)

    def _descriptor(self, kind: int, where: int, value: int) -> None:
        """A descriptor that points at requests, at rings, at a border or anywhere."""
        queue = self._queue(where)
        memory = self.driver.memory
        address = (
            memory.base + 16 * (value & 0x3F),
            queue.descriptors + 16 * (value & 3),
            (queue.avail, queue.used_ring)[value & 1] + (value >> 1 & 7),
            memory.base + len(memory.data) - (value & 0xFFF),
            value,
            memory.base + (value & 0x7_FFFF),
        )[kind % 6]
        length = LENGTHS[(value >> 8) % len(LENGTHS)]
        length += 16 * (value >> 16 & 7) * (length == 16)
        place = (where >> 3) % queue.size
        queue.describe(place, address & ((1 << 64) - 1), length, kind >> 4 & 7, value >> 24 & 7)

    def _offer(self, kind: int, where: int, value: int) -> None:
        """A chain that keeps the rules of queues, if nothing broke the rings."""
        queue = self._queue(where)
        table = requests()
        data = [table[16 * (value & 0x3F) :][:16]] if value & 0x40 else []
        data += [bytes(ROOMS[value >> 8 & 7])] if value & 0x80 else []
        rooms = (ROOMS[value >> 16 & 7], ROOMS[value >> 20 & 7])
        room = [size for size in rooms if size] + [1] * (value >> 24 & 1)
        queue.offer(
            [piece for piece in data if piece] or ([] if room else [b"x"]),
            room,
            indirect=kind & 3 == 0,
        )
        self._notify(0, where, value)

    def _publish(self, kind: int, where: int, value: int) -> None:
        queue = self._queue(where)
        odd = kind > 250
        head = value & 0xFFFF if odd else (where >> 3) % queue.size
        queue.publish(head, step=value >> 16 & 0xFFFF if kind < 5 else 1)

    def _notify(self, kind: int, where: int, value: int) -> None:
        self.driver.notify(self._queue(where).index if kind < 250 else value & 0xFFFF_FFFF)

    def _wait(self, kind: int, where: int, value: int) -> None:
        self.bench.clock.advance(value & 0xF_FFFF)
        self.driver.take_interrupt()

    def _input(self, kind: int, where: int, value: int) -> None:
        self.link.receive(bytes(14 + (value & 0xFFF)))
        self.bench.console.type(b"i" * (value & 0xFF))

    def _scribble(self, kind: int, where: int, value: int) -> None:
        queue = self._queue(where)
        ring = (queue.avail, queue.used_ring, queue.descriptors)[kind % 3]
        self.driver.memory.write(ring + (kind >> 2), pack("<Q", value))

    def _restart(self, kind: int, where: int, value: int) -> None:
        self.driver._free = self.driver.memory.base + 16 * REQUESTS
        self.driver.start(without=WITHOUT[kind & 3], size=SIZES[where & 3])
        for queue in self.driver.queues:
            for place in range(min(queue.size, 32)):
                queue.describe(place, self.driver.memory.base + 16 * place, 16, place & 2)

    def _queue(self, number: int):
        return self.driver.queues[number % len(self.driver.queues)]


def requests() -> bytes:
    """Headers and bodies that make sense to one device or another, 16 bytes each."""
    found = [pack("<IIQ", kind, 0, 8 * kind) for kind in (0, 1, 4, 8, 11, 13, 14, 99)]
    found += [pack("<QII", sector, 8, flags) for sector in (0, 2040, 1 << 60) for flags in (0, 1)]
    found += [pack("<IHH", port, event, 1) * 2 for port in (0, 1, 9) for event in range(8)]
    return b"".join(found).ljust(16 * REQUESTS, b"\0")


@pytest.fixture
def build(monkeypatch, make_disk, fake):
    """Builds a device by its type's short name: (device, its bench, the link of its network)."""

    def make(kind: str):
        bench = Bench()
        bench.memory.write(bench.memory.base, requests())
        link = SilentLink()
        link.receive = lambda frame: None
        monkeypatch.setattr(net, "open_net", lambda options, clock: link)
        makers = {
            "blk": lambda: make_disk(bench, fake, bandwidth="64M"),
            "net": lambda: bench.build(VirtioNet),
            "console": lambda: bench.build(
                VirtioConsole, backend="stdio", ports=[{"name": "p", "backend": "channel:p"}]
            ),
            "rng": lambda: bench.build(VirtioRng),
        }
        return makers[kind](), bench, link

    return make


hostile = settings(
    max_examples=max(ACCESSES // BURST, 1),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
bursts = st.binary(min_size=BURST * RECORD, max_size=BURST * RECORD)
every_kind = pytest.mark.parametrize("kind", ["blk", "net", "console", "rng"])


@every_kind
@hostile
@given(burst=bursts)
def test_hostile_driver_is_survived_in_bounded_memory(kind, build, burst):
    device, bench, link = build(kind)

    Attacker(device, bench, link).run(burst)

    assert len(bench.messages) <= MOST_MESSAGES
    assert len(cbor2.dumps(device.save())) <= LARGEST_STATE
    device.close()


@every_kind
@settings(hostile, max_examples=max(ACCESSES // BURST // 4, 1))
@given(burst=bursts)
def test_device_works_after_a_hostile_driver_resets_it(kind, build, burst):
    device, bench, link = build(kind)
    Attacker(device, bench, link).run(burst)

    driver = GuestDriver(device, bench)
    driver.start()
    index = 0 if kind in ("blk", "rng") else 1
    offer = driver.queues[index].offer(pack("<IIQ", 8, 0, 0) + bytes(16), 21)
    driver.notify(index)
    bench.clock.advance(10_000_000_000)

    assert [head for head, _ in driver.queues[index].used()] == [offer.head]
    device.close()


@every_kind
@settings(hostile, max_examples=max(ACCESSES // BURST // 4, 1))
@given(burst=bursts)
def test_snapshot_amid_hostile_requests_makes_the_same_run(kind, build, burst):
    device, bench, link = build(kind)
    Attacker(device, bench, link).run(burst)
    state = cbor2.loads(cbor2.dumps(device.save()))
    memory = bytes(bench.memory.data)
    other, other_bench, _ = build(kind)
    other_bench.memory.data[:] = memory
    other_bench.clock.advance(bench.clock.now())

    other.load(state)
    bench.console.read(1 << 20)
    bench.clock.advance(10_000_000_000)
    other_bench.clock.advance(10_000_000_000)

    assert other_bench.memory.data == bench.memory.data
    assert other.save() == device.save()


@settings(hostile, max_examples=max(ACCESSES // BURST, 1))
@given(
    damage=st.recursive(
        st.none() | st.booleans() | st.integers() | st.binary(max_size=20) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    where=st.sampled_from(["queues", "driver_features", "requests", "busy_until"]),
)
def test_random_damage_to_a_saved_state_shows_at_load_or_never(build, damage, where):
    device, bench, _ = build("blk")
    state = device.save()
    state[where] = damage

    with suppress(ValueError, TypeError, KeyError, BackendError):
        device.load(state)
    bench.clock.advance(1_000_000_000)
    device.write(0x070, 4, 0)

    assert device.save()["requests"] == []


def test_largest_request_to_overlapping_memory_is_bounded(build):
    device, bench, _ = build("blk")
    bench.memory = device.memory = BenchMemory(size=4 << 20)
    driver = GuestDriver(device, bench)
    driver.start()
    table = driver.allocate(16 * 1024, 16)
    header = driver.allocate(16)
    entries = [pack("<QIHH", header, 16, 1, 1)]
    entries += [pack("<QIHH", bench.memory.base, 1 << 20, 3, at + 2) for at in range(1022)]
    entries += [pack("<QIHH", header, 1, 2, 0)]
    bench.memory.write(table, b"".join(entries))
    driver.queues[0].memory = bench.memory
    driver.queues[0].describe(0, table, 16 * 1024, 4)
    driver.queues[0].publish(0)

    driver.notify(0)

    assert device.save()["requests"] == []

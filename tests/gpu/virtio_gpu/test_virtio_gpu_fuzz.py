"""Hostile drivers of the virtio GPU: random commands with fields that are wrong in likely places.

What must hold: no exception reaches the machine, every request is answered or waits for its fence,
the host's memory and the log stay bounded, and after a reset the device works.
"""

from __future__ import annotations

import random
import tracemalloc
from struct import pack

import cbor2
import pytest

from gpu.virtio_gpu.protocol import HEADER, LAYOUTS, Command, Header, Response
from tests.effort import effort

REQUESTS = effort(2_000, 100_000)
QUOTA = 1 << 20
NUMBERS = (0, 1, 2, 3, 7, 1 << 31, 0xFFFF_FFFF)
SIZES = (0, 1, 4, 16, 64, 100, 4096, 16384, 0x4000_0001, 0xFFFF_FFFF)
WIDE = (0, 4, 4096, 1 << 32, (1 << 64) - 1)
CONTROL = [command for command in Command if command < 0x300]


class Attacker:
    """Makes requests of noise. `driver` has its queues of 64 entries."""

    def __init__(self, gpu, driver, core, seed):
        self.gpu, self.driver, self.core = gpu, driver, core
        self.noise = random.Random(seed)
        self.asked: set[int] = set()
        self.pages = [driver.allocate(4096, 4096) for _ in range(8)]

    def act(self):
        noise = self.noise
        choice = noise.random()
        if choice < 0.05:
            waiting = [(c, ring) for c in self.core.made for ring, *_ in c.waiting]
            for context, ring in noise.sample(waiting, min(len(waiting), 4)):
                context.complete(ring)
        elif choice < 0.06:
            self.gpu.resize(noise.randrange(200), noise.randrange(200))
        elif self.in_flight() < 48:
            self.request()

    def in_flight(self):
        self.asked -= {head for queue in self.driver.queues[:1] for head, _ in queue.used()}
        return len(self.asked)

    def request(self):
        noise = self.noise
        command = noise.choice([*CONTROL, *CONTROL, *Command, 0, 0x10B, 0x204, 0x208, 0xFFFF])
        queue = 1 if command in (Command.UPDATE_CURSOR, Command.MOVE_CURSOR) else 0
        queue ^= noise.random() < 0.02
        header = Header(
            command, noise.choice((0, 0, 1, 3, 3, 0xFF)), noise.choice(WIDE),
            noise.choice(NUMBERS[:5]), noise.choice((0, 1, 63, 64, 255)),
        ).pack()  # fmt: skip
        body = self.body(command) + self.tail()
        data = (header + body)[: noise.choice((None, None, None, None, 24, 30))]
        room = noise.choice((0, 24, 408, 1200, 7, 4096))
        if not queue:
            self.driver.queues[0].free = noise.randrange(64)
            offer = self.driver.queues[0].offer(data, room or (), indirect=True)
            if offer.head in self.asked:  # the head is in use: no driver's mistake to look at
                self.asked.discard(offer.head)
            self.asked.add(offer.head)
        else:
            self.driver.queues[1].offer(data, room or (), indirect=True)
        self.driver.notify(queue)

    def body(self, command):
        layout = LAYOUTS.get(command)
        if layout is None:
            return self.noise.randbytes(self.noise.randrange(80))
        body = b""
        while len(body) < layout.size:
            pool = self.noise.choice((NUMBERS[:5], NUMBERS[:5], SIZES, (30, 1, 2, 67)))
            body += pack("<I", self.noise.choice(pool) & 0xFFFF_FFFF)
        return body[: layout.size]

    def tail(self):
        """Memory entries, of which most are in RAM; or a stream."""
        entries = b""
        for _ in range(self.noise.choice((0, 1, 2, 7))):
            address = self.noise.choice([*self.pages, *self.pages, 0, 1 << 63, self.pages[0] + 5])
            size = self.noise.choice((4096, 4096, 4096, 8192, 1, 0, 0xFFFF_FFFF))
            entries += pack("<QI4x", address, size)
        return entries


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(4))
def test_hostile_commands_are_survived_in_bounded_memory(build, bench, driver_of, core, seed):
    gpu = build(bench, display={"memory": QUOTA, "width": 64, "height": 64})
    driver = driver_of(gpu)
    attacker = Attacker(gpu, driver, core, seed)
    tracemalloc.start()

    for _ in range(REQUESTS // 4):
        attacker.act()
        gpu.scanout.rgb()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 * QUOTA
    assert 0 <= gpu.resources.quota.used <= QUOTA
    assert len(bench.messages) < 100
    assert len(cbor2.dumps(gpu.save())) < 4 * QUOTA


@pytest.mark.parametrize("seed", range(4))
def test_display_works_after_a_hostile_driver(build, bench, driver_of, core, seed):
    gpu = build(bench, display={"memory": QUOTA, "width": 64, "height": 64})
    attacker = Attacker(gpu, driver_of(gpu), core, seed)
    for _ in range(200):
        attacker.act()

    driver = driver_of(gpu)
    driver.picture(1)
    shown = driver.ask(Command.SET_SCANOUT, 0, 0, 16, 8, 0, 1)[0]

    assert shown == Response.OK_NODATA
    assert any(gpu.scanout.rgb()[2])


@pytest.mark.parametrize("seed", range(4))
def test_snapshot_amid_hostile_commands_is_the_same_device(build, bench, driver_of, core, seed):
    gpu = build(bench, display={"memory": QUOTA, "width": 64, "height": 64})
    attacker = Attacker(gpu, driver_of(gpu), core, seed)
    for _ in range(150):
        attacker.act()
    saved = cbor2.loads(cbor2.dumps(gpu.save()))
    other = build(bench, display={"memory": QUOTA, "width": 64, "height": 64})

    other.load(saved)

    assert cbor2.loads(cbor2.dumps(other.save())) == saved
    assert other.scanout.rgb() == gpu.scanout.rgb()
    assert other.resources.quota.used == gpu.resources.quota.used


def test_noise_in_the_control_queue_is_answered_or_breaks_it(driver):
    noise = random.Random(3)
    for _ in range(300):
        offer = driver.queues[0].offer(noise.randbytes(noise.randrange(1, 200)), 24)
        driver.notify(0)
        used = [head for head, _ in driver.queues[0].used()]
        assert used == [offer.head] or driver.status & 64
        if driver.status & 64:
            driver.start(size=64)


def test_answer_that_finds_no_room_is_cut(driver):
    offer = driver.request(Command.GET_DISPLAY_INFO, room=10)

    assert driver.queues[0].used() == [(offer.head, 10)]
    assert offer.data() == HEADER.pack(Response.OK_DISPLAY_INFO, 0, 0, 0, 0)[:10]

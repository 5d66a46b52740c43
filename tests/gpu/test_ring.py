"""The MMIO ring: registers, descriptors, interrupts, scanout."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gpu import protocol as p
from gpu.core import schedule
from gpu.ring import BROKEN, DESCRIPTOR, ENABLE, ENABLED, LOST, MAGIC, NO_DEVICE, RESET, RingGpu
from hypervisor.device.testing import Bench, BenchMemory

RAM = 0x8000_0000
RING, STREAM, ANSWER, DATA = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x10000
COUNT = 8


class Guest:
    """A program that drives the ring."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.bench.memory = BenchMemory(RAM, 1 << 20, shared=True)
        self.device: Any = self.bench.build(RingGpu, "gpu0", at=0x1000_0000)
        self.written = 0

    def offset(self, name: str) -> int:
        return int(vars(RingGpu)[name].offset)

    def store(self, name: str, value: int, size: int = 4) -> None:
        self.device.write(self.offset(name), size, value)

    def load(self, name: str, size: int = 4, index: int = 0) -> int:
        return int(self.device.read(self.offset(name) + index * size, size))

    def enable(self) -> None:
        self.store("RING_BASE", RING, 8)
        self.store("RING_SIZE", COUNT)
        self.store("INTERRUPT_ENABLE", 3)
        self.store("CONTROL", ENABLE)

    def put(self, stream: bytes, timeline: int = 0, at: int = STREAM) -> int:
        """Write a descriptor; its fence."""
        self.bench.memory.write(at, stream)
        fence = self.written + 100
        place = RING + self.written % COUNT * DESCRIPTOR.size
        self.bench.memory.write(place, DESCRIPTOR.pack(at, len(stream), timeline, fence, 0))
        self.written += 1
        return fence

    def ring(self) -> None:
        self.store("DOORBELL", self.written)

    def run(self, *commands: p.Command, timeline: int = 0) -> None:
        fence = self.put(b"".join(c.encode() for c in commands), timeline)
        self.ring()
        self.bench.clock.advance(1 << 50)
        assert self.load("FENCE", 8, timeline) == fence

    def error(self) -> int:
        """What GetError answers; the blob 1 has to be granted."""
        self.run_bytes(p.GetError().encode(p.AnswerPlace(1, 0, 64)))
        answer: p.LatchedError = p.LatchedError.unpack(
            self.bench.memory.read(ANSWER + 8, 16), 0, 16
        )
        return answer.error

    def run_bytes(self, stream: bytes) -> None:
        self.put(stream)
        self.ring()
        self.bench.clock.advance(1 << 50)


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    guest.enable()
    yield guest
    guest.device.close()


def test_identity_and_state(guest: Guest) -> None:
    assert guest.load("ID") == MAGIC
    assert guest.load("VERSION") == p.VERSION
    assert guest.load("STATUS") == ENABLED


def test_fence_interrupts_until_it_is_cleared(guest: Guest) -> None:
    fence = guest.put(b"")
    guest.ring()
    guest.bench.clock.advance(1)

    first = guest.load("FENCE", 8), guest.device.irq.level
    guest.store("INTERRUPT_STATUS", 1)

    assert first == (fence, True)
    assert not guest.device.irq.level


def test_timelines_have_fences_of_their_own(guest: Guest) -> None:
    one = guest.put(b"", timeline=0)
    other = guest.put(b"", timeline=63, at=STREAM + 64)
    guest.ring()
    guest.bench.clock.advance(1)

    assert (guest.load("FENCE", 8, 0), guest.load("FENCE", 8, 63)) == (one, other)
    assert guest.load("TAKEN") == 2


def test_ring_goes_round(guest: Guest) -> None:
    for _ in range(3 * COUNT):
        guest.run()

    assert guest.load("TAKEN") == 3 * COUNT
    assert guest.load("STATUS") == ENABLED


@pytest.mark.parametrize(
    "descriptor",
    [
        DESCRIPTOR.pack(0, 8, 0, 1, 0),
        DESCRIPTOR.pack((1 << 64) - 4, 8, 0, 1, 0),
        DESCRIPTOR.pack(STREAM, p.MAX_STREAM + 8, 0, 1, 0),
        DESCRIPTOR.pack(STREAM, 8, 64, 1, 0),
        DESCRIPTOR.pack(STREAM, 8, 0, 1, 1),
    ],
)
def test_bad_descriptor_stops_the_ring(guest: Guest, descriptor: bytes) -> None:
    guest.bench.memory.write(RING, descriptor)
    guest.store("DOORBELL", 1)

    assert guest.load("STATUS") == BROKEN
    assert guest.device.irq.level
    assert "the ring stops at" in guest.bench.messages[-1]


def test_doorbell_beyond_the_ring_stops_it(guest: Guest) -> None:
    guest.store("DOORBELL", COUNT + 1)

    assert guest.load("STATUS") == BROKEN


@pytest.mark.parametrize(("base", "count"), [(RAM, 3), (RAM, 0), (RAM, 1 << 13), (0, 8)])
def test_ring_that_can_not_be_is_not_enabled(guest: Guest, base: int, count: int) -> None:
    guest.store("CONTROL", RESET)
    guest.store("RING_BASE", base, 8)
    guest.store("RING_SIZE", count)
    guest.store("CONTROL", ENABLE)

    assert guest.load("STATUS") == BROKEN


def test_reset_mends_a_broken_ring(guest: Guest) -> None:
    guest.store("DOORBELL", COUNT + 1)
    guest.store("CONTROL", RESET)
    guest.enable()

    guest.run()

    assert guest.load("STATUS") == ENABLED


def test_commands_of_the_ring_are_refused_with_errors(guest: Guest) -> None:
    guest.run(p.GrantMemory(blob=1, ranges=(ANSWER, 4096)))
    found = []
    for command in (
        p.GrantMemory(blob=2, ranges=(ANSWER, 4096, 7)),
        p.GrantMemory(blob=2, ranges=(0, 4096)),
        p.RevokeMemory(blob=9),
        p.SetScanout(blob=9, width=4, height=4, stride=16),
        p.SetScanout(blob=1, width=640, height=480, stride=2560),
        p.SetScanout(blob=1, width=4, height=4, stride=8),
    ):
        guest.run(command)
        found.append(guest.error())

    assert found == [-30] * 6


def test_picture_is_shown_and_flushed_at_its_fence(guest: Guest) -> None:
    seen: list[object] = []
    guest.device.scanout.watchers.append(seen.append)
    guest.bench.memory.write(DATA, struct.pack("<4I", 0xFF0000, 0x00FF00, 0x0000FF, 0xFFFFFF))
    guest.run(
        p.GrantMemory(blob=2, ranges=(DATA, 4096)),
        p.SetScanout(blob=2, width=2, height=2, stride=8),
    )
    seen.clear()

    guest.put(p.FlushScanout().encode())
    guest.ring()
    early = list(seen)
    guest.bench.clock.advance(1)

    assert early == []
    assert len(seen) == 1
    assert guest.device.scanout.rgb() == (2, 2, b"\xff\0\0\0\xff\0\0\0\xff\xff\xff\xff")


def test_revoked_picture_is_gone(guest: Guest) -> None:
    guest.run(
        p.GrantMemory(blob=2, ranges=(DATA, 4096)),
        p.SetScanout(blob=2, width=2, height=2, stride=8),
        p.RevokeMemory(blob=2),
    )

    assert guest.device.scanout.picture is None


def test_information_is_the_capset(guest: Guest) -> None:
    guest.store("INFO_BASE", DATA, 8)
    guest.store("INFO_SIZE", 1 << 16)

    capset = guest.bench.memory.read(DATA, guest.load("INFO_SIZE"))
    assert capset == guest.device.core.capset()


def test_lost_worker_shows_in_the_status(guest: Guest) -> None:
    guest.run(p.CreateContext(id=1))
    context = next(iter(guest.device.core.contexts.values()))
    context.link.worker.lose("a test ended it")
    guest.run(p.CreateBuffer(id=2, context=1, size=64))

    assert guest.load("STATUS") == ENABLED | LOST


def test_ring_takes_no_more_than_can_be_pending(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MAX_PENDING", 4)
    fences = [guest.put(p.FlushScanout().encode()) for _ in range(5)]

    guest.ring()
    taken = guest.load("TAKEN")
    other = Guest()
    other.bench.memory.data[:] = guest.bench.memory.data[:]
    other.device.load(guest.device.save())
    found = []
    for each in (guest, other):
        each.bench.clock.advance(1 << 50)
        found.append((each.load("TAKEN"), each.load("FENCE", 8)))
    other.device.close()

    assert taken == 2
    assert found == [(5, fences[-1])] * 2


def wait_for_user_event(guest: Guest) -> None:
    """Have the timeline 0 wait for the event 3, with a first submission."""
    guest.run(
        p.CreateContext(id=1), p.CreateQueue(id=2, context=1), p.CreateUserEvent(id=3, context=1)
    )
    guest.put(p.Marker(queue=2, wait=(3,)).encode())


def test_full_ring_takes_the_packet_that_sets_a_user_event(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MAX_PENDING", 4)
    wait_for_user_event(guest)
    fences = [guest.put(p.Flush(queue=2).encode(), at=STREAM + 64) for _ in range(2)]
    guest.put(p.SetUserEventStatus(event=3, status=0).encode(), timeline=1, at=STREAM + 128)

    guest.ring()
    guest.bench.clock.advance(1 << 50)

    assert guest.load("TAKEN") == guest.written
    assert guest.load("FENCE", 8) == fences[-1]


def test_ring_of_which_all_waits_for_user_events_stops(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MAX_PENDING", 2)
    wait_for_user_event(guest)
    guest.put(p.Flush(queue=2).encode(), at=STREAM + 64)
    guest.put(p.Flush(queue=2).encode(), at=STREAM + 64)

    guest.ring()
    guest.bench.clock.advance(1 << 50)

    assert guest.load("STATUS") == BROKEN
    assert "4 commands that all wait for user events" in guest.bench.messages[-1]


def test_ring_that_moves_out_of_memory_stops_where_it_goes_on_by_itself(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MAX_PENDING", 2)
    for _ in range(3):
        guest.put(p.FlushScanout().encode())
    guest.ring()
    guest.store("RING_BASE", 0, 8)
    guest.bench.clock.advance(1 << 50)

    assert guest.load("STATUS") == BROKEN
    assert "a ring of" in guest.bench.messages[-1]


@pytest.mark.parametrize("stream", [p.CreateContext(id=1).encode(), b""])
def test_state_says_whether_the_host_has_no_device(
    stream: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCL_ICD_VENDORS", "/nonexistent")
    one, other = Guest(), Guest()
    one.enable()
    one.put(stream)
    one.ring()

    other.device.load(one.device.save())
    found = one.load("STATUS"), other.load("STATUS")
    one.device.close()
    other.device.close()

    assert found == (ENABLED | NO_DEVICE * bool(stream),) * 2


def test_state_has_the_picture_and_the_fences(guest: Guest) -> None:
    guest.run(
        p.GrantMemory(blob=2, ranges=(DATA, 4096)),
        p.SetScanout(blob=2, width=2, height=2, stride=8),
    )
    pending = guest.put(p.FlushScanout().encode(), timeline=3)
    guest.ring()
    other = Guest()
    other.bench.memory.data[:] = guest.bench.memory.data[:]
    seen: list[object] = []

    other.device.load(guest.device.save())
    other.device.scanout.watchers.append(seen.append)
    other.written = guest.written
    other.run(p.FlushScanout())

    assert other.load("FENCE", 8, 3) == pending
    assert len(seen) == 2
    assert other.device.scanout.picture is not None
    other.device.close()


def test_neither_the_machine_nor_its_gpu_loads_opencl() -> None:
    code = (
        "import sys, hypervisor; before = 'gpu' in sys.modules;"
        "import gpu.ring, gpu.core, gpu.virtio_gpu;"
        "print(before, 'pyopencl' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)

    assert done.stdout == b"False False\n"


@pytest.mark.parametrize(
    ("name", "value"), [("RING_BASE", 0), ("RING_BASE", 1 << 60), ("RING_SIZE", 0)]
)
def test_ring_that_moves_out_of_memory_stops_at_the_doorbell(
    guest: Guest, name: str, value: int
) -> None:
    guest.store(name, value, 8 if name == "RING_BASE" else 4)
    guest.store("DOORBELL", 1)

    assert guest.load("STATUS") == BROKEN
    assert "a ring of" in guest.bench.messages[-1]


def test_stream_with_many_flushes_shows_the_picture_once(guest: Guest) -> None:
    seen: list[object] = []
    guest.run(
        p.GrantMemory(blob=2, ranges=(DATA, 4096)),
        p.SetScanout(blob=2, width=2, height=2, stride=8),
    )
    guest.device.scanout.watchers.append(seen.append)
    guest.run(*[p.FlushScanout()] * 100)

    assert len(seen) == 1
    assert not any(guest.device._flushes)


def test_streams_with_the_same_fence_are_each_shown(guest: Guest) -> None:
    seen: list[object] = []
    guest.run(
        p.GrantMemory(blob=2, ranges=(DATA, 4096)),
        p.SetScanout(blob=2, width=2, height=2, stride=8),
    )
    guest.device.scanout.watchers.append(seen.append)
    stream = p.FlushScanout().encode()
    guest.bench.memory.write(STREAM, stream)
    descriptor = DESCRIPTOR.pack(STREAM, len(stream), 0, 7, 0)
    guest.bench.memory.write(RING + DESCRIPTOR.size, descriptor * 2)
    guest.store("DOORBELL", 3)
    guest.bench.clock.advance(1 << 50)

    assert len(seen) == 2

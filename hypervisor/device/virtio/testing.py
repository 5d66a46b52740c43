"""The guest's side of a virtio device, for tests: negotiates, builds rings, offers buffers.

driver = GuestDriver(device, bench)
driver.start()
offer = driver.queues[0].offer(b"to the device", room=512)
driver.notify(0)
assert driver.queues[0].used() == [(offer.head, 512)]
assert offer.data() == ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack_from

from hypervisor.device.testing import Bench, BenchMemory
from hypervisor.device.virtio.transport import (
    ACKNOWLEDGE,
    DRIVER,
    DRIVER_OK,
    FEATURES_OK,
    VirtioDevice,
)

NEXT, WRITE, INDIRECT = 1, 2, 4


@dataclass
class Offer:
    """A chain that was offered, and where its writable part is."""

    memory: BenchMemory
    head: int
    room: list[tuple[int, int]]

    def data(self) -> bytes:
        """What the writable part holds now."""
        return b"".join(self.memory.read(address, size) for address, size in self.room)


class GuestQueue:
    """A virtqueue as its driver sees it."""

    def __init__(self, driver: GuestDriver, index: int, size: int) -> None:
        self.driver = driver
        self.memory = driver.memory
        self.index = index
        self.size = size
        self.descriptors = driver.allocate(16 * size, 16)
        self.avail = driver.allocate(6 + 2 * size, 2)
        self.used_ring = driver.allocate(6 + 8 * size, 4)
        self.avail_idx = 0
        self.seen = 0
        self.free = 0

    def describe(self, index: int, address: int, size: int, flags: int, following: int = 0) -> None:
        """Write one descriptor of the table."""
        entry = pack("<QIHH", address, size, flags, following)
        self.memory.write(self.descriptors + 16 * index, entry)

    def offer(
        self,
        data: bytes | Sequence[bytes] = (),
        room: int | Sequence[int] = (),
        *,
        indirect: bool = False,
    ) -> Offer:
        """Make a chain available: `data` for the device to read, `room` bytes for it to write;
        a sequence makes one descriptor of each item."""
        pieces = [data] if isinstance(data, bytes) else data
        sizes = [room] if isinstance(room, int) else room
        segments = []
        for piece in pieces:
            address = self.driver.allocate(len(piece))
            self.memory.write(address, piece)
            segments.append((address, len(piece), 0))
        writable = [(self.driver.allocate(size), size) for size in sizes]
        segments += [(address, size, WRITE) for address, size in writable]
        head = self._describe_all(segments, indirect)
        self.publish(head)
        return Offer(self.memory, head, writable)

    def publish(self, head: int, step: int = 1) -> None:
        """Put a head into the avail ring and move its index by `step`."""
        slot = self.avail + 4 + 2 * (self.avail_idx % self.size)
        self.memory.write(slot, pack("<H", head))
        self.avail_idx = (self.avail_idx + step) & 0xFFFF
        self.memory.write(self.avail + 2, pack("<H", self.avail_idx))

    def used(self) -> list[tuple[int, int]]:
        """(head, bytes written) of the chains that came back since the last call."""
        (index,) = unpack_from("<H", self.memory.read(self.used_ring + 2, 2))
        found = []
        while self.seen != index:
            slot = self.used_ring + 4 + 8 * (self.seen % self.size)
            found.append((*unpack_from("<II", self.memory.read(slot, 8)),))
            self.seen = (self.seen + 1) & 0xFFFF
        return found

    @property
    def flags(self) -> int:
        """The used ring's flags."""
        return int.from_bytes(self.memory.read(self.used_ring, 2), "little")

    @property
    def avail_event(self) -> int:
        """The avail idx at which the device wants to be notified."""
        return int.from_bytes(self.memory.read(self.used_ring + 4 + 8 * self.size, 2), "little")

    def set_flags(self, flags: int) -> None:
        """Write the avail ring's flags."""
        self.memory.write(self.avail, pack("<H", flags))

    def set_used_event(self, index: int) -> None:
        """Ask for an interrupt when the device uses entry `index`."""
        self.memory.write(self.avail + 4 + 2 * self.size, pack("<H", index))

    def _describe_all(self, segments: list[tuple[int, int, int]], indirect: bool) -> int:
        if indirect:
            table = self.driver.allocate(16 * len(segments), 16)
            for number, (address, size, flags) in enumerate(segments):
                more = NEXT if number + 1 < len(segments) else 0
                entry = pack("<QIHH", address, size, flags | more, number + 1)
                self.memory.write(table + 16 * number, entry)
            segments = [(table, 16 * len(segments), INDIRECT)]
        head = self.free % self.size
        for number, (address, size, flags) in enumerate(segments):
            more = NEXT if number + 1 < len(segments) else 0
            place = (self.free + number) % self.size
            self.describe(place, address, size, flags | more, (place + 1) % self.size)
        self.free += len(segments)
        return head


class GuestDriver:
    """Drives a device's registers; `queues` are the guest's views of its virtqueues."""

    def __init__(self, device: VirtioDevice, bench: Bench) -> None:
        self.device = device
        self.memory = bench.memory
        self._free = bench.memory.base + 64
        self.queues: list[GuestQueue] = []

    def allocate(self, size: int, alignment: int = 8) -> int:
        """The address of `size` bytes of guest memory; after the last comes the first again."""
        address = -(-self._free // alignment) * alignment
        if not self.memory.contains(address, size):
            address = self.memory.base + len(self.memory.data) // 2
        self._free = address + size
        return address

    def get(self, offset: int) -> int:
        return self.device.read(offset, 4)

    def set(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value)

    @property
    def status(self) -> int:
        return self.get(0x070)

    def offered(self) -> int:
        """The device's feature bits."""
        self.set(0x014, 0)
        low = self.get(0x010)
        self.set(0x014, 1)
        return low | self.get(0x010) << 32

    def negotiate(self, features: int) -> int:
        """Go as far as FEATURES_OK; the status that the device then shows."""
        self.set(0x070, 0)
        self.set(0x070, ACKNOWLEDGE)
        self.set(0x070, ACKNOWLEDGE | DRIVER)
        self.set(0x024, 0)
        self.set(0x020, features & 0xFFFF_FFFF)
        self.set(0x024, 1)
        self.set(0x020, features >> 32)
        self.set(0x070, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        return self.status

    def add_queue(self, index: int, size: int) -> GuestQueue:
        """Build a virtqueue and enable it."""
        queue = GuestQueue(self, index, size)
        self.memory.write(queue.avail, bytes(6 + 2 * size))
        self.memory.write(queue.used_ring, bytes(6 + 8 * size))
        self.set(0x030, index)
        self.set(0x038, size)
        for offset, address in (
            (0x080, queue.descriptors),
            (0x090, queue.avail),
            (0x0A0, queue.used_ring),
        ):
            self.set(offset, address & 0xFFFF_FFFF)
            self.set(offset + 4, address >> 32)
        self.set(0x044, 1)
        return queue

    def start(self, *, without: int = 0, size: int = 8) -> None:
        """All the way to DRIVER_OK, with all features but `without` and every queue."""
        self.negotiate(self.offered() & ~without)
        count = len(self.device.queue_names)
        self.queues = [self.add_queue(index, size) for index in range(count)]
        self.set(0x070, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def notify(self, index: int) -> None:
        self.set(0x050, index)

    def take_interrupt(self) -> int:
        """Read and acknowledge InterruptStatus."""
        causes = self.get(0x060)
        self.set(0x064, causes)
        return causes

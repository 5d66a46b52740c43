"""Split virtqueues as the device sees them.

Follows VIRTIO 1.2, section 2.7, "Split Virtqueues". Rings and descriptors are the guest's to write,
so nothing in them is believed: whatever breaks a rule of the specification raises QueueError, and
no rule-breaking makes the device loop, allocate or touch anything but RAM.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from hypervisor.device.board import GuestMemory, MemoryAccessError

MAX_CHAIN = 1024
"""Descriptors in one chain or indirect table; also the largest queue."""

_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_INTERRUPT, _NO_NOTIFY = 1, 1
_MAX_BYTES = 1 << 32

_DESCRIPTOR = Struct("<QIHH")
_USED = Struct("<II")

Segment = tuple[int, int]
"""(guest-physical address, bytes), inside RAM."""


class QueueError(Exception):
    """The driver broke a rule: the end of a sentence that begins with the queue's name."""


class Chain:
    """One buffer of the driver: segments to read, then segments to write, seen as two byte runs."""

    __slots__ = ("epoch", "head", "queue", "read_size", "readable", "writable", "write_size")

    def __init__(
        self, queue: Queue, head: int, readable: list[Segment], writable: list[Segment]
    ) -> None:
        self.queue = queue
        self.epoch = queue.epoch
        self.head = head
        self.readable = readable
        self.writable = writable
        self.read_size = sum(size for _, size in readable)
        self.write_size = sum(size for _, size in writable)

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes of the readable part from byte `start`."""
        memory = self.queue.memory
        return b"".join(
            memory.read(address, length) for address, length in _cut(self.readable, start, size)
        )

    def write(self, data: bytes | memoryview, start: int = 0) -> int:
        """Write into the writable part from byte `start`; how many bytes found room."""
        memory = self.queue.memory
        view = memoryview(data)
        done = 0
        for address, length in _cut(self.writable, start, len(view)):
            memory.write(address, view[done : done + length])
            done += length
        return done


class Queue:
    """One virtqueue: its place in guest memory and the device's positions in both rings."""

    def __init__(self, memory: GuestMemory, maximum: int) -> None:
        self.memory = memory
        self.maximum = maximum
        self.epoch = 0
        """Counts resets: a chain taken before a reset is not given back after it."""
        self.clear()

    def clear(self) -> None:
        """Back to what a device reset leaves."""
        self.epoch += 1
        self.size = self.maximum
        self.ready = False
        self.descriptors = self.driver = self.device = 0
        self.indirect = self.event_index = False
        self.wants_notify = True
        self.next = self.seen = self.used = 0

    def enable(self, *, indirect: bool, event_index: bool) -> None:
        """Begin to use the rings, if they can be used at all."""
        self._check_rings()
        self.indirect = indirect
        self.event_index = event_index
        self.next = self.seen = self.used = 0
        self.ready = True

    def _check_rings(self) -> None:
        size = self.size
        if not 0 < size <= self.maximum or size & (size - 1):
            raise QueueError(f"has {size} entries, it must be a power of two up to {self.maximum}")
        for name, address, length, alignment in (
            ("descriptor table", self.descriptors, 16 * size, 16),
            ("avail ring", self.driver, 6 + 2 * size, 2),
            ("used ring", self.device, 6 + 8 * size, 4),
        ):
            if address % alignment:
                raise QueueError(f"has its {name} at {address:#x}, not aligned to {alignment}")
            if not self.memory.contains(address, length):
                raise QueueError(f"has its {name} at {address:#x}, where no RAM is")

    def pop(self) -> Chain | None:
        """Take the next chain that the driver made available; None when there is none."""
        if not self.ready:
            return None
        if self.seen == self.next and not self._look():
            return None
        if (self.next - self.used) & 0xFFFF >= self.size:
            raise QueueError(f"offers more chains at once than its {self.size} entries")
        slot = self.driver + 4 + 2 * (self.next & (self.size - 1))
        chain = self._chain(self._u16(slot))
        self.next = (self.next + 1) & 0xFFFF
        if self.next == self.seen:
            self._look()
        return chain

    def give_back(self, count: int) -> None:
        """Undo the last `count` pops, of which nothing was used."""
        self.next = (self.next - count) & 0xFFFF

    def push(self, chain: Chain, written: int) -> bool:
        """Return a chain with `written` bytes in it; whether the driver wants an interrupt."""
        used = self.used
        slot = self.device + 4 + 8 * (used & (self.size - 1))
        self.memory.write(slot, _USED.pack(chain.head, written))
        self.used = new = (used + 1) & 0xFFFF
        self.memory.write(self.device + 2, new.to_bytes(2, "little"))
        if self.event_index:
            return self._u16(self.driver + 4 + 2 * self.size) == used
        return not self._u16(self.driver) & _NO_INTERRUPT

    def want_notify(self, wanted: bool) -> None:
        """Tell the driver whether to notify the device of chains beyond those now available."""
        if self.ready and wanted != self.wants_notify:
            self.wants_notify = wanted
            if self.event_index:
                # An index just passed is the last that the driver will come to again.
                available = self._u16(self.driver + 2)
                self._set_event(available if wanted else available - 1)
            else:
                self.memory.write(self.device, bytes((0 if wanted else _NO_NOTIFY, 0)))

    def save(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SAVED}

    def load(self, state: dict[str, Any]) -> None:
        self.clear()
        for name in _SAVED:
            value = state[name]
            if not isinstance(value, int) or not 0 <= value < 1 << 64:
                raise ValueError(f"the snapshot's virtqueue has {name} {value!r}")
            setattr(self, name, value)
        if self.ready:
            try:
                self._check_rings()
            except QueueError as error:
                raise ValueError(f"the snapshot's virtqueue {error}") from None

    def _look(self) -> bool:
        """See whether the driver made more available; ask to be told when not."""
        self.seen = self._u16(self.driver + 2)
        waiting = (self.seen - self.next) & 0xFFFF
        if waiting > self.size:
            raise QueueError(
                f"has an avail idx of {self.seen}, more than its {self.size} entries "
                f"beyond {self.next}"
            )
        if not waiting and self.event_index and self.wants_notify:
            self._set_event(self.next)
        return waiting > 0

    def _set_event(self, index: int) -> None:
        place = self.device + 4 + 8 * self.size
        self.memory.write(place, (index & 0xFFFF).to_bytes(2, "little"))

    def _chain(self, head: int) -> Chain:
        """Read a chain from the descriptor table and at most one indirect table."""
        segments: list[list[Segment]] = [[], []]
        total = 0
        table: bytes | None = None
        count, index, left = self.size, head, self.size
        while True:
            if index >= count:
                raise QueueError(f"names descriptor {index} of a table of {count}")
            if not left:
                raise QueueError(f"has a chain from descriptor {head} that does not end")
            left -= 1
            if table is None:
                entry = self.memory.read(self.descriptors + 16 * index, 16)
                address, size, flags, index = _DESCRIPTOR.unpack(entry)
            else:
                address, size, flags, index = _DESCRIPTOR.unpack_from(table, 16 * index)
            if flags & _INDIRECT:
                if table is not None or not self.indirect or flags & _NEXT:
                    raise QueueError("has an indirect descriptor where none may be")
                table = self._indirect_table(address, size)
                count = left = size >> 4
                index = 0
                continue
            if not size or not self.memory.contains(address, size):
                raise QueueError(f"has a buffer of {size} bytes at {address:#x}, not in RAM")
            total += size
            if flags & _WRITE:
                segments[1].append((address, size))
            elif segments[1]:
                raise QueueError("has a buffer to read behind one to write")
            else:
                segments[0].append((address, size))
            if not flags & _NEXT:
                break
        if total >= _MAX_BYTES:
            raise QueueError(f"has a chain of {total} bytes")
        return Chain(self, head, segments[0], segments[1])

    def _indirect_table(self, address: int, size: int) -> bytes:
        if not 0 < size <= 16 * MAX_CHAIN or size % 16:
            raise QueueError(f"has an indirect table of {size} bytes")
        try:
            return self.memory.read(address, size)
        except MemoryAccessError:
            raise QueueError(f"has an indirect table at {address:#x}, where no RAM is") from None

    def _u16(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 2), "little")


_SAVED = (
    *("size", "ready", "descriptors", "driver", "device"),
    *("indirect", "event_index", "wants_notify", "next", "seen", "used"),
)


def _cut(segments: list[Segment], start: int, size: int) -> list[Segment]:
    """The parts of segments that hold bytes `start` to `start + size` of their run."""
    found = []
    for address, length in segments:
        if start >= length:
            start -= length
            continue
        part = min(length - start, size)
        if not part:
            break
        found.append((address + start, part))
        size -= part
        start = 0
    return found

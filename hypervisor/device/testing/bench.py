"""A bench for device models: a board without a CPU, with a clock moved by hand.

bench = Bench()
uart = Ns16550a("uart0", Ns16550a.Options(), bench)
uart.write(0, 1, ord("A"))
assert bench.console.output == b"A"
"""

from __future__ import annotations

import heapq
import mmap
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from hypervisor.device.board import MemoryAccessError
from hypervisor.device.device_events import Event
from hypervisor.device.line import Line
from hypervisor.device.seat import Seat

T = TypeVar("T")
MOST_EVENTS = 1000


class BenchTimer:
    def __init__(self, clock: BenchClock, name: str, callback: Callable[[], None]) -> None:
        self.name = name
        self.deadline: int | None = None
        self._clock = clock
        self._callback = callback

    def arm(self, deadline: int) -> None:
        self.deadline = max(deadline, self._clock.now())
        self._clock.push(self.deadline, partial(self._fire, self.deadline))

    def cancel(self) -> None:
        self.deadline = None

    def _fire(self, at: int) -> None:
        if self.deadline == at:
            self.deadline = None
            self._callback()


class BenchClock:
    """Virtual time that moves only when told to."""

    epoch = 1_704_067_200_000_000_000

    def __init__(self) -> None:
        self._now = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def now(self) -> int:
        return self._now

    def timer(self, name: str, callback: Callable[[], None]) -> BenchTimer:
        return BenchTimer(self, name, callback)

    def push(self, at: int, call: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, call))

    def restart(self, now: int) -> None:
        """Go to a time and forget what was to fall due."""
        self._now = now
        self._queue.clear()

    def next_deadline(self) -> int | None:
        """When something next falls due, if it is not cancelled until then."""
        return self._queue[0][0] if self._queue else None

    def advance(self, nanoseconds: int) -> None:
        """Let time pass, running what falls due in order."""
        end = self._now + nanoseconds
        while self._queue and self._queue[0][0] <= end:
            at, _, call = heapq.heappop(self._queue)
            self._now = max(self._now, at)
            call()
        self._now = end


class BenchMemory:
    """RAM from `base`, `size` bytes; `shared`: in a file that another process can map."""

    def __init__(self, base: int = 0x8000_0000, size: int = 1 << 20, shared: bool = False) -> None:
        self.base = base
        self.size = size
        self.fd = -1
        self.data: bytearray | mmap.mmap = bytearray(0 if shared else size)
        if shared:
            self.fd = os.memfd_create("bench-ram", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, size)
            self.data = mmap.mmap(self.fd, size)

    def contains(self, address: int, size: int) -> bool:
        return self.base <= address and address + size <= self.base + len(self.data)

    def _offset(self, address: int, size: int) -> int:
        if not self.contains(address, size):
            raise MemoryAccessError(f"{size} bytes at {address:#x} are not RAM")
        return address - self.base

    def read(self, address: int, size: int) -> bytes:
        offset = self._offset(address, size)
        return bytes(self.data[offset : offset + size])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        offset = self._offset(address, len(data))
        self.data[offset : offset + len(data)] = data

    def wrote(self) -> None:
        """Nothing here keeps copies of RAM."""


class BenchChannel:
    """A serial line whose far end is the test."""

    def __init__(self) -> None:
        self.output = b""
        self.waiting = b""
        """Typed, and not yet taken by the device."""
        self._callback: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.output += data

    def read(self, limit: int) -> bytes:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def type(self, data: bytes) -> None:
        """Send to the device, as a terminal would."""
        self.waiting += data
        self._callback()


class BenchHost:
    """Host work, done when its virtual time comes."""

    def __init__(self, clock: BenchClock) -> None:
        self._clock = clock
        self.pending = 0
        """Requests that are not done yet."""

    def submit(
        self, queue: object, work: Callable[[], T], at: int, done: Callable[[T | Exception], None]
    ) -> None:
        def run() -> None:
            try:
                result: T | Exception = work()
            except Exception as error:  # what a backend raises is the device's to report
                result = error
            self.pending -= 1
            done(result)

        self.pending += 1
        self._clock.push(at, run)


class BenchControl:
    def __init__(self) -> None:
        self.requests: list[str] = []

    def request_power_off(self, code: int = 0) -> None:
        self.requests.append(f"power-off {code}")

    def request_reset(self) -> None:
        self.requests.append("reset")


class BenchHart:
    def __init__(self, index: int) -> None:
        self.index = index
        self.lines: dict[int, Line] = {}

    def interrupt(self, number: int) -> Line:
        return self.lines.setdefault(number, Line(f"hart{self.index}.{number}"))


class Bench:
    """A Board (see hypervisor.device.board) for tests."""

    def __init__(self, harts: int = 1, seed: int | None = 1, machine_mode: bool = True) -> None:
        self.clock = BenchClock()
        self.memory = BenchMemory()
        self.host = BenchHost(self.clock)
        self.control = BenchControl()
        self.seat = Seat()
        self.harts = [BenchHart(index) for index in range(harts)]
        self.hart = 0
        """Index of the hart that makes the accesses."""
        self.machine_mode = machine_mode
        self.seed = seed
        self.console = BenchChannel()
        self.offline = False
        self.messages: list[str] = []
        self.posted: list[Callable[[], None]] = []
        self.is_watched = True
        """Whether somebody wants events."""
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        """What devices published, the last of it."""

    def current_hart(self) -> int:
        return self.hart

    def channel(self, spec: str | None) -> BenchChannel:
        return self.console if spec else BenchChannel()

    def frames(self, name: str, receive: Callable[[bytes], None]) -> Callable[[bytes], None]:
        return receive

    def repeating(self) -> bool:
        return False

    def path(self, file: str) -> str:
        return file

    def post(self, callback: Callable[[], None]) -> None:
        self.posted.append(callback)

    def run_posted(self) -> None:
        """Reach a safe point: run what other threads posted."""
        posted, self.posted = self.posted, []
        for callback in posted:
            callback()

    def wants(self, kind: type[Event]) -> bool:
        return self.is_watched

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def log(self, message: str) -> None:
        self.messages.append(message)

    def guest_error(self, message: str) -> None:
        self.messages.append(message)

    def build(self, model: Any, name: str = "dev0", **options: Any) -> Any:
        """A device of class `model` on this bench, reset."""
        device = model(name, model.Options(type=model.type, **options), self)
        device.reset()
        return device

"""What a device is handed: its clock, memory, lines, backends and log. Tests hand it fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hypervisor.device.backends import ByteChannel, HostIO
from hypervisor.device.device_events import Event
from hypervisor.device.line import Line
from hypervisor.device.seat import Seat


class MemoryAccessError(Exception):
    """A device was told to use guest memory that is not there."""


class GuestMemory(Protocol):
    """Guest-physical RAM. Addresses and sizes are bytes; outside RAM raises MemoryAccessError."""

    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, data: bytes | bytearray | memoryview) -> None: ...
    def contains(self, address: int, size: int) -> bool: ...

    base: int
    size: int
    fd: int
    """A file that another process can map, RAM from its start; -1 where there is none."""

    def wrote(self) -> None:
        """RAM was written by other means than `write`: the processors must see it."""


class Timer(Protocol):
    """One pending call at a virtual time."""

    deadline: int | None
    """Virtual time in ns, None when not armed."""

    def arm(self, deadline: int) -> None:
        """Call back at `deadline` (ns); a time that has passed means as soon as possible."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    def now(self) -> int:
        """Virtual time since machine start in ns; what rdtime shows, scaled."""

    def timer(self, name: str, callback: Callable[[], None]) -> Timer: ...

    epoch: int
    """Wall-clock time of virtual time 0, in ns since 1970."""


class Hart(Protocol):
    """A processor as interrupt controllers see it."""

    index: int

    def interrupt(self, number: int) -> Line:
        """The input line for local interrupt `number` (RISC-V: its bit in `mip`; AArch64: 0 is
        IRQ, 1 is FIQ)."""


class Control(Protocol):
    """The machine's power. Requests act at the next safe point."""

    def request_power_off(self, code: int = 0) -> None: ...
    def request_reset(self) -> None: ...


class Board(Protocol):
    """Everything outside one device, as that device may use it."""

    @property
    def clock(self) -> Clock: ...
    @property
    def memory(self) -> GuestMemory: ...
    @property
    def host(self) -> HostIO: ...
    @property
    def control(self) -> Control: ...
    @property
    def harts(self) -> Sequence[Hart]: ...

    @property
    def seat(self) -> Seat: ...

    machine_mode: bool
    """True where firmware runs in machine mode; False: the guest starts in supervisor mode, and
    the machine-mode inputs of interrupt controllers and timers are not the guest's."""
    seed: int | None
    """Seed of the machine's randomness; None: take the host's."""

    def current_hart(self) -> int:
        """The index of the hart whose access is being handled, for registers that each has its
        own copy of. Means nothing outside an access."""

    def channel(self, spec: str | None) -> ByteChannel:
        """The far end of a serial line: "stdio" is the machine's console, "channel:NAME" one of its
        named ends, None goes nowhere."""

    def path(self, file: str) -> str:
        """The host path of a file named in the description."""

    def post(self, callback: Callable[[], None]) -> None:
        """From any thread: run `callback` on the machine's thread at the next safe point."""

    def wants(self, kind: type[Event]) -> bool:
        """Whether anyone watches events of a type: one is built only then."""

    def publish(self, event: Event) -> None:
        """Tell those who watch. Devices use `Device.publish`, which asks `wants` before."""

    offline: bool
    """True where a recorded run is made again: nothing outside may be opened."""

    def frames(self, name: str, receive: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """The way of frames from the world to device `name`, on which they are recorded: what is
        returned is called with each, at a safe point."""

    def repeating(self) -> bool:
        """Whether the machine does again what it did before: what left it once must not leave it
        twice."""

    def log(self, message: str) -> None:
        """Say something once to the machine's user."""

    def guest_error(self, message: str) -> None:
        """The guest did what no driver should: said once; it ends the run of a strict machine."""

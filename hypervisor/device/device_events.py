"""The events that devices publish, and how. (Those of the machine are in `hypervisor/events.py`.)

    @dataclass(frozen=True, slots=True)
    class Blink(DeviceEvent):
        kind = "blink"
        count: int

    self.publish(Blink, self.COUNT)        # in a device

Fields are plain data (integers, text, booleans, bytes), so that any tool can store and show an
event of a type it has never heard of. Nothing is built for what nobody watches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

KINDS: dict[str, type[Event]] = {}
"""Every event type by its kind: what filters, traces and their tables call it."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at a virtual time in ns. A type with a `kind` can be traced."""

    kind: ClassVar[str] = ""
    time: int

    def __init_subclass__(cls, **arguments: Any) -> None:
        # Explicit: `slots=True` makes the class anew, and super() would mean the first one.
        super(Event, cls).__init_subclass__(**arguments)
        if cls.kind:
            KINDS[cls.kind] = cls

    @property
    def subject(self) -> str:
        """What it is about, as filters match it."""
        return ""

    def __str__(self) -> str:
        return f"{self.kind} {described(self, ())}".rstrip()


@dataclass(frozen=True, slots=True)
class DeviceEvent(Event):
    """Something that a device did. Devices derive their own from it."""

    device: str

    @property
    def subject(self) -> str:
        return self.device

    def __str__(self) -> str:
        return f"{self.kind} {self.device} {described(self, ('device',))}".rstrip()


@dataclass(frozen=True, slots=True)
class InterruptAcknowledge(DeviceEvent):
    """A controller handed input `number` to a hart, which will handle it."""

    kind = "ack"
    number: int
    hart: int
    line: str = ""
    """The device that drives the input; the machine fills in what follows."""
    latency: int = -1
    """ns since that device raised its line; -1 where it was not seen to."""
    taken: int = -1
    """ns from the raise until the hart entered its handler; -1 where traps are not traced."""

    @property
    def subject(self) -> str:
        return self.line or self.device

    def __str__(self) -> str:
        name = self.line or "nobody"
        after = f" {self.latency} ns after it was raised" if self.latency >= 0 else ""
        return f"ack {self.device}.{self.number} ({name}) by hart {self.hart}{after}"


@dataclass(frozen=True, slots=True)
class InterruptComplete(DeviceEvent):
    """A hart told its controller that it has handled input `number`."""

    kind = "eoi"
    number: int
    hart: int
    line: str = ""

    @property
    def subject(self) -> str:
        return self.line or self.device

    def __str__(self) -> str:
        return f"eoi {self.device}.{self.number} ({self.line or 'nobody'}) by hart {self.hart}"


@dataclass(frozen=True, slots=True)
class VirtqueueRequest(DeviceEvent):
    """A device took a buffer from a virtqueue."""

    kind = "request"
    queue: str
    head: int
    readable: int
    """Bytes for the device to read."""
    writable: int

    @property
    def subject(self) -> str:
        return f"{self.device}.{self.queue}"

    def __str__(self) -> str:
        sizes = f"{self.readable} bytes in, room for {self.writable}"
        return f"request {self.device}.{self.queue} [{self.head}] {sizes}"


@dataclass(frozen=True, slots=True)
class VirtqueueCompletion(DeviceEvent):
    """A device gave a buffer back."""

    kind = "completion"
    queue: str
    head: int
    written: int

    @property
    def subject(self) -> str:
        return f"{self.device}.{self.queue}"

    def __str__(self) -> str:
        return f"completion {self.device}.{self.queue} [{self.head}] {self.written} bytes written"


@dataclass(frozen=True, slots=True)
class GpuCommand(DeviceEvent):
    """A command of a GPU's queue began or ended."""

    kind = "gpu"
    queue: str
    number: int
    """Of the command in its queue: its beginning and end have the same."""
    command: str
    is_end: bool = False
    detail: str = ""

    @property
    def subject(self) -> str:
        return f"{self.device}.{self.queue}"

    def __str__(self) -> str:
        what = f"{'end' if self.is_end else 'begin'} {self.command} {self.detail}".rstrip()
        return f"gpu {self.device}.{self.queue} #{self.number} {what}"


@dataclass(frozen=True, slots=True)
class GpuFinding(DeviceEvent):
    """A GPU's runtime, one that checks kernels, found a mistake, so many times."""

    kind = "gpu-finding"
    context: int
    kernel: str
    what: str
    example: str
    times: int

    def __str__(self) -> str:
        return f"gpu-finding {self.device}.{self.context} {self.kernel}: {self.what} x {self.times}"


def plain_fields(kind: type[Event]) -> tuple[str, ...]:
    """The names of an event's fields that hold plain data, the time first."""
    return tuple(each.name for each in fields(kind) if not each.metadata.get("live"))


def described(event: Event, known: tuple[str, ...]) -> str:
    """An event's fields but for its time and `known`, as `name=value`s."""
    names = [name for name in plain_fields(type(event)) if name not in ("time", *known)]
    return " ".join(f"{name}={getattr(event, name)}" for name in names)

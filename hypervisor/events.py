"""What can be watched in a machine: typed events, for tools and tests. All types are here; those
that devices publish are made in the kit (`device/device_events.py`).

    machine.events.subscribe(MmioAccess, print, lambda event: event.device == "uart0")

Nothing is paid for what nobody watches. A subscriber that fails is dropped and reported; it
never stops the machine. Watching changes nothing in the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypervisor.device.device_events import (
    KINDS,
    DeviceEvent,
    Event,
    GpuCommand,
    GpuFinding,
    InterruptAcknowledge,
    InterruptComplete,
    VirtqueueCompletion,
    VirtqueueRequest,
    plain_fields,
)
from hypervisor.device.registers import Field

__all__ = [
    "KINDS",
    "DeviceEvent",
    "DmaTransfer",
    "Event",
    "Events",
    "FaultInjected",
    "FirmwareCall",
    "GpuCommand",
    "GpuFinding",
    "InterruptAcknowledge",
    "InterruptChange",
    "InterruptComplete",
    "InterruptTaken",
    "MmioAccess",
    "Reset",
    "Subscription",
    "TimerFired",
    "Trap",
    "VirtqueueCompletion",
    "VirtqueueRequest",
    "plain_fields",
]


@dataclass(frozen=True, slots=True)
class MmioAccess(DeviceEvent):
    """A guest's load from or store to a device."""

    kind = "mmio"
    register: str
    """The register's name; its offset in hex where the table has none."""
    offset: int
    size: int
    value: int
    is_write: bool
    hart: int = 0
    fields: Sequence[Field] = field(
        default=(), compare=False, repr=False, metadata={"live": "the register's table"}
    )

    @property
    def subject(self) -> str:
        return f"{self.device}.{self.register}"

    @property
    def decoded(self) -> str:
        """The fields that are not zero: `THRE TEMT WLS=3`."""
        parts = []
        for each in self.fields:
            value = each.of(self.value)
            if value:
                parts.append(each.name if each.width == 1 else f"{each.name}={value:#x}")
        return " ".join(parts)

    def __str__(self) -> str:
        arrow = "<-" if self.is_write else "->"
        name = f"{self.device}.{self.register}"
        decoded = self.decoded
        said = f" {{{decoded}}}" if decoded else ""
        return f"mmio {name} {arrow} {self.value:#x} ({self.size} bytes){said}"


@dataclass(frozen=True, slots=True)
class InterruptChange(DeviceEvent):
    """A device raised or lowered its interrupt line."""

    kind = "irq"
    level: bool
    input: str = ""
    """The controller's input that the line leads to: CONTROLLER.NUMBER."""

    def __str__(self) -> str:
        return f"irq {self.device} {'raised' if self.level else 'lowered'}"


@dataclass(frozen=True, slots=True)
class InterruptTaken(Event):
    """A hart entered its handler for an interrupt."""

    kind = "taken"
    hart: int
    number: int
    name: str
    pc: int
    """Where it was interrupted (virtual address)."""

    @property
    def subject(self) -> str:
        return f"hart{self.hart}"

    def __str__(self) -> str:
        return f"taken hart {self.hart} {self.name} at {self.pc:#x}"


@dataclass(frozen=True, slots=True)
class Trap(Event):
    """A hart entered its handler for an exception."""

    kind = "trap"
    hart: int
    number: int
    name: str
    pc: int
    value: int
    """What the architecture tells of it: the faulting address, mostly."""

    @property
    def subject(self) -> str:
        return f"hart{self.hart}"

    def __str__(self) -> str:
        return f"trap hart {self.hart} {self.name} at {self.pc:#x} ({self.value:#x})"


@dataclass(frozen=True, slots=True)
class DmaTransfer(DeviceEvent):
    """A device read or wrote guest memory (guest-physical address)."""

    kind = "dma"
    address: int
    size: int
    is_write: bool

    def __str__(self) -> str:
        what = "writes" if self.is_write else "reads"
        return f"dma {self.device} {what} {self.size} bytes at {self.address:#x}"


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """A timer came due and was served."""

    kind = "timer"
    name: str
    deadline: int
    """Virtual time (ns) it was armed for; the time of the event is the safe point after it."""

    @property
    def subject(self) -> str:
        return self.name

    def __str__(self) -> str:
        return f"timer {self.name} due {self.deadline}"


@dataclass(frozen=True, slots=True)
class FirmwareCall(Event):
    """A hart called the built-in firmware."""

    kind = "firmware"
    hart: int
    interface: str
    """`sbi` or `psci`."""
    name: str
    """What was called; an SBI extension."""
    function: int
    """Its number, within the extension."""

    @property
    def subject(self) -> str:
        return f"hart{self.hart}"

    def __str__(self) -> str:
        return f"{self.interface} hart {self.hart} {self.name} {self.function:#x}"


@dataclass(frozen=True, slots=True)
class FaultInjected(DeviceEvent):
    """A fault happened that was asked for."""

    kind = "fault"
    fault: str
    """Which one, such as faults.0."""
    what: str

    def __str__(self) -> str:
        return f"fault {self.fault}: {self.what}"


@dataclass(frozen=True, slots=True)
class Reset(Event):
    """The machine was reset."""

    kind = "power"

    def __str__(self) -> str:
        return "reset"


E = TypeVar("E", bound=Event)


@dataclass(eq=False)
class Subscription:
    """One watcher; `cancel` ends it."""

    events: Events
    kind: type[Event]
    callback: Callable[[Any], None]
    where: Callable[[Any], bool] | None

    def cancel(self) -> None:
        self.events.remove(self)


class Events:
    """Who watches what. `on_change` is told whenever that changes."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._watchers: dict[type[Event], list[Subscription]] = {}
        self.on_change: list[Callable[[], None]] = []
        self.gather: Callable[[], None] | None = None
        """Where native code notes events by itself: publishes those, which happened before any
        that is published now."""

    def subscribe(
        self, kind: type[E], callback: Callable[[E], None], where: Callable[[E], bool] | None = None
    ) -> Subscription:
        """Call `callback` for every event of `kind` for which `where` is true."""
        subscription = Subscription(self, kind, callback, where)
        self._watchers.setdefault(kind, []).append(subscription)
        self._changed()
        return subscription

    def remove(self, subscription: Subscription) -> None:
        watchers = self._watchers.get(subscription.kind, [])
        if subscription in watchers:
            watchers.remove(subscription)
            self._changed()

    def wants(self, kind: type[Event]) -> bool:
        """Whether anyone watches: publishers build an event only then."""
        return bool(self._watchers.get(kind))

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Meanwhile nobody is told of anything."""
        watchers, self._watchers = self._watchers, {}
        self._changed()
        try:
            yield
        finally:
            self._watchers = watchers
            self._changed()

    def publish(self, event: Event) -> None:
        if self.gather is not None:
            self.gather()
        for subscription in list(self._watchers.get(type(event), ())):
            try:
                if subscription.where is None or subscription.where(event):
                    subscription.callback(event)
            except Exception as error:
                self.remove(subscription)
                name = type(event).__name__
                self._report(f"a watcher of {name} failed and was dropped: {error!r}")

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

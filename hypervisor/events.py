"""What can be watched in a machine: typed events, for tools and tests.

    machine.events.subscribe(MmioAccess, print, lambda event: event.device == "uart0")

Nothing is paid for what nobody watches. A subscriber that fails is dropped and reported; it
never stops the machine. Watching changes nothing in the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at a virtual time in ns."""

    time: int


@dataclass(frozen=True, slots=True)
class MmioAccess(Event):
    """A guest's load from or store to a device."""

    device: str
    register: str
    """The register's name; its offset in hex where the table has none."""
    offset: int
    size: int
    value: int
    is_write: bool

    def __str__(self) -> str:
        arrow = "<-" if self.is_write else "->"
        return f"mmio {self.device}.{self.register} {arrow} {self.value:#x} ({self.size} bytes)"


@dataclass(frozen=True, slots=True)
class InterruptChange(Event):
    """A device raised or lowered its interrupt line."""

    device: str
    level: bool

    def __str__(self) -> str:
        return f"irq {self.device} {'raised' if self.level else 'lowered'}"


@dataclass(frozen=True, slots=True)
class FirmwareCall(Event):
    """A hart called the built-in firmware."""

    hart: int
    extension: int
    function: int

    def __str__(self) -> str:
        return f"sbi hart {self.hart} extension {self.extension:#x} function {self.function}"


@dataclass(frozen=True, slots=True)
class FaultInjected(Event):
    """A fault happened that was asked for."""

    device: str
    fault: str
    """Which one, such as faults.0."""
    what: str

    def __str__(self) -> str:
        return f"fault {self.fault}: {self.what}"


@dataclass(frozen=True, slots=True)
class Reset(Event):
    """The machine was reset."""

    def __str__(self) -> str:
        return "reset"


KINDS: dict[str, type[Event]] = {
    "mmio": MmioAccess,
    "irq": InterruptChange,
    "firmware": FirmwareCall,
    "power": Reset,
    "fault": FaultInjected,
}
"""Names of the event types, as the command line takes them."""

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

    def publish(self, event: Event) -> None:
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

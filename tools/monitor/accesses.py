"""The last access to every register, noted while a monitor is attached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypervisor.events import MmioAccess, Subscription

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class Accesses:
    """Notes accesses while somebody is `attached`; what was noted is kept."""

    def __init__(self, machine: Machine) -> None:
        self._last: dict[tuple[str, str], MmioAccess] = {}
        self._machine = machine
        self._attached = 0
        self._subscription: Subscription | None = None

    def attach(self) -> None:
        self._attached += 1
        if self._subscription is None:
            self._subscription = self._machine.events.subscribe(MmioAccess, self._note)

    def detach(self) -> None:
        """Somebody has gone: nothing is noted, and nothing paid, for nobody."""
        self._attached -= 1
        if not self._attached and self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None

    def last(self, device: str, register: str) -> dict[str, Any] | None:
        """The last access to a register: time (ns), value, size, whether it was a store, hart."""
        event = self._last.get((device, register))
        if event is None:
            return None
        return {
            "time": event.time,
            "value": event.value,
            "size": event.size,
            "write": event.is_write,
            "hart": event.hart,
        }

    def _note(self, event: MmioAccess) -> None:
        if not event.register.startswith("0x"):  # what has no name is shown nowhere
            self._last[event.device, event.register] = event

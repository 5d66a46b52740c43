"""The last access to every register, noted while a monitor is attached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypervisor.events import MmioAccess

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class Accesses:
    """Notes accesses from now until `close`."""

    def __init__(self, machine: Machine) -> None:
        self._last: dict[tuple[str, str], MmioAccess] = {}
        self._subscription = machine.events.subscribe(MmioAccess, self._note)

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

    def close(self) -> None:
        self._subscription.cancel()

    def _note(self, event: MmioAccess) -> None:
        if not event.register.startswith("0x"):  # what has no name is shown nowhere
            self._last[event.device, event.register] = event

"""What the machine hands to its devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hypervisor.console import Console, NullChannel
from hypervisor.device import ByteChannel

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class MachineBoard:
    """What the machine hands to one device (hypervisor.device.Board)."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self.clock = machine.clock
        self.memory = machine.observer.memory_for(name)
        self.host = machine.host
        self.control = machine.power
        self.seat = machine.seat
        self.harts: Sequence[Any] = machine.cpu
        self.seed = machine.description.seed
        self.machine_mode = machine.description.machine_mode
        self.post = machine.inbox.post
        self.offline = machine.is_offline
        self.log = machine.log
        self.wants = machine.events.wants
        self.publish = machine.observer.publish
        self.guest_error = machine.guest_error

    def current_hart(self) -> int:
        return self._machine.turns.index

    def channel(self, spec: str | None) -> ByteChannel:
        """The host's end of a serial line: the console, nowhere, or one of `channels`."""
        machine = self._machine
        if spec in ("stdio", "console"):
            return machine.console
        if spec in (None, "none"):
            return NullChannel()
        name = spec.removeprefix("channel:")
        if name not in machine.channels:
            channel = machine.channels[name] = Console(machine.kick)
            channel.enter = machine.inputs.connect("channel", name, channel.take)
        return machine.channels[name]

    def frames(self, name: str, receive: Callable[[bytes], None]) -> Callable[[bytes], None]:
        return self._machine.inputs.connect("frame", name, receive)

    def repeating(self) -> bool:
        return self._machine.inputs.is_replaying

    def path(self, file: str) -> str:
        return self._machine.resolve_file(file)

"""Power off and reset: what the guest asks for, and the buttons that its user has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.events import Reset

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class Power:
    """A machine's. Requests of the guest are taken at the next safe point; buttons are inputs from
    outside, which are recorded and replayed like keys."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.off: int | None = None
        """The code that the guest has powered off with."""
        self.reset = False
        """The guest wants a reset."""
        self._press_power = machine.inputs.connect("power", "button", self._pressed)
        self._press_reset = machine.inputs.connect("power", "reset", lambda _: self.restart())

    def request_power_off(self, code: int = 0) -> None:
        self.off = code
        self._machine.kick()

    def request_reset(self) -> None:
        self.reset = True
        self._machine.kick()

    def press_power(self) -> None:
        """LookupError: the machine has no power button."""
        if not any(device.has_power_button for device in self._machine.devices.values()):
            raise LookupError("the machine has no power button; a device of type arm.pl061 has one")
        self._press_power(b"")

    def press_reset(self) -> None:
        """Every machine has that: the guest is not asked."""
        self._press_reset(b"")

    def restart(self) -> None:
        """Reset a machine that has run: counted, and told to who watches."""
        machine = self._machine
        machine.resets += 1
        machine.events.publish(Reset(machine.clock.now()))
        machine.reset()

    def _pressed(self, _: bytes) -> None:
        for device in self._machine.devices.values():
            if device.has_power_button:
                device.press_power_button()
                return

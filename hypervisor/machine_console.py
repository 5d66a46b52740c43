"""The machine's console: the guest's serial line with the run loop behind `expect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.console import Console
from hypervisor.outcome import GuestFailure

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class MachineConsole(Console):
    """The console with the machine's run loop behind `expect`."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.kick)
        self._machine = machine

    def expect(self, text: str | bytes, timeout: float | None = 120) -> str:
        """Run the machine until `text` is printed; what was printed up to it.

        Raises GuestFailure when the guest ends or `timeout` host seconds pass before.
        """
        start_at = self.consumed
        outcome = self._machine.run(until=text, timeout=timeout)
        if outcome.kind != "until":
            self.drop_script()
            raise GuestFailure(outcome)
        return self.consumed_since(start_at).decode(errors="replace")

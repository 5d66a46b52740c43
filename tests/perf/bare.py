"""The machine without its tools: the run loop with nothing in it that a debugger, a trace, a
recording or a history needs. What the tools cost while none is attached is measured against it.
"""

from __future__ import annotations

import time

from hypervisor.config import Description
from hypervisor.cpu.cells import Reason
from hypervisor.cpu.hart import Hart
from hypervisor.machine import Machine
from hypervisor.outcome import Outcome
from hypervisor.run_loop import BREATH_UNITS, HELD_UNITS, RunLoop
from hypervisor.time.clock import to_units
from hypervisor.watchdog import Watchdog


class BareMachine(Machine):
    """Runs a guest to its end, and can do no more."""

    def __init__(self, description: Description) -> None:
        super().__init__(description)
        self.loop = BareLoop(self)


class BareLoop(RunLoop):
    def _run(self, until: str | bytes | None, timeout: float | None) -> Outcome:
        machine = self._machine
        for each in machine.cpu:
            each.notice_host_writes()
        watchdog = Watchdog(timeout, machine.kick)
        machine.pacer.begin()
        outcome = None
        try:
            with self._ctrl_c:
                while outcome is None:
                    outcome = self._safe_point()
                    if outcome is None and watchdog.expired:
                        outcome = machine.endings.timed_out(timeout)
                    if outcome is not None:
                        break
                    hart = machine.turns.next()
                    if hart is None:
                        self._idle()
                    else:
                        self._run_hart(hart)
        finally:
            watchdog.stop()
        return outcome

    def _safe_point(self) -> Outcome | None:
        machine = self._machine
        if machine.bus.failure is not None:
            failure, machine.bus.failure = machine.bus.failure, None
            raise failure
        if self._ctrl_c.pressed:
            raise KeyboardInterrupt
        if machine.inbox:
            machine.inbox.drain()
        machine.pacer.hold()
        machine.clock.run_due()
        outcome = machine.endings.take()
        if outcome is not None:
            return outcome
        if machine.console.run_script():
            return Outcome("until", "the awaited text was printed")
        if machine.power.off is not None:
            return machine.endings.powered_off(machine.power.off)
        if machine.power.reset:
            machine.power.restart()
        return None

    def _run_hart(self, hart: Hart) -> None:
        machine = self._machine
        cell = machine.clock.cell
        due = machine.clock.next_deadline()
        deadline = cell.units + (HELD_UNITS if machine.pacer.holds_busy_time else BREATH_UNITS)
        if due is not None:
            deadline = min(deadline, to_units(due))
        if machine.turns.slice_end is not None:
            deadline = min(deadline, machine.turns.slice_end)
        cell.deadline = deadline
        if machine.inbox:
            return
        if self.first_instruction_at is None:
            self.first_instruction_at = time.time()
        self.is_executing = True
        try:
            reason = hart.run()
        finally:
            self.is_executing = False
        if reason == Reason.NONE:
            machine.turns.give_way()
        elif reason == Reason.FIRMWARE_CALL:
            machine.firmware.call(hart)
        elif reason == Reason.DOUBLE_FAULT:
            machine.endings.no_handler(hart)

    def _idle(self) -> None:
        machine = self._machine
        due = machine.clock.next_deadline()
        if due is None and not machine.live:
            if not machine.inbox:
                machine.endings.hang()
            return
        machine.pacer.idle(due, modelled=due == machine.host.next_completion)

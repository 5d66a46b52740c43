"""The machine without its tools: the run loop with nothing in it that a debugger, a trace, a
recording or a history needs. What the tools cost while none is attached is measured against it.
"""

from __future__ import annotations

import time

from hypervisor.cpu.cells import Reason
from hypervisor.cpu.hart import Hart
from hypervisor.machine import BREATH_UNITS, HELD_UNITS, Machine
from hypervisor.outcome import Outcome
from hypervisor.time.clock import to_units
from hypervisor.watchdog import Watchdog


class BareMachine(Machine):
    """Runs a guest to its end, and can do no more."""

    def _run(self, until: str | bytes | None, timeout: float | None) -> Outcome:
        for each in self.cpu:
            each.notice_host_writes()
        watchdog = Watchdog(timeout, self.kick)
        self.pacer.begin()
        outcome = None
        try:
            with self._ctrl_c:
                while outcome is None:
                    outcome = self._safe_point()
                    if outcome is None and watchdog.expired:
                        outcome = self.endings.timed_out(timeout)
                    if outcome is not None:
                        break
                    hart = self.turns.next()
                    if hart is None:
                        self._idle()
                    else:
                        self._run_hart(hart)
        finally:
            watchdog.stop()
        return outcome

    def _safe_point(self) -> Outcome | None:
        if self.bus.failure is not None:
            failure, self.bus.failure = self.bus.failure, None
            raise failure
        if self._ctrl_c.pressed:
            raise KeyboardInterrupt
        if self.inbox:
            self.inbox.drain()
        self.pacer.hold()
        self.clock.run_due()
        outcome = self.endings.take()
        if outcome is not None:
            return outcome
        if self.console.run_script():
            return Outcome("until", "the awaited text was printed")
        if self.power.off is not None:
            return self.endings.powered_off(self.power.off)
        if self.power.reset:
            self.power.restart()
        return None

    def _run_hart(self, hart: Hart) -> None:
        cell = self.clock.cell
        due = self.clock.next_deadline()
        deadline = cell.units + (HELD_UNITS if self.pacer.holds_busy_time else BREATH_UNITS)
        if due is not None:
            deadline = min(deadline, to_units(due))
        if self.turns.slice_end is not None:
            deadline = min(deadline, self.turns.slice_end)
        cell.deadline = deadline
        if self.inbox:
            return
        if self.first_instruction_at is None:
            self.first_instruction_at = time.time()
        self.is_executing = True
        try:
            reason = hart.run()
        finally:
            self.is_executing = False
        if reason == Reason.NONE:
            self.turns.give_way()
        elif reason == Reason.FIRMWARE_CALL:
            self.firmware.call(hart)
        elif reason == Reason.DOUBLE_FAULT:
            self.endings.no_handler(hart)

    def _idle(self) -> None:
        due = self.clock.next_deadline()
        if due is None and not self.live:
            if not self.inbox:
                self.endings.hang()
            return
        self.pacer.idle(due, modelled=due == self.host.next_completion)

"""The run loop: safe points and stretches of guest code by turns, until something ends the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.console import Step
from hypervisor.cpu.cells import NEVER, Reason
from hypervisor.cpu.hart import Hart
from hypervisor.ctrl_c import DeferredCtrlC
from hypervisor.outcome import Outcome
from hypervisor.time.clock import to_units
from hypervisor.watchdog import Watchdog

if TYPE_CHECKING:
    from hypervisor.machine import Machine

BREATH_UNITS = 50_000_000 * 32 // 25
"""How long a hart runs at most before Python sees signals again: 50 ms."""

HELD_UNITS = 1_000_000 * 32 // 25
"""The same where busy time is held to the wall: 1 ms."""


class RunLoop:
    """A machine's. What `Machine` says of its runs holds here."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.is_executing = False
        """A hart executes: what comes in waits for a safe point."""
        self.first_instruction_at: float | None = None
        """By the host's clock, in seconds."""
        self.look_at: int | None = None
        """The clock, in units, from which on `on_look` is called at a safe point, soon."""
        self.on_look: Callable[[], None] = lambda: None
        self._ctrl_c = DeferredCtrlC(machine.kick)
        self._stop_at: int | None = None
        self._stepping: Hart | None = None

    # -- what a run is to come to -----------------------------------------------------------------

    def run(self, until: str | bytes | None, timeout: float | None) -> Outcome:
        self._let_run()
        return self._run(until, timeout)

    def step(self, hart: int, inside: tuple[int, int], timeout: float | None) -> Outcome:
        harts = self._machine.cpu
        self._stepping = harts[hart]
        for each in harts:
            if each is not self._stepping:
                each.stops.let_run()
        self._stepping.stops.watch_instructions(inside)
        return self._run(None, timeout)

    def run_to(self, units: int, timeout: float | None) -> Outcome:
        self._let_run()
        self._stop_at = units
        try:
            return self._run(None, timeout)
        finally:
            self._stop_at = None

    def run_until(self, hart: int, executed: int, units: int | None) -> Outcome:
        self._stepping = None
        machine = self._machine
        for each in machine.cpu:
            if each.index != hart:
                each.stops.let_run()
        # One that has its turn later stops before the first instruction of that.
        goes_on = machine.turns.index == hart and not machine.turns.is_over
        machine.cpu[hart].stops.watch_instructions((0, NEVER), executed, resume=goes_on)
        self._stop_at = units
        try:
            return self._run(None, None)
        finally:
            self._stop_at = None

    def _let_run(self) -> None:
        """No step is wanted any more."""
        self._stepping = None
        for hart in self._machine.cpu:
            hart.stops.let_run()

    # -- the loop ---------------------------------------------------------------------------------

    def _run(self, until: str | bytes | None, timeout: float | None) -> Outcome:
        machine = self._machine
        step = None
        if until is not None:
            step = Step("until", until.encode() if isinstance(until, str) else until)
            machine.console.script([step])
        for each in machine.cpu:
            each.notice_host_writes()
        watchdog = Watchdog(timeout, machine.kick)
        machine.pacer.begin()
        try:
            with self._ctrl_c:
                outcome = self._leave_straight_line()
                while outcome is None:
                    outcome = self._safe_point()
                    if outcome is None and watchdog.expired:
                        outcome = machine.endings.timed_out(timeout)
                    # A step that is done is not begun again by who asked for a pause.
                    goes_on = outcome is None or outcome.kind == "paused"
                    if goes_on and (transfer := machine.breakpoints.take_transfer()) is not None:
                        outcome = Outcome("watchpoint", str(transfer), stop=transfer)
                        goes_on = False
                    if goes_on and self._stepping and self._stepping.stops.has_stepped():
                        outcome = self._stopped(self._stepping, Reason.STEP)
                    if outcome is None and self._has_arrived():
                        outcome = Outcome("reached", "the run came to where it was to stop")
                    if outcome is not None:
                        break
                    if machine.history is not None:
                        machine.history.glance()
                    hart = machine.turns.next()
                    if hart is None:
                        self._idle()
                    elif machine.inputs.is_behind:
                        outcome = self._creep(hart)
                    else:
                        outcome = self._run_hart(hart)
                return outcome
        finally:
            watchdog.stop()
            if step is not None:  # a text that was not printed is not awaited by the next run
                machine.console.withdraw(step)

    def _safe_point(self) -> Outcome | None:
        """Everything that may act between two stretches of guest code."""
        machine = self._machine
        if machine.bus.failure is not None:
            failure, machine.bus.failure = machine.bus.failure, None
            raise failure
        if self._ctrl_c.pressed:
            raise KeyboardInterrupt
        inputs = machine.inputs
        looked = self.look_at is not None and not inputs.is_replaying
        if looked and machine.clock.cell.units >= (self.look_at or 0):
            self.on_look()
        inputs.before_timers()
        if machine.inbox:
            machine.inbox.drain()
        if not inputs.is_replaying:
            machine.pacer.hold()
        machine.clock.run_due()
        inputs.after_timers()
        outcome = machine.endings.take()
        if outcome is not None:
            return outcome
        if machine.console.run_script():
            return Outcome("until", "the awaited text was printed")
        if machine.power.off is not None:
            return machine.endings.powered_off(machine.power.off)
        if machine.power.reset:
            machine.power.restart()
        return inputs.outcome

    def _has_arrived(self) -> bool:
        return self._stop_at is not None and self._machine.clock.cell.units >= self._stop_at

    def _leave_straight_line(self) -> Outcome | None:
        """Where a debugger stopped within straight-line code, nothing may act before its end."""
        turns = self._machine.turns
        hart = turns.present
        if not hart.is_midway or turns.only not in (None, hart):
            return None
        self._machine.clock.cell.deadline = 0
        return self._execute(hart)

    def _creep(self, hart: Hart) -> Outcome | None:
        """Over one instruction, to another safe point of the same time: behind a trap."""
        hart.stops.watch_instructions()
        self._machine.clock.cell.deadline = NEVER
        outcome = self._execute(hart)
        hart.stops.let_run()
        hart.cell.previous_end = NEVER
        return None if outcome is not None and outcome.kind == "step" else outcome

    def _run_hart(self, hart: Hart) -> Outcome | None:
        machine = self._machine
        cell = machine.clock.cell
        due = machine.clock.next_deadline()
        deadline = cell.units + (HELD_UNITS if machine.pacer.holds_busy_time else BREATH_UNITS)
        if due is not None:
            deadline = min(deadline, to_units(due))
        if machine.turns.slice_end is not None:
            deadline = min(deadline, machine.turns.slice_end)
        if machine.sampler is not None:
            deadline = min(deadline, machine.sampler.due + cell.idle)
        bound = self._bound()
        if bound is not None:
            deadline = min(deadline, bound)
        cell.deadline = deadline
        if machine.inbox:  # posted before the deadline was set: its kick would be lost
            return None
        return self._execute(hart)

    def _execute(self, hart: Hart) -> Outcome | None:
        """Run a hart until its deadline, and see to what ended it."""
        machine = self._machine
        if self.first_instruction_at is None:
            self.first_instruction_at = time.time()
        self.is_executing = True
        try:
            reason = hart.run()
        finally:
            self.is_executing = False
        if machine.events.gather is not None:
            machine.events.gather()
        if machine.sampler is not None:
            machine.sampler.ran(hart)
        if reason == Reason.NONE:
            # A hart that waits may find an interrupt that it masks, and would spin.
            machine.turns.give_way()
        elif reason == Reason.FIRMWARE_CALL:
            machine.observer.firmware_call(hart)
            machine.firmware.call(hart)
        elif reason == Reason.DOUBLE_FAULT:
            machine.endings.no_handler(hart)
        elif reason >= Reason.BREAKPOINT:
            return self._stopped(hart, reason)
        return None

    def _stopped(self, hart: Hart, reason: int) -> Outcome:
        """For a debugger."""
        breakpoints = self._machine.breakpoints
        if reason == Reason.STEP and (transfer := breakpoints.take_transfer()) is not None:
            return Outcome("watchpoint", str(transfer), stop=transfer)
        stop = breakpoints.stop_of(hart, reason)
        kind = ("breakpoint", "step", "watchpoint")[reason - Reason.BREAKPOINT]
        return Outcome(kind, str(stop), stop=stop)

    def _bound(self) -> int | None:
        """Where a safe point is wanted, in units; None where everywhere will do."""
        inputs = self._machine.inputs
        if self._stop_at is None and self.look_at is None and not inputs.is_replaying:
            return None
        bounds = (self._stop_at, self.look_at, inputs.next_at)
        return min((bound for bound in bounds if bound is not None), default=None)

    def _idle(self) -> None:
        """All harts wait."""
        machine = self._machine
        due = machine.clock.next_deadline()
        if machine.inputs.is_replaying:  # time passed as it did, however long that took
            units = None if due is None else to_units(due)
            bounds = (self._stop_at, machine.inputs.next_at, units)
            known = [bound for bound in bounds if bound is not None]
            if known:
                machine.clock.pass_idle_to(min(known))
                return
        if due is None and not machine.live:
            if not machine.inbox:
                machine.endings.hang()
            return
        machine.pacer.idle(due, modelled=due == machine.host.next_completion)

"""Time travel: states of a running machine kept on the way, and the way back to any moment.

    machine.history = History(machine)
    ...
    machine.history.step_back(hart)         # the instruction before
    machine.history.run_back()              # the breakpoint or watchpoint met last
    machine.history.rewind(5_000_000)       # 5 ms

A moment is reached from the nearest state before it, by doing again what was done: the same inputs
come in at the same moments. From there the machine goes on as it did, up to the present, where it
is live again. Who types before that makes another future: the old one is forgotten. Frames that
arrive meanwhile are lost, and nothing is sent or shown twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypervisor.cpu.cells import NEVER
from hypervisor.kept_states import HistoryError, KeptStates
from hypervisor.outcome import Outcome
from hypervisor.stops import Stop
from hypervisor.time.clock import to_nanoseconds, to_units

if TYPE_CHECKING:
    from hypervisor.console import Step
    from hypervisor.machine import Machine

__all__ = ["History", "HistoryError", "Moment", "why_not"]

STORE = 1 << 30
"""Bytes of pages kept at most."""
_MARGIN = 1 << 14
"""Units before a moment from where every instruction is looked at."""
_FURTHER = 16
_NEARBY = 1 << 20
"""Units that are run again in no time: under a millisecond of the guest's."""
_TRAPS_IN_A_ROW = 64
"""Instructions that retire nothing one after another: each is a trap."""


def why_not(machine: Machine) -> str:
    """A sentence that says why `machine` cannot be taken back; "" where it can."""
    for name, device in machine.devices.items():
        if device.writes_in_place:
            return (
                f"the machine cannot be taken back, as {name} writes to {device.writes_in_place}: "
                "with `overlay: discard`, or when a recording is replayed, it can"
            )
    return ""


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in a run, between two instructions."""

    units: int
    hart: int
    """Whose turn it is."""
    executed: int
    """Bytes that hart has retired."""
    pc: int
    is_midway: bool
    """Within straight-line code: no run stops there by itself."""

    @property
    def time(self) -> int:
        """Virtual time in ns."""
        return to_nanoseconds(self.units)


class History:
    """The past of `machine`, from now on. Used on its thread, between two runs."""

    def __init__(self, machine: Machine, store: int = STORE) -> None:
        """HistoryError where the guest changes files of the host, as no rewinding undoes that."""
        if reason := why_not(machine):
            raise HistoryError(reason)
        self._machine = machine
        self._present: Moment | None = None
        """Where the machine was taken back from; None: it is there."""
        self._scripts: list[tuple[list[Step], int]] = []
        self._stop_after = False
        machine.inputs.keeps_log = True
        self._recorded = machine.inputs.is_replaying
        """The future is known from a recording: nothing makes another."""
        if not self._recorded:
            machine.inputs.on_outside = self._outside
        machine.inputs.on_present = self._arrive
        self._kept = KeptStates(machine, store, is_recorded=self._recorded)
        self._kept.keep()

    def close(self) -> None:
        """Forget everything. A machine in the past goes on from there."""
        inputs = self._machine.inputs
        self._machine.history = None
        if not self._recorded:
            inputs.go_live()
            inputs.on_outside = None
        inputs.on_present = lambda: None
        self._come_to_present()
        inputs.keeps_log = False
        if not self._recorded:
            inputs.trim(inputs.position)
        self._kept.close()

    # -- looking --------------------------------------------------------------------------------

    @property
    def here(self) -> Moment:
        machine = self._machine
        hart = machine.turns.present
        units = machine.clock.cell.units
        return Moment(units, hart.index, hart.executed, hart.pc, hart.is_midway)

    @property
    def beginning(self) -> int:
        """Virtual time (ns) of the earliest moment that can be gone back to."""
        return to_nanoseconds(self._kept.first.units)

    @property
    def is_past(self) -> bool:
        """The machine is where it was before."""
        return self._present is not None

    @property
    def states(self) -> int:
        """How many are kept."""
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of memory that they take."""
        return self._kept.size

    # -- on the way -----------------------------------------------------------------------------

    def glance(self) -> None:
        """At a safe point of a run: keep a state now and then."""
        self._kept.glance()

    def changed(self) -> None:
        """A debugger has changed the machine: what was before cannot lead here."""
        self._machine.inputs.go_live()
        self._come_to_present()
        self._kept.start_anew()

    # -- going back -----------------------------------------------------------------------------

    def rewind(self, nanoseconds: int) -> Outcome:
        """Go back so much virtual time, to the first safe point from there on."""
        return self.go_to_time(max(0, self.here.time - nanoseconds))

    def go_to_time(self, nanoseconds: int) -> Outcome:
        """The same, by virtual time."""
        units = min(to_units(nanoseconds), self.here.units)
        with self._travel(), self._machine.breakpoints.lifted():
            if units < self._kept.first.units:
                raise HistoryError(f"the history begins at {self.beginning / 1e9:.6f} s")
            self._kept.restore(self._kept.nearest(units))
            self._do(self._machine.run_to, units)
        return self._outcome(self._machine.turns.index)

    def step_back(self, hart: int | None = None) -> Outcome:
        """To before the instruction that `hart` executed last: outcome `step`. Where the history
        begins the machine stops there: outcome `beginning`."""
        now = self.here
        hart = self._machine.turns.index if hart is None else hart
        with self._travel(), self._machine.breakpoints.lifted():
            before = self._instruction_before(now, hart)
            if before is None:
                self._kept.restore(self._kept.first)
                return Outcome("beginning", "the history begins here")
            self._go_to(before)
        return self._outcome(hart)

    def run_back(self, *, behind: bool = False) -> Outcome:
        """To the breakpoint or watchpoint that was met last before this moment: its outcome. With
        `behind`, to after a watched access, as it is the next to be undone. Where nothing was met,
        to where the history begins: outcome `beginning`."""
        now = self.here
        with self._travel():
            found = self._last_stop(now)
            with self._machine.breakpoints.lifted():
                if found is None:
                    self._kept.restore(self._kept.first)
                    return Outcome("beginning", "the history begins here")
                moment, outcome = found
                self._go_to(moment)
                stop = outcome.stop
                if behind and stop and stop.watchpoint and not stop.device:
                    self._do(self._machine.step, moment.hart)
                    if self._machine.clock.cell.units >= now.units:
                        self._go_to(now)
        return outcome

    def to_last_write(self, address: int, size: int = 8, *, hart: int | None = None) -> Outcome:
        """To before the store that wrote there last (guest-physical, or as `hart` sees it): outcome
        `watchpoint`, which says what is stored. If it was a device that wrote, to right behind
        that. Raises HistoryError when nobody did."""
        now = self.here
        points = self._machine.breakpoints
        with self._travel(), points.lifted():
            point = points.watch(address, size, "write", hart=hart)
            try:
                found = self._last_stop(now)
            finally:
                points.remove(point)
            if found is None:
                self._go_to(now)
                begin = self.beginning / 1e9
                raise HistoryError(f"nobody wrote to {address:#x} since {begin:.6f} s")
            moment, outcome = found
            self._go_to(moment)
        return outcome

    # -- how ------------------------------------------------------------------------------------

    @contextmanager
    def _travel(self) -> Iterator[None]:
        """Run without being seen or heard. A moment in the past is left as such."""
        machine = self._machine
        consoles = [machine.console, *machine.channels.values()]
        if self._present is None:
            self._present = self.here
            self._scripts = [console.put_script_by() for console in consoles]
        for console in consoles:
            console.quiet_until = max(console.quiet_until, console.written)
        sampler, machine.sampler = machine.sampler, None
        on_message, machine.on_message = machine.on_message, None
        said = len(machine.messages)
        self._stop_after = False
        machine.inputs.present_at = None  # runs on the way may go beyond it
        try:
            with machine.events.silenced():
                yield
        finally:
            machine.sampler = sampler
            machine.on_message = on_message
            del machine.messages[said:]
            if not machine.inputs.is_replaying:  # it could not leave
                self._come_to_present()
            elif not self._recorded:
                machine.inputs.present_at = self._present.units
            if self._stop_after:
                machine.stop()

    def _do(self, run: Callable[..., Outcome], *arguments: int) -> Outcome:
        """Have the machine run, whoever wants it to stop meanwhile."""
        while True:
            outcome = run(*arguments)
            if outcome.kind == "stopped":
                self._stop_after = True
            elif outcome.kind not in ("paused", "timeout"):
                return outcome

    def _go_to(self, moment: Moment) -> None:
        if moment.units < self._kept.first.units:
            raise HistoryError(f"the history begins at {self.beginning / 1e9:.6f} s")
        machine = self._machine
        hart = machine.cpu[moment.hart]
        margin = _MARGIN if moment.is_midway else 0
        while True:
            self._approach(moment.units - margin)
            for _ in range(_TRAPS_IN_A_ROW):
                if self._is_at(moment):
                    return
                if machine.clock.cell.units > moment.units or hart.executed > moment.executed:
                    break
                self._do(machine.run_until, moment.hart, moment.executed)
            if moment.units - margin <= self._kept.first.units:
                raise HistoryError(f"the moment at {moment.time / 1e9:.6f} s was not found again")
            margin = margin * _FURTHER or _MARGIN

    def _approach(self, units: int) -> None:
        """Restore the nearest state, and run to the last safe point that is known before there."""
        state = self._kept.nearest(units)
        self._kept.restore(state)
        if units > state.units:
            self._do(self._machine.run_to, units)

    def _is_at(self, moment: Moment) -> bool:
        machine = self._machine
        hart = machine.cpu[moment.hart]
        here = (machine.clock.cell.units, machine.turns.index, hart.executed, hart.pc)
        return here == (moment.units, moment.hart, moment.executed, moment.pc)

    def _instruction_before(self, now: Moment, hart: int) -> Moment | None:
        """Where `hart` was before the last instruction that it began."""
        machine = self._machine
        one = machine.cpu[hart]
        executed, pc = one.executed, one.pc
        margin = _MARGIN
        while True:
            start = max(now.units - margin, self._kept.first.units)
            self._approach_in_stages(start)
            if machine.clock.cell.units > now.units and start > self._kept.first.units:
                margin *= _FURTHER
                continue
            last: Moment | None = None
            for _ in range(_TRAPS_IN_A_ROW):
                outcome = self._do(machine.run_until, hart, executed, now.units)
                cell = one.cell
                if cell.last_pc != NEVER and (cell.last_pc, cell.last_at) != (pc, executed):
                    last = Moment(cell.last_units, hart, cell.last_at, cell.last_pc, True)
                if one.executed != executed or one.pc == pc or one.waiting:
                    break
                if outcome.kind == "reached":  # it was interrupted here
                    last = self.here if machine.clock.cell.units == now.units else last
                    break
                last = Moment(machine.clock.cell.units, hart, one.executed, one.pc, True)
            if last is not None:
                return last
            if start <= self._kept.first.units:
                return None
            margin *= _FURTHER

    def _approach_in_stages(self, units: int) -> None:
        """The same, with a state kept a little before there: who steps back once does so again."""
        near = units - _NEARBY
        if near > self._kept.nearest(units).units:
            self._approach(near)
            if self._machine.clock.cell.units < units:
                self._kept.keep()
        self._approach(units)

    def _last_stop(self, now: Moment) -> tuple[Moment, Outcome] | None:
        """The last stop at a breakpoint or watchpoint before `now`."""
        machine = self._machine
        end = now.units
        for state in reversed([each for each in self._kept if each.units <= now.units]):
            if state not in self._kept:  # dropped for one that the runs below kept
                continue
            self._kept.restore(state)
            found: tuple[Moment, Outcome] | None = None
            while True:
                outcome = self._do(machine.run_to, end)
                here = self.here
                if outcome.stop is None or here.units > end or here == now:
                    break
                found = here, outcome
            if found is not None:
                return self._place_of_transfer(*found)
            end = state.units
        return None

    def _place_of_transfer(self, moment: Moment, outcome: Outcome) -> tuple[Moment, Outcome]:
        """Where a device's write is what the last instruction did: the run found it at the safe
        point after that."""
        if outcome.stop is None or not outcome.stop.device:
            return moment, outcome
        machine, found = self._machine, (moment, outcome)
        self._approach(max(moment.units - _MARGIN, self._kept.first.units))
        while machine.clock.cell.units <= moment.units and self.here != moment:
            stepped = self._do(machine.step, moment.hart)
            same = stepped.stop is not None and stepped.stop.device == outcome.stop.device
            if same and self.here.units <= moment.units:
                found = self.here, stepped
        return found

    # -- the present ----------------------------------------------------------------------------

    def _outside(self, kind: str) -> bool:
        """Something comes from outside while the machine is in the past."""
        if kind == "frame":
            return False
        self._machine.inputs.go_live()
        self._arrive()
        self._kept.drop_after(self._machine.clock.cell.units)
        return True

    def _arrive(self) -> None:
        """The machine is where it was taken back from, or has another future."""
        self._come_to_present()

    def _come_to_present(self) -> None:
        machine = self._machine
        self._present = None
        scripts, self._scripts = self._scripts, []
        consoles = [machine.console, *machine.channels.values()]
        for console, script in zip(consoles, scripts, strict=False):
            console.take_script_up(script)
            console.quiet_until = 0

    def _outcome(self, hart: int) -> Outcome:
        pc = self._machine.cpu[hart].pc
        return Outcome("step", f"hart {hart} is at {pc:#x}", stop=Stop(hart, pc))

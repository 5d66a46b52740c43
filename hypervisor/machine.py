"""The machine: builds everything from a description, owns it, and runs it on one thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from hypervisor import state
from hypervisor.arch import architecture
from hypervisor.boot.loadable import Loadable
from hypervisor.boot.start import start
from hypervisor.bus import Bus
from hypervisor.config import Description, check_catalogue, load_description
from hypervisor.console import Console, Step
from hypervisor.cpu.cells import NEVER, Reason, link
from hypervisor.cpu.hart import Hart
from hypervisor.ctrl_c import DeferredCtrlC
from hypervisor.device import Device, Display, Seat
from hypervisor.endings import Endings
from hypervisor.events import Events
from hypervisor.faults import Faults
from hypervisor.host_io import HostThreads, Inbox
from hypervisor.inputs import Inputs
from hypervisor.machine_console import MachineConsole
from hypervisor.memory import Memory
from hypervisor.observer import Observer
from hypervisor.outcome import Outcome
from hypervisor.power import Power
from hypervisor.stops import Breakpoints
from hypervisor.time.clock import VirtualClock, to_units
from hypervisor.time.pacing import Pacer
from hypervisor.trace.tracer import Tracer
from hypervisor.turns import Turns
from hypervisor.watchdog import Watchdog
from hypervisor.wiring import connect_interrupts, place_devices

if TYPE_CHECKING:
    from hypervisor.history import History
    from hypervisor.profile.sampler import Sampler

BREATH_UNITS = 50_000_000 * 32 // 25
"""How long a hart runs at most before Python sees signals again: 50 ms."""

HELD_UNITS = 1_000_000 * 32 // 25
"""The same where busy time is held to the wall: 1 ms."""


class Machine:
    """A machine, powered on.

        with Machine.load("configs/riscv64-debian.yaml") as m:
            m.console.expect("# ")
            m.console.send("uname -a\\n")

    Everything but `kick` and `inbox.post` belongs to one thread.
    """

    def __init__(self, description: Description, *, offline: bool = False) -> None:
        """`offline`: no device opens anything outside; what comes from there is replayed."""
        started = time.perf_counter()
        self.description = description
        self.arch = architecture(description.cpu.arch)
        self.messages: list[str] = []
        self.on_message: Callable[[str], None] | None = None
        self.clock = VirtualClock(description.epoch)
        self.inbox = Inbox(self.kick)
        self.events = Events(self.log)
        self.host = HostThreads(self.clock)
        self.inputs = Inputs(self)
        self.power = Power(self)
        self.is_offline = offline
        self.is_executing = False
        """A hart executes: what comes in waits for a safe point."""
        self.console = MachineConsole(self)
        self.console.enter = self.inputs.connect("console", "", self.console.take)
        self.seat = Seat()
        """The machine's keyboard, pointer and screen, as its user sits before them."""
        self.seat.enter = self.inputs.connect("seat", "", self.seat.take)
        self.channels: dict[str, Console] = {}
        """Serial lines with `backend: channel:NAME`, by name: `send` to them, look at `text`."""
        self.live: set[str] = set()
        """Names of what may bring input from outside at any time; idle time then paces."""
        self.pacer = Pacer(description.clock.pace, self.clock, self.inbox, self.live)
        self.resets = 0
        self.programs: Sequence[Loadable] = ()
        """What was booted: kernel, firmware; for the names of their functions."""
        self.first_instruction_at: float | None = None
        self.bus = Bus(self.clock.cell, self.guest_error)
        self.devices: dict[str, Device] = {}
        self.interrupt_sinks: dict[str, Callable[[bool], None]] = {}
        """Where each device's interrupt line leads."""
        self.faults = Faults(self)
        self.observer = Observer(self)
        self.sampler: Sampler | None = None
        """What is told of harts that stopped, at times of its choosing."""
        self.endings = Endings(self)
        self._ctrl_c = DeferredCtrlC(self.kick)
        self._stop_at: int | None = None
        self.history: History | None = None
        """Where the machine can be taken back to; unless one is made, nothing is kept."""
        self.look_at: int | None = None
        """The clock, in units, from which on `on_look` is called at a safe point, soon."""
        self.on_look: Callable[[], None] = lambda: None
        self._stepping: Hart | None = None
        self._is_closed = False
        self.tracers: list[Tracer] = []
        """Traces that are being made, and those that have ended."""
        # What was built before a failure is let go of.
        with ExitStack() as held:
            self._build(description, held)
            self._held = held.pop_all()
        self.build_seconds = time.perf_counter() - started

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: str | Sequence[str] = ()) -> Machine:
        """Build the machine a YAML file describes; `overrides` are `a.b.c=value` strings, or one.

        Raises DescriptionError, BackendError, BootError or EngineError, each a sentence.
        """
        if isinstance(overrides, str):
            overrides = [overrides]
        return cls(load_description(os.fspath(path), overrides, check_image=check_catalogue))

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything the host lent; the machine cannot run any more."""
        self._is_closed = True
        for tracer in self.tracers:
            tracer.close()
        self._held.close()

    # -- building -------------------------------------------------------------------------

    def _build(self, description: Description, held: ExitStack) -> None:
        """Everything that the host lends; `held` closes it, the last first."""
        self.memory = Memory(description.memory.ram.at, description.memory.ram.size)
        held.callback(self.memory.close)
        self.memory.on_write.append(self.clock.cell)
        self.cpu: list[Hart] = []
        for index in range(description.cpu.harts):
            hart = self.arch.make_hart(index, self.clock.cell)
            held.callback(hart.close)
            self.cpu.append(hart)
        link(self.clock.cell, [hart.cell for hart in self.cpu])
        self.turns = Turns(self.cpu, self.clock.cell)
        place_devices(self, held)
        connect_interrupts(self)
        for fault in description.faults:
            self.faults.add(fault)
        held.callback(self.host.close)  # before the devices: its work uses their files
        self.arch.connect(self)
        self.firmware = self.arch.make_firmware(self)
        for hart in self.cpu:
            hart.map_ram(self.memory.base, self.memory.size, self.memory.host_address)
            self.bus.connect(hart.engine)
        self.breakpoints = Breakpoints(self)
        self.reset()
        for each in description.trace:
            self.trace(each.events, each.to)

    def resolve_file(self, file: str) -> str:
        return self.description.resolve(file)

    def guest_error(self, message: str) -> None:
        """The guest touched what does not exist: said; where the description says strict, fatal."""
        self.log(message)
        if self.description.strict:
            self.endings.fail(self.turns.present, message)

    def log(self, message: str) -> None:
        """A message for the machine's user, in order."""
        self.messages.append(message)
        if self.on_message is not None:
            self.on_message(message)

    # -- power ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Power-on state: RAM cleared, devices and harts reset, boot images loaded."""
        self.power.off = None
        self.power.reset = False
        self.inputs.moved()
        self.host.forget()
        self.memory.clear()
        for hart in self.cpu:
            hart.reset(self.description.machine_mode)
        for device in self.devices.values():
            device.reset()
        self.firmware.reset()
        self.endings.reset()
        self.turns.reset()
        start(self)

    def reset_button(self) -> None:
        """Press it: the machine starts anew, at its next safe point."""
        self.power.press_reset()

    def power_button(self) -> None:
        """Press it, for the guest to act on. LookupError: the machine has none."""
        self.power.press_power()

    def kick(self) -> None:
        """From any thread: reach a safe point soon."""
        self.clock.cell.deadline = 0

    # -- running --------------------------------------------------------------------------

    def run(self, until: str | bytes | None = None, timeout: float | None = None) -> Outcome:
        """Run until the guest powers off or fails, the console script ends, `until` is printed,
        a breakpoint or watchpoint is met, `stop` is posted, or `timeout` host seconds have passed.
        Ctrl-C acts at a safe point; the machine can run on after it."""
        self._let_run()
        return self._run(until, timeout)

    def _let_run(self) -> None:
        """No step is wanted any more."""
        self._stepping = None
        for hart in self.cpu:
            hart.stops.let_run()

    def step(
        self, hart: int = 0, inside: tuple[int, int] = (0, 0), timeout: float | None = None
    ) -> Outcome:
        """Run until `hart` has executed one instruction, or as many as are at addresses in
        `inside` (from, to). The other harts have their turns as ever. A trap that the instruction
        takes, or an interrupt that comes before it, ends the step at its handler."""
        self._stepping = self.cpu[hart]
        for each in self.cpu:
            if each is not self._stepping:
                each.stops.let_run()
        self._stepping.stops.watch_instructions(inside)
        return self._run(None, timeout)

    @contextmanager
    def only(self, hart: int) -> Iterator[None]:
        """Meanwhile no other hart has a turn, which makes another run of it."""
        self.turns.only = self.cpu[hart]
        try:
            yield
        finally:
            self.turns.only = None

    def _run(self, until: str | bytes | None, timeout: float | None) -> Outcome:
        if self._is_closed:
            raise ValueError("the machine is closed")
        step = None
        if until is not None:
            step = Step("until", until.encode() if isinstance(until, str) else until)
            self.console.script([step])
        for each in self.cpu:
            each.notice_host_writes()
        watchdog = Watchdog(timeout, self.kick)
        self.pacer.begin()
        try:
            with self._ctrl_c:
                outcome = self._leave_straight_line()
                while outcome is None:
                    outcome = self._safe_point()
                    if outcome is None and watchdog.expired:
                        outcome = self.endings.timed_out(timeout)
                    # A step that is done is not begun again by who asked for a pause.
                    goes_on = outcome is None or outcome.kind == "paused"
                    if goes_on and (transfer := self.breakpoints.take_transfer()) is not None:
                        outcome = Outcome("watchpoint", str(transfer), stop=transfer)
                        goes_on = False
                    if goes_on and self._stepping and self._stepping.stops.has_stepped():
                        outcome = self._stopped(self._stepping, Reason.STEP)
                    if outcome is None and self._has_arrived():
                        outcome = Outcome("reached", "the run came to where it was to stop")
                    if outcome is not None:
                        break
                    if self.history is not None:
                        self.history.glance()
                    hart = self.turns.next()
                    if hart is None:
                        self._idle()
                    elif self.inputs.is_behind:
                        outcome = self._creep(hart)
                    else:
                        outcome = self._run_hart(hart)
                return outcome
        finally:
            watchdog.stop()
            if step is not None:  # a text that was not printed is not awaited by the next run
                self.console.withdraw(step)

    def run_until(self, hart: int, executed: int, units: int | None = None) -> Outcome:
        """Run until `hart` has retired `executed` bytes and is about to go on, or one instruction
        if it has already: outcome `step`; but at most to the first safe point at which the clock
        shows `units`: outcome `reached`."""
        self._stepping = None
        for each in self.cpu:
            if each.index != hart:
                each.stops.let_run()
        # One that has its turn later stops before the first instruction of that.
        goes_on = self.turns.index == hart and not self.turns.is_over
        self.cpu[hart].stops.watch_instructions((0, NEVER), executed, resume=goes_on)
        self._stop_at = units
        try:
            return self._run(None, None)
        finally:
            self._stop_at = None

    def _has_arrived(self) -> bool:
        return self._stop_at is not None and self.clock.cell.units >= self._stop_at

    def run_to(self, units: int, timeout: float | None = None) -> Outcome:
        """Run to the first safe point at which the clock shows `units`: outcome `reached`."""
        self._let_run()
        self._stop_at = units
        try:
            return self._run(None, timeout)
        finally:
            self._stop_at = None

    def changed(self, what: str) -> None:
        """Somebody has changed the machine from outside, in a way that cannot be replayed."""
        if self.inputs.listeners:
            self.inputs.tell("change", what, b"")
        if self.history is not None:
            self.history.changed()

    def stop(self) -> None:
        """End the present run at its next safe point (from any thread)."""
        self.inbox.post(lambda: self.endings.note(Outcome("stopped", "stopped by its user")))

    def pause(self) -> None:
        """The same, for who will have it run on: the outcome's kind is `paused`, unless the run
        ends there anyway."""
        outcome = Outcome("paused", "paused by its user")
        self.inbox.post(lambda: self.endings.note(outcome, unless_ending=True))

    def _safe_point(self) -> Outcome | None:
        """Everything that may act between two stretches of guest code."""
        if self.bus.failure is not None:
            failure, self.bus.failure = self.bus.failure, None
            raise failure
        if self._ctrl_c.pressed:
            raise KeyboardInterrupt
        looked = self.look_at is not None and not self.inputs.is_replaying
        if looked and self.clock.cell.units >= (self.look_at or 0):
            self.on_look()
        self.inputs.before_timers()
        if self.inbox:
            self.inbox.drain()
        if not self.inputs.is_replaying:
            self.pacer.hold()
        self.clock.run_due()
        self.inputs.after_timers()
        outcome = self.endings.take()
        if outcome is not None:
            return outcome
        if self.console.run_script():
            return Outcome("until", "the awaited text was printed")
        if self.power.off is not None:
            return self.endings.powered_off(self.power.off)
        if self.power.reset:
            self.power.restart()
        return self.inputs.outcome

    def _leave_straight_line(self) -> Outcome | None:
        """Where a debugger stopped within straight-line code, nothing may act before its end."""
        hart = self.turns.present
        if not hart.is_midway or self.turns.only not in (None, hart):
            return None
        self.clock.cell.deadline = 0
        return self._execute(hart)

    def _creep(self, hart: Hart) -> Outcome | None:
        """Over one instruction, to another safe point of the same time: behind a trap."""
        hart.stops.watch_instructions()
        self.clock.cell.deadline = NEVER
        outcome = self._execute(hart)
        hart.stops.let_run()
        hart.cell.previous_end = NEVER
        return None if outcome is not None and outcome.kind == "step" else outcome

    def _run_hart(self, hart: Hart) -> Outcome | None:
        cell = self.clock.cell
        due = self.clock.next_deadline()
        deadline = cell.units + (HELD_UNITS if self.pacer.holds_busy_time else BREATH_UNITS)
        if due is not None:
            deadline = min(deadline, to_units(due))
        if self.turns.slice_end is not None:
            deadline = min(deadline, self.turns.slice_end)
        if self.sampler is not None:
            deadline = min(deadline, self.sampler.due + cell.idle)
        bound = self._bound()
        if bound is not None:
            deadline = min(deadline, bound)
        cell.deadline = deadline
        if self.inbox:  # posted before the deadline was set: its kick would be lost
            return None
        return self._execute(hart)

    def _execute(self, hart: Hart) -> Outcome | None:
        """Run a hart until its deadline, and see to what ended it."""
        if self.first_instruction_at is None:
            self.first_instruction_at = time.time()
        self.is_executing = True
        try:
            reason = hart.run()
        finally:
            self.is_executing = False
        if self.events.gather is not None:
            self.events.gather()
        if self.sampler is not None:
            self.sampler.ran(hart)
        if reason == Reason.NONE:
            # A hart that waits may find an interrupt that it masks, and would spin.
            self.turns.give_way()
        elif reason == Reason.FIRMWARE_CALL:
            self.observer.firmware_call(hart)
            self.firmware.call(hart)
        elif reason == Reason.DOUBLE_FAULT:
            self.endings.no_handler(hart)
        elif reason == Reason.AARCH32:
            self.endings.no_aarch32(hart)
        elif reason >= Reason.BREAKPOINT:
            return self._stopped(hart, reason)
        return None

    def _stopped(self, hart: Hart, reason: int) -> Outcome:
        """For a debugger."""
        if reason == Reason.STEP and (transfer := self.breakpoints.take_transfer()) is not None:
            return Outcome("watchpoint", str(transfer), stop=transfer)
        stop = self.breakpoints.stop_of(hart, reason)
        kind = ("breakpoint", "step", "watchpoint")[reason - Reason.BREAKPOINT]
        return Outcome(kind, str(stop), stop=stop)

    def _bound(self) -> int | None:
        """Where a safe point is wanted, in units; None where everywhere will do."""
        if self._stop_at is None and self.look_at is None and not self.inputs.is_replaying:
            return None
        bounds = (self._stop_at, self.look_at, self.inputs.next_at)
        return min((bound for bound in bounds if bound is not None), default=None)

    def _idle(self) -> None:
        """All harts wait."""
        due = self.clock.next_deadline()
        if self.inputs.is_replaying:  # time passed as it did, however long that took
            bounds = (self._stop_at, self.inputs.next_at, None if due is None else to_units(due))
            known = [bound for bound in bounds if bound is not None]
            if known:
                self.clock.pass_idle_to(min(known))
                return
        if due is None and not self.live:
            if not self.inbox:
                self.endings.hang()
            return
        self.pacer.idle(due, modelled=due == self.host.next_completion)

    # -- watching -------------------------------------------------------------------------

    def trace(self, events: str, to: str | os.PathLike[str] | None = None) -> Tracer:
        """Trace events that a filter chooses, until the tracer or the machine is closed: to a
        file, in the form that its name's end says, or to standard error.

            machine.trace("mmio:uart0,interrupts", "boot.pftrace")

        Raises FilterError and BackendError.
        """
        tracer = Tracer(self, events, to)
        self.tracers.append(tracer)
        return tracer

    # -- looking --------------------------------------------------------------------------

    @property
    def gpu(self) -> Display:
        """The first device with a display: `m.gpu.screenshot("out.png")`. LookupError: none has."""
        for device in self.devices.values():
            if isinstance(device, Display):
                return device
        raise LookupError("the machine has no display; a device of type virtio.gpu is one")

    def state_sha256(self) -> str:
        """Digest of RAM, registers and device state; equal for equal machines."""
        return state.sha256(self)

    def stats(self) -> dict[str, Any]:
        """Figures of the run so far."""
        return state.figures(self)

    # -- snapshots ------------------------------------------------------------------------

    @overload
    def snapshot(self) -> bytes: ...
    @overload
    def snapshot(self, path: str | os.PathLike[str]) -> None: ...
    def snapshot(self, path: str | os.PathLike[str] | None = None) -> bytes | None:
        """Write the whole machine, as it stands, to a file; without one, return it."""
        from hypervisor.snapshot import dump, save

        if path is None:
            return dump(self)
        save(self, Path(path))
        return None

    def restore(self, snapshot: str | os.PathLike[str] | bytes) -> None:
        """Become the machine that a snapshot is of: a file, or what `snapshot()` returned.
        SnapshotError when it is of another one."""
        from hypervisor.snapshot import load

        load(self, snapshot if isinstance(snapshot, bytes) else Path(snapshot))
        if self.history is not None:
            self.history.changed()

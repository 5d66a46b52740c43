"""The machine: builds everything from a description, owns it, and runs it on one thread."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import cbor2

from hypervisor.board import MachineBoard, Power
from hypervisor.boot.loadable import Loadable
from hypervisor.boot.sbi import Sbi
from hypervisor.boot.start import start
from hypervisor.bus import Bus
from hypervisor.config import Description, check_catalogue, load_description
from hypervisor.console import Console, NullChannel, Step
from hypervisor.cpu import selftest
from hypervisor.cpu.cells import NEVER, Reason
from hypervisor.cpu.riscv64 import Hart
from hypervisor.cpu.riscv64_env import CAUSES
from hypervisor.ctrl_c import DeferredCtrlC
from hypervisor.device import Board, ByteChannel, Device, Display, Seat
from hypervisor.events import Events, FirmwareCall, Reset
from hypervisor.faults import Faults
from hypervisor.host_io import HostThreads, Inbox
from hypervisor.inputs import Inputs
from hypervisor.memory import Memory
from hypervisor.observer import Observer
from hypervisor.outcome import GuestFailure, Outcome
from hypervisor.report import describe_hart
from hypervisor.stops import Breakpoints
from hypervisor.time.clock import VirtualClock, to_nanoseconds, to_units
from hypervisor.time.pacing import Pacer
from hypervisor.trace.tracer import Tracer

if TYPE_CHECKING:
    from hypervisor.profile.sampler import Sampler

SLICE_UNITS = 64_000 * 32 // 25
"""How long one hart runs while others wait for their turn: 64 us."""

BREATH_UNITS = 50_000_000 * 32 // 25
"""How long a hart runs at most before Python sees signals again: 50 ms."""

HELD_UNITS = 1_000_000 * 32 // 25
"""The same where busy time is held to the wall: 1 ms."""

PANIC = b"Kernel panic - not syncing"


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
        self.messages: list[str] = []
        self.on_message: Callable[[str], None] | None = None
        self.clock = VirtualClock(description.epoch)
        self.inbox = Inbox(self.kick)
        self.events = Events(self.log)
        self.power = Power(self.kick)
        self.host = HostThreads(self.clock)
        self.inputs = Inputs(self)
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
        self._failure: Outcome | None = None
        self._ctrl_c = DeferredCtrlC(self.kick)
        self.turn = 0
        """Index of the hart that runs, or ran last."""
        self._slice_end: int | None = None
        self._stop_at: int | None = None
        self.look_at: int | None = None
        """The clock, in units, from which on `on_look` is called at a safe point, soon."""
        self.on_look: Callable[[], None] = lambda: None
        self._stepping: Hart | None = None
        self._only: Hart | None = None
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
        layout = selftest.verify()
        self.cpu: list[Hart] = []
        for index in range(description.cpu.harts):
            hart = Hart(index, self.clock.cell, layout.exception_index)
            held.callback(hart.close)
            self.cpu.append(hart)
        self._build_devices(held)
        held.callback(self.host.close)  # before the devices: its work uses their files
        self.sbi = Sbi(self.cpu, self.clock, self.memory, self.console, self.power)
        for hart in self.cpu:
            hart.map_ram(self.memory.base, self.memory.size, self.memory.host_address)
            self.bus.connect(hart.engine)
        self.breakpoints = Breakpoints(self.cpu, self.memory)
        self._panic = self.clock.timer("panic", self._end_panic)
        self.console.watch(PANIC, self._panicked)
        self.reset()
        for each in description.trace:
            self.trace(each.events, each.to)

    def _build_devices(self, held: ExitStack) -> None:
        for name, entry in self.description.devices.items():
            board: Board = MachineBoard(self, name)
            device = entry.model(name, entry.options, board)
            held.callback(device.close)
            self.devices[name] = device
            if device.live:
                self.live.add(name)
            if entry.options.at is not None and entry.size:
                self.bus.add(device, entry.options.at, entry.size)
        for name, entry in self.description.devices.items():
            if entry.interrupt is not None:
                controller = self.devices[entry.interrupt.controller]
                self.interrupt_sinks[name] = controller.input(entry.interrupt.number).set
                place = (entry.interrupt.controller, entry.interrupt.number)
                self.devices[name].irq.connect(self.observer.line(name, *place))
        for fault in self.description.faults:
            self.faults.add(fault)

    def channel(self, spec: str | None) -> ByteChannel:
        """The host's end of a serial line: the console, nowhere, or one of `channels`."""
        if spec in ("stdio", "console"):
            return self.console
        if spec in (None, "none"):
            return NullChannel()
        name = spec.removeprefix("channel:")
        if name not in self.channels:
            channel = self.channels[name] = Console(self.kick)
            channel.enter = self.inputs.connect("channel", name, channel.take)
        return self.channels[name]

    def resolve_file(self, file: str) -> str:
        return self.description.resolve(file)

    def guest_error(self, message: str) -> None:
        """The guest touched what does not exist: said; where the description says strict, fatal."""
        self.log(message)
        if self.description.strict:
            self._fail_at(self.cpu[self.turn], message)

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
        self.sbi.reset()
        self._panic.cancel()
        self.turn = 0
        self._slice_end = None
        start(self)

    def restart(self) -> None:
        """Reset a machine that has run: counted, and told to who watches."""
        self.resets += 1
        self.events.publish(Reset(self.clock.now()))
        self.reset()

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
        self._only = self.cpu[hart]
        try:
            yield
        finally:
            self._only = None

    def _run(self, until: str | bytes | None, timeout: float | None) -> Outcome:
        if self._is_closed:
            raise ValueError("the machine is closed")
        step = None
        if until is not None:
            step = Step("until", until.encode() if isinstance(until, str) else until)
            self.console.script([step])
        for each in self.cpu:
            each.notice_host_writes()
        watchdog = _Watchdog(timeout, self.kick)
        self.pacer.begin()
        try:
            with self._ctrl_c:
                outcome = self._leave_straight_line()
                while outcome is None:
                    outcome = self._safe_point()
                    if outcome is None and watchdog.expired:
                        outcome = self._timed_out(timeout)
                    # A step that is done is not begun again by who asked for a pause.
                    goes_on = outcome is None or outcome.kind == "paused"
                    if goes_on and self._stepping and self._stepping.stops.has_stepped():
                        outcome = self._stopped(self._stepping, Reason.STEP)
                    if outcome is None and self._has_arrived():
                        outcome = Outcome("reached", "the run came to where it was to stop")
                    if outcome is not None:
                        break
                    hart = self._next_hart()
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

    def stop(self) -> None:
        """End the present run at its next safe point (from any thread)."""
        self.inbox.post(lambda: self._fail(Outcome("stopped", "stopped by its user")))

    def pause(self) -> None:
        """The same, for who will have it run on: the outcome's kind is `paused`, unless the run
        ends there anyway."""
        self.inbox.post(self._pause)

    def _pause(self) -> None:
        if self._failure is None:
            self._fail(Outcome("paused", "paused by its user"))

    def _safe_point(self) -> Outcome | None:
        """Everything that may act between two stretches of guest code."""
        if self.bus.failure is not None:
            failure, self.bus.failure = self.bus.failure, None
            raise failure
        if self._ctrl_c.pressed:
            raise KeyboardInterrupt
        if self.look_at is not None and self.clock.cell.units >= self.look_at:
            self.on_look()
        self.inputs.before_timers()
        if self.inbox:
            self.inbox.drain()
        if not self.inputs.is_replaying:
            self.pacer.hold()
        self.clock.run_due()
        self.inputs.after_timers()
        if self._failure is not None:
            outcome, self._failure = self._failure, None
            return outcome
        if self.console.run_script():
            return Outcome("until", "the awaited text was printed")
        if self.power.off is not None:
            return self._powered_off(self.power.off)
        if self.power.reset:
            self.restart()
        return self.inputs.outcome

    def _powered_off(self, code: int) -> Outcome:
        step = self.console.script_pending
        if step is not None:
            text = step.text.decode(errors="replace")
            sentence = f"the guest powered off before it printed '{text}'"
        elif code:
            sentence = f"the guest powered off with failure code {code}"
        else:
            return Outcome("power-off", "the guest powered off")
        return Outcome("failed", sentence, 1, describe_hart(self.cpu[self.turn], self.programs))

    def _next_hart(self) -> Hart | None:
        """Whose turn it is; None when all wait."""
        if self._only is not None:
            return self._take_turn(self._only) if self._is_runnable(self._only) else None
        if len(self.cpu) == 1:
            return self.cpu[0] if self._is_runnable(self.cpu[0]) else None
        runnable = [hart for hart in self.cpu if self._is_runnable(hart)]
        if not runnable:
            return None
        current = self.cpu[self.turn]
        alone = len(runnable) == 1
        if current not in runnable or (
            self._slice_end is not None and self.clock.cell.units >= self._slice_end
        ):
            later = [hart for hart in runnable if hart.index > current.index]
            current = (later or runnable)[0]
            self._slice_end = None
            self._take_turn(current)
        if alone:
            self._slice_end = None
        elif self._slice_end is None:
            self._slice_end = self.clock.cell.units + SLICE_UNITS
        return current

    def _take_turn(self, hart: Hart) -> Hart:
        if hart.index != self.turn:
            hart.drop_reservation()
            self.clock.cell.host_writes += 1  # or another hart, before it
        self.turn = hart.index
        return hart

    def _is_runnable(self, hart: Hart) -> bool:
        if hart.stopped:
            return False
        if hart.take_interrupt_lines():
            hart.waiting = False
        return not hart.waiting

    def _leave_straight_line(self) -> Outcome | None:
        """Where a debugger stopped within straight-line code, nothing may act before its end."""
        hart = self.cpu[self.turn]
        if not hart.is_midway or self._only not in (None, hart):
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
        if self._slice_end is not None:
            deadline = min(deadline, self._slice_end)
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
        cell = self.clock.cell
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
        if reason == Reason.NONE and self._slice_end is not None:
            # It waits. If it finds an interrupt that it masks it will spin: others come first.
            self._slice_end = cell.units
        elif reason == Reason.FIRMWARE_CALL:
            if self.events.wants(FirmwareCall):
                self._publish_call(hart)
            self.sbi.call(hart)
        elif reason == Reason.DOUBLE_FAULT:
            registers = hart.registers
            number = registers["mcause" if registers["priv"] == 3 else "scause"]
            cause = CAUSES.get(number, f"cause {number:#x}")
            self._fail_at(hart, f"hart {hart.index} took a trap with no handler: {cause}")
        elif reason >= Reason.BREAKPOINT:
            return self._stopped(hart, reason)
        return None

    def _stopped(self, hart: Hart, reason: int) -> Outcome:
        """For a debugger."""
        stop = self.breakpoints.stop_of(hart, reason)
        kind = ("breakpoint", "step", "watchpoint")[reason - Reason.BREAKPOINT]
        return Outcome(kind, f"hart {stop.hart} stopped at {stop.pc:#x}", stop=stop)

    def _publish_call(self, hart: Hart) -> None:
        a7, a6 = hart.registers["a7"], hart.registers["a6"]
        self.events.publish(FirmwareCall(self.clock.now(), hart.index, a7, a6))

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
                hart = self.cpu[0]
                self._fail_at(hart, "the guest hangs: all harts wait and nothing is pending")
            return
        self.pacer.idle(due, modelled=due == self.host.next_completion)

    # -- endings --------------------------------------------------------------------------

    def _fail(self, outcome: Outcome) -> None:
        self._failure = outcome
        self.kick()

    def _fail_at(self, hart: Hart, sentence: str) -> None:
        self._fail(Outcome("failed", sentence, 1, describe_hart(hart, self.programs)))

    def _panicked(self) -> None:
        # The panic's own text is still being printed: end a little later, when it is complete.
        self._panic.arm(self.clock.now() + 50_000_000)

    def _end_panic(self) -> None:
        self._fail_at(self.cpu[self.turn], "the guest's kernel panicked")

    def _timed_out(self, timeout: float | None) -> Outcome:
        hart = self.cpu[self.turn]
        step = self.console.script_pending
        waiting = f", before '{step.text.decode(errors='replace')}' was printed" if step else ""
        return Outcome(
            "timeout",
            f"{timeout:g} seconds ran out{waiting}",
            124,
            describe_hart(hart, self.programs),
        )

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
        state = hashlib.sha256(self.memory.digest().encode())
        state.update(cbor2.dumps(self._state(), canonical=True))
        return state.hexdigest()

    def _state(self) -> dict[str, Any]:
        return {
            "clock": self.clock.save(),
            "harts": [hart.save() for hart in self.cpu],
            "devices": {name: device.save() for name, device in self.devices.items()},
            "sbi": self.sbi.save(),
            "faults": self.faults.save(),
            "turn": self.turn,
            "slice_end": self._slice_end,
        }

    def save_state(self) -> Mapping[str, Any]:
        """Everything but RAM, as plain data."""
        return {
            **self._state(),
            "console": self.console.save(),
            "channels": {name: channel.save() for name, channel in self.channels.items()},
            "resets": self.resets,
            "power": [self.power.off, self.power.reset],
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse, with ValueError, what another version of this program saved."""
        own = self.save_state()
        for part in (None, "devices", "clock", "console", "channels"):
            here, there = (own, state) if part is None else (own[part], state[part])
            if different := here.keys() ^ there.keys():
                raise ValueError(f"{min(different)} is not in both")
        if len(state["harts"]) != len(self.cpu):
            raise ValueError("the number of harts differs")
        for here, there in zip(own["harts"], state["harts"], strict=True):
            if here.keys() ^ there.keys() or here["registers"].keys() ^ there["registers"].keys():
                raise ValueError("the harts' registers differ")
        for name, device in self.devices.items():
            device.check_shape(state["devices"][name])
        self.faults.check(state["faults"])

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take `save_state`'s data; RAM must be loaded before."""
        self.faults.load(state["faults"])  # their timers must be there
        self.inputs.moved()
        # Devices look at the time and take input while they load.
        self.clock.load(state["clock"])
        self.console.load(state["console"])
        for name, channel in self.channels.items():
            channel.load(state["channels"][name])
        for name, device in self.devices.items():
            device.load(state["devices"][name])
        self.faults.settle()
        for hart, saved in zip(self.cpu, state["harts"], strict=True):
            hart.load(saved)
        self.sbi.load(state["sbi"])
        self.clock.load(state["clock"])  # again: devices armed their timers in another order
        self.resets = state["resets"]
        self.power.off, self.power.reset = state["power"]
        self.bus.failure = self._failure = None
        self.turn = state["turn"]
        self._slice_end = state["slice_end"]

    def stats(self) -> dict[str, Any]:
        """Figures of the run so far."""
        traps: dict[str, int] = {}
        for hart in self.cpu:
            for cause, count in enumerate(hart.cell.traps):
                if count:
                    name = CAUSES.get(cause, f"cause {cause}")
                    traps[name] = traps.get(name, 0) + count
        return {
            "virtual_ns": to_nanoseconds(self.clock.cell.units),
            "executed_bytes": self.clock.executed,
            "executed_bytes_by_hart": [hart.executed for hart in self.cpu],
            "traps": traps,
            "firmware_calls": dict(self.sbi.calls),
            "mmio": {
                window.device.name: {"reads": window.reads, "writes": window.writes}
                for window in self.bus.windows
            },
            "fence_i": sum(hart.cell.fence_i for hart in self.cpu),
            "translation_flushes": sum(hart.cell.flushes for hart in self.cpu),
            "resets": self.resets,
            "console_sha256": self.console.sha256,
        }

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


class _Watchdog:
    """Host time allowed for a run."""

    def __init__(self, seconds: float | None, kick: Callable[[], None]) -> None:
        self.expired = False
        self._kick = kick
        self._timer: threading.Timer | None = None
        if seconds is not None:
            self._timer = threading.Timer(seconds, self._expire)
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        self.expired = True
        self._kick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

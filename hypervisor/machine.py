"""The machine: builds everything from a description, owns it, and has it run on one thread."""

from __future__ import annotations

import os
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
from hypervisor.console import Console
from hypervisor.cpu.cells import link
from hypervisor.cpu.hart import Hart
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
from hypervisor.run_loop import RunLoop
from hypervisor.stops import Breakpoints
from hypervisor.time.clock import VirtualClock
from hypervisor.time.pacing import Pacer
from hypervisor.trace.tracer import Tracer
from hypervisor.turns import Turns
from hypervisor.wiring import connect_interrupts, place_devices

if TYPE_CHECKING:
    from hypervisor.history import History
    from hypervisor.profile.sampler import Sampler


class Machine:
    """A machine, powered on.

        with Machine.load("configs/riscv64-debian.yaml") as m:
            m.console.expect("# ")
            m.console.send("uname -a\\n")

    Everything but `kick` and `inbox.post` belongs to one thread.
    """

    def __init__(self, description: Description, *, offline: bool = False) -> None:
        """`offline`: no device opens anything outside; what comes from there is replayed."""
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
        self.loop = RunLoop(self)
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
        self.bus = Bus(self.clock.cell, self.guest_error)
        self.devices: dict[str, Device] = {}
        self.interrupt_sinks: dict[str, Callable[[bool], None]] = {}
        """Where each device's interrupt line leads."""
        self.faults = Faults(self)
        self.observer = Observer(self)
        self.sampler: Sampler | None = None
        """What is told of harts that stopped, at times of its choosing."""
        self.endings = Endings(self)
        self.history: History | None = None
        """Where the machine can be taken back to; unless one is made, nothing is kept."""
        self._is_closed = False
        self.tracers: list[Tracer] = []
        """Traces that are being made, and those that have ended."""
        # What was built before a failure is let go of.
        with ExitStack() as held:
            self._build(description, held)
            self._held = held.pop_all()

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
        self._check_open()
        return self.loop.run(until, timeout)

    def step(
        self, hart: int = 0, inside: tuple[int, int] = (0, 0), timeout: float | None = None
    ) -> Outcome:
        """Run until `hart` has executed one instruction, or as many as are at addresses in
        `inside` (from, to). The other harts have their turns as ever. A trap that the instruction
        takes, or an interrupt that comes before it, ends the step at its handler."""
        self._check_open()
        return self.loop.step(hart, inside, timeout)

    def run_to(self, units: int, timeout: float | None = None) -> Outcome:
        """Run to the first safe point at which the clock shows `units`: outcome `reached`."""
        self._check_open()
        return self.loop.run_to(units, timeout)

    def run_until(self, hart: int, executed: int, units: int | None = None) -> Outcome:
        """Run until `hart` has retired `executed` bytes and is about to go on, or one instruction
        if it has already: outcome `step`; but at most to the first safe point at which the clock
        shows `units`: outcome `reached`."""
        self._check_open()
        return self.loop.run_until(hart, executed, units)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("the machine is closed")

    @contextmanager
    def only(self, hart: int) -> Iterator[None]:
        """Meanwhile no other hart has a turn, which makes another run of it."""
        self.turns.only = self.cpu[hart]
        try:
            yield
        finally:
            self.turns.only = None

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

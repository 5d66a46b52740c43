"""What a monitor does to a machine. All of it runs on the machine's thread, between runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypervisor.device import MemoryAccessError
from hypervisor.outcome import Outcome
from hypervisor.stops import StopError
from tools.monitor import views
from tools.monitor.accesses import Accesses
from tools.monitor.errors import MonitorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypervisor.history import History
    from hypervisor.stops import Breakpoint, Watchpoint
    from tools.control import Control

_NAME = re.compile(r"([\w-]+)\.(\w+(?:\[\d+\])?)(?:\.(\w+))?")
MOST_BYTES = 1 << 20
"""Bytes of memory that one command reads at most."""


class Actions:
    """The commands that change something, for the text monitor and for QMP alike. Made on any
    thread."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.machine = control.machine
        self.accesses = Accesses(control.machine)

    # -- running ------------------------------------------------------------------------------

    def stop(self) -> None:
        self.control.pause()

    def cont(self) -> None:
        self.control.resume()

    def step(self, hart: int) -> None:
        """Go on by one instruction of a hart, and pause again."""
        views.hart_of(self.machine, hart)
        if not self.control.paused:
            raise MonitorError("the machine runs: stop it before you step")
        self.control.resume(lambda: self.machine.step(hart))

    def reset(self) -> None:
        """Press the reset button."""
        self._check_live()
        self.machine.reset_button()

    def power_down(self) -> None:
        """Press the power button, for the guest to act on."""
        self._check_live()
        try:
            self.machine.power_button()
        except LookupError:
            arch = self.machine.description.cpu.arch
            raise MonitorError(
                f"this {arch} machine has no power button; use the guest's poweroff, or quit"
            ) from None

    def _check_live(self) -> None:
        inputs = self.machine.inputs
        if inputs.is_replaying and inputs.on_outside is None:
            raise MonitorError("a recording is replayed: nothing comes in from outside")

    def quit(self) -> None:
        self.control.end(Outcome("stopped", "stopped by its monitor"))

    # -- registers and memory -----------------------------------------------------------------

    def poke(self, name: str, value: int) -> None:
        """Store to a device's register, or to one field of it, as the guest would."""
        device, offset, size, bits, w1c = self._register(name, write=True)
        if bits is not None:
            if not 0 <= value <= bits.mask >> bits.lsb:
                raise MonitorError(f"{value:#x} does not fit into {name}")
            value = device.read(offset, size) & ~bits.mask & ~w1c | value << bits.lsb
        if not 0 <= value < 1 << 8 * size:
            raise MonitorError(f"{value:#x} does not fit into {name}, which has {size} bytes")
        device.write(offset, size, value)
        self.machine.changed(f"a store to {name} by a monitor")

    def peek(self, name: str) -> int:
        """Load a device's register, or a field of it, as the guest would: it may act on it."""
        device, offset, size, bits, _ = self._register(name, write=False)
        value: int = device.read(offset, size)
        self.machine.changed(f"a load of {name} by a monitor")
        return value if bits is None else int(bits.of(value))

    def _register(self, name: str, write: bool) -> tuple[Any, int, int, Any, int]:
        match = _NAME.fullmatch(name)
        if match is None:
            raise MonitorError(f"'{name}' is not DEVICE.REGISTER, such as uart0.LCR")
        device = views.device_of(self.machine, match[1])
        for offset, slot in device.placed():
            if slot.register.instance_name(slot.index) != match[2]:
                continue
            shown = device.slot_at(offset, write)
            if shown is None or shown[0].register is not slot.register:
                there = shown[0].register.name if shown else "nothing"
                raise MonitorError(f"{name} cannot be reached now: at its offset is {there}")
            bits = None
            if match[3] is not None:
                fields = {field.name: field for field in slot.register.fields}
                if match[3] not in fields:
                    raise MonitorError(f"{match[2]} has no field '{match[3]}'")
                bits = fields[match[3]]
            return device, offset, slot.size, bits, slot.register.w1c
        raise MonitorError(f"{match[1]} has no register '{match[2]}'")

    def memory(self, address: int, size: int, hart: int | None) -> bytes:
        """Bytes at a physical address, or with `hart` at a virtual one as it sees it."""
        if not 0 < size <= MOST_BYTES:
            raise MonitorError(f"{size} bytes cannot be read at once; 1 to {MOST_BYTES} can")
        if hart is None:
            return self._physical(address, size)
        parts = []
        while size:
            part = min(size, 4096 - address % 4096)
            physical = views.hart_of(self.machine, hart).translate(address)
            if physical is None:
                raise MonitorError(f"{address:#x} is not mapped on hart {hart}")
            parts.append(self._physical(physical, part))
            address, size = address + part, size - part
        return b"".join(parts)

    def _physical(self, address: int, size: int) -> bytes:
        try:
            return self.machine.memory.read(address, size)
        except MemoryAccessError as error:
            raise MonitorError(str(error)) from None

    def disassemble(self, hart: int, address: int | None, count: int) -> list[str]:
        from hypervisor.report import disassemble

        return disassemble(views.hart_of(self.machine, hart), address, count)

    # -- breakpoints --------------------------------------------------------------------------

    def break_at(self, place: str) -> Breakpoint:
        """Stop before the instruction at an address or a function of what was booted."""
        return self.machine.breakpoints.add(self.address(place))

    def watch(self, address: int, size: int, kind: Any, hart: int | None) -> Watchpoint:
        if hart is not None:
            views.hart_of(self.machine, hart)
        try:
            return self.machine.breakpoints.watch(address, size, kind, hart=hart)
        except StopError as error:
            raise MonitorError(str(error)) from None

    def delete(self, number: int) -> None:
        for point in self.machine.breakpoints:
            if point.number == number:
                self.machine.breakpoints.remove(point)
                return
        raise MonitorError(f"no breakpoint or watchpoint {number}")

    def address(self, text: str) -> int:
        """A number, or a function's name. Raises MonitorError."""
        try:
            value = int(text, 0)
        except ValueError:
            return self._symbol(text)
        if not 0 <= value < 1 << 64:
            raise MonitorError(f"'{text}' is no address of 64 bits")
        return value

    def _symbol(self, name: str) -> int:
        for program in self.machine.programs:
            address = program.symbols.address_of(name) if program.symbols is not None else None
            if address is not None:
                return address
        raise MonitorError(f"'{name}' is no number and no function of what was booted")

    # -- the way back -------------------------------------------------------------------------

    def keep_history(self, wanted: bool) -> None:
        """Keep states from now on, so that the machine can be taken back; or drop them."""
        from hypervisor.history import History, HistoryError

        machine = self.machine
        if wanted and machine.history is None:
            try:
                machine.history = History(machine)
            except HistoryError as error:
                raise MonitorError(str(error)) from None
        elif not wanted and machine.history is not None:
            machine.history.close()
            machine.history = None

    def history(self) -> str:
        """How far back the machine can be taken."""
        history = self._kept()
        return f"back to {history.beginning / 1e9:.6f} s, by {history.states} states"

    def rewind(self, nanoseconds: int) -> str:
        """Go back so much virtual time."""
        if nanoseconds < 0:
            raise MonitorError("the machine can only be taken back, not forward")
        return self._travel(lambda history: history.rewind(nanoseconds))

    def back(self) -> str:
        """Go back to the breakpoint or watchpoint that was met last."""
        return self._travel(lambda history: history.run_back())

    def step_back(self, hart: int) -> str:
        """Go back by one instruction of a hart."""
        views.hart_of(self.machine, hart)
        return self._travel(lambda history: history.step_back(hart))

    def to_last_write(self, address: int, hart: int) -> str:
        """Go back to before the store that wrote 8 bytes at a virtual address last."""
        return self._travel(lambda history: history.to_last_write(address, hart=hart))

    def _kept(self) -> History:
        if self.machine.history is None:
            raise MonitorError("no history is kept; `history on` keeps one from then on")
        return self.machine.history

    def _travel(self, how: Callable[[History], Outcome]) -> str:
        from hypervisor.history import HistoryError

        history = self._kept()
        if not self.control.paused:
            raise MonitorError("the machine runs: stop it before you take it back")
        try:
            outcome = how(history)
        except (HistoryError, StopError) as error:
            raise MonitorError(str(error)) from None
        return f"{outcome.sentence}; it is {self.machine.clock.now() / 1e9:.9f} s"

    # -- the rest -----------------------------------------------------------------------------

    def trace(self, events: str, to: str | None) -> None:
        from hypervisor.device import BackendError
        from hypervisor.trace import FilterError

        try:
            self.machine.trace(events, to)
        except (FilterError, BackendError) as error:
            raise MonitorError(str(error)) from None

    def trace_off(self) -> int:
        """End every trace; how many there were."""
        tracers = self.machine.tracers
        count = len(tracers)
        while tracers:
            tracers.pop().close()
        return count

    def snapshot(self, path: str) -> None:
        from hypervisor.snapshot import SnapshotError

        try:
            self.machine.snapshot(path)
        except SnapshotError as error:
            raise MonitorError(str(error)) from None

    def screenshot(self, path: str) -> None:
        """Write what the display shows, as a PNG file."""
        try:
            self.machine.gpu.screenshot(path)
        except LookupError as error:
            raise MonitorError(str(error)) from None
        except OSError as error:
            raise MonitorError(
                f"the screenshot {path} cannot be written: {error.strerror}"
            ) from None

    def type(self, text: bytes) -> None:
        """Type to the guest's console."""
        self._check_live()
        self.machine.console.send(text)

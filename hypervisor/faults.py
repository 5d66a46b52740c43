"""What goes wrong in a machine on purpose: the faults of its description, and those added to it.

    machine.faults.add(LostInterrupt(device="disk0", nth=5))

A fault counts its occasions in the machine's own order and draws from its own seed, so a run with
faults repeats as exactly as one without. A machine without faults has none of the hooks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hypervisor.bus import Window
from hypervisor.config.fault_checks import device_problem
from hypervisor.config.faults import (
    FAULTS,
    DelayedInterrupt,
    DiskDelay,
    DiskError,
    Fault,
    GpuAllocationFailure,
    GpuDelayedFence,
    GpuLostWorker,
    LostInterrupt,
    LostPacket,
    RegisterFault,
    SpuriousInterrupt,
    register_named,
)
from hypervisor.device import GpuHook, RequestFault
from hypervisor.events import FaultInjected
from hypervisor.interrupt_faults import STAGES, Sink, Stage

if TYPE_CHECKING:
    from hypervisor.machine import Machine

F = TypeVar("F", bound=Fault)


class FaultError(ValueError):
    """A fault that the machine cannot have: one sentence."""


class Injection:
    """A fault in a machine: how many occasions it has seen and how many it took."""

    def __init__(self, fault: Fault, name: str, happened: Callable[[Injection, str], None]) -> None:
        self.fault = fault
        self.name = name
        """As events and messages call it: `faults.0`."""
        self.seen = 0
        self.taken = 0
        self._happened = happened

    def takes(self, now: int) -> bool:
        """Whether the occasion at virtual time `now` (ns) is taken; it counts as seen."""
        fault = self.fault
        if now < fault.at or self.taken == fault.limit:
            return False
        self.seen += 1
        if self.seen < fault.nth or self._draw() >= fault.probability:
            return False
        self.taken += 1
        return True

    def say(self, what: str) -> None:
        """Tell of a taken occasion."""
        self._happened(self, what)

    def _draw(self) -> float:
        """A number in [0, 1) for the present occasion, of the seed and its number alone."""
        if self.fault.probability == 1:
            return 0.0
        text = f"{self.fault.seed}:{self.fault.kind}:{self.fault.device}:{self.seen}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


class Faults:
    """All faults of a machine, in the order in which they were added."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.injections: list[Injection] = []
        self._stages: dict[str, list[Stage]] = {}
        """What is between each device's interrupt line and its controller's input."""
        self._sinks: dict[str, Sink] = {}
        self._is_loading = False

    def add(self, fault: Fault) -> Injection:
        """Have `fault` happen from now on. FaultError where it cannot."""
        entry = self._machine.description.devices.get(fault.device)
        if entry is None:
            raise FaultError(f"no device named '{fault.device}'")
        problem = device_problem(fault, entry)
        if problem is not None:
            raise FaultError(f"{problem[0]}: {problem[1]}")
        injection = Injection(fault, f"faults.{len(self.injections)}", self._tell)
        self.injections.append(injection)
        if isinstance(fault, LostInterrupt | DelayedInterrupt | SpuriousInterrupt):
            self._add_stage(injection, fault)
        else:
            self._place(fault.device)
        return injection

    def clear(self) -> None:
        """Have nothing go wrong any more."""
        names = {injection.fault.device for injection in self.injections}
        self.injections.clear()
        for name, stages in self._stages.items():
            for stage in stages:
                stage.timer.cancel()
            machine = self._machine
            machine.interrupt_sinks[name] = self._sinks.pop(name)
            if not self._is_loading:
                machine.interrupt_sinks[name](machine.devices[name].irq.level)
        self._stages.clear()
        for name in names:
            self._place(name)

    def _of(self, device: str, kind: type[F]) -> list[tuple[Injection, F]]:
        return [
            (injection, injection.fault)
            for injection in self.injections
            if injection.fault.device == device and isinstance(injection.fault, kind)
        ]

    def _tell(self, injection: Injection, what: str) -> None:
        machine = self._machine
        if injection.taken == 1:
            at = machine.clock.now() / 1e9
            machine.log(f"{injection.name}: {what} at {at:.6f} s")
        if machine.events.wants(FaultInjected):
            time = machine.clock.now()
            machine.events.publish(
                FaultInjected(time, injection.fault.device, injection.name, what)
            )

    def _place(self, name: str) -> None:
        """Set or take away the hooks of a device that are no interrupt's."""
        machine = self._machine
        device: Any = machine.devices[name]
        registers = self._of(name, RegisterFault)
        for window in machine.bus.windows:
            if window.device is device:
                window.answer(self._loader(window, registers) if registers else device.read)
        if "requests" in device.fault_points:
            errors, delays = self._of(name, DiskError), self._of(name, DiskDelay)
            device.request_fault = self._disturber(name, errors, delays)
        if "packets" in device.fault_points:
            losses = self._of(name, LostPacket)
            device.packet_fault = self._loser(name, losses)
        if "commands" in device.fault_points:
            device.command_fault = self._saboteur(name)

    # -- registers ----------------------------------------------------------------------------

    def _loader(
        self, window: Window, faults: Sequence[tuple[Injection, RegisterFault]]
    ) -> Callable[[int, int], int]:
        device, clock = window.device, self._machine.clock
        places = []
        for injection, fault in faults:
            found = register_named(type(device), fault.name)
            assert found is not None  # as checked when it was added
            register, index = found
            at = register.offset + index * register.stride
            places.append((injection, fault, register, at))

        def load(offset: int, size: int) -> int:
            value = device.read(offset, size)
            for injection, fault, register, at in places:
                if not (at < offset + size and offset < at + register.size):
                    continue
                slot = device.slot_at(at)
                if slot is None or slot[0].register is not register:  # another bank's turn
                    continue
                if injection.takes(clock.now()):
                    bits = register.mask if fault.mask is None else fault.mask & register.mask
                    mask = _moved(bits, at - offset, size)
                    forced = _moved(fault.value, at - offset, size)
                    value = value & ~mask | forced & mask
                    injection.say(f"{device.name}.{fault.name} read {value:#x} ({size} bytes)")
            return value

        return load

    # -- requests and packets -----------------------------------------------------------------

    def _disturber(
        self,
        name: str,
        errors: Sequence[tuple[Injection, DiskError]],
        delays: Sequence[tuple[Injection, DiskDelay]],
    ) -> Callable[[str, int, int], RequestFault | None] | None:
        if not errors and not delays:
            return None
        clock = self._machine.clock

        def disturb(operation: str, offset: int, size: int) -> RequestFault | None:
            request = f"a {operation} of {name}"
            if operation in ("read", "write"):
                request = f"a {operation} of {size} bytes at sector {offset // 512} of {name}"
            error, delay = "", 0
            for injection, fault in errors:
                if fault.concerns(operation, offset, size) and injection.takes(clock.now()):
                    error = f"{injection.name}: {request} fails"
                    injection.say(f"{request} failed")
            for injection, late in delays:
                if late.concerns(operation, offset, size) and injection.takes(clock.now()):
                    delay += late.delay
                    injection.say(f"{request} takes {late.delay / 1e9:g} s more")
            return RequestFault(delay, error) if error or delay else None

        return disturb

    def _loser(
        self, name: str, losses: Sequence[tuple[Injection, LostPacket]]
    ) -> Callable[[str, int], bool] | None:
        if not losses:
            return None
        clock = self._machine.clock

        def lose(direction: str, size: int) -> bool:
            lost = False
            for injection, fault in losses:
                if fault.direction in ("any", direction) and injection.takes(clock.now()):
                    injection.say(f"a packet of {size} bytes, {direction} by {name}, was lost")
                    lost = True
            return lost

        return lose

    # -- GPUs ---------------------------------------------------------------------------------

    def _saboteur(self, name: str) -> GpuHook | None:
        denials = self._of(name, GpuAllocationFailure)
        delays = self._of(name, GpuDelayedFence)
        ends = self._of(name, GpuLostWorker)
        if not denials and not delays and not ends:
            return None
        clock = self._machine.clock

        def disturb(act: Literal["allocation", "fence", "worker"], what: str) -> int:
            found = 0
            if act == "fence":
                for injection, late in delays:
                    if injection.takes(clock.now()):
                        found += late.delay
                        injection.say(f"{what} of {name} completes {late.delay / 1e6:g} ms late")
                return found
            for injection, _ in denials if act == "allocation" else ends:
                if injection.takes(clock.now()):
                    found = 1
                    injection.say(
                        f"{what} of {name} got no memory"
                        if act == "allocation"
                        else f"the worker of {name} was ended before {what}"
                    )
            return found

        return disturb

    # -- interrupts ---------------------------------------------------------------------------

    def _add_stage(
        self, injection: Injection, fault: LostInterrupt | DelayedInterrupt | SpuriousInterrupt
    ) -> None:
        machine, name = self._machine, fault.device
        stages = self._stages.setdefault(name, [])
        end = self._sinks.setdefault(name, machine.interrupt_sinks[name])
        stage = STAGES[type(fault)](injection, machine, end, lambda: self._is_loading)
        if stages:
            stages[-1].sink = stage.set
        else:
            machine.interrupt_sinks[name] = stage.set
        stages.append(stage)
        level = machine.devices[name].irq.level if len(stages) == 1 else stages[-2].output
        stage.begin(level)

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> list[dict[str, Any]]:
        """The faults as they were said, and how far each is."""
        stages = {stage.injection.name: stage for each in self._stages.values() for stage in each}
        return [
            {
                "fault": injection.fault.model_dump(mode="json"),
                "seen": injection.seen,
                "taken": injection.taken,
                "held": injection.name in stages and stages[injection.name].held,
            }
            for injection in self.injections
        ]

    def check(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Refuse, with ValueError, faults that this machine cannot have."""
        for saved in state:
            fault = _parse(saved["fault"])
            entry = self._machine.description.devices.get(fault.device)
            if entry is None or device_problem(fault, entry) is not None:
                raise ValueError(f"its fault {fault.kind} is of another machine")
            if min(int(saved["seen"]), int(saved["taken"])) < 0:
                raise ValueError("its faults' counts are negative")

    def load(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Take `save`'s faults instead of the present ones. Until `settle` lines only follow the
        devices that are loaded."""
        self._is_loading = True
        self.clear()
        for saved in state:
            injection = self.add(_parse(saved["fault"]))
            injection.seen, injection.taken = int(saved["seen"]), int(saved["taken"])
            for stage in self._stages.get(injection.fault.device, []):
                if stage.injection is injection:
                    stage.held = bool(saved["held"])

    def settle(self) -> None:
        """After the devices were loaded: lines are as they were."""
        for name, stages in self._stages.items():
            level = self._machine.devices[name].irq.level
            for stage in stages:
                stage.level = level
                stage.drive()
                level = stage.output
        self._is_loading = False


def _parse(data: Any) -> Fault:
    model = FAULTS.get(data["kind"])
    if model is None:
        raise ValueError(f"its fault {data['kind']} is unknown")
    return model.model_validate(data)


def _moved(bits: int, distance: int, size: int) -> int:
    """A register's bits as an access of `size` bytes sees them, `distance` bytes before it."""
    moved = bits << 8 * distance if distance >= 0 else bits >> -8 * distance
    return moved & ((1 << 8 * size) - 1)

"""The machine's side of observation: turns what happens in it into events, where they are wanted.

Off means off: devices are called directly, their memory is the machine's own, and no hook is placed
in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypervisor.cpu.hart import Hart
from hypervisor.cpu.trap_trace import TrapTrace
from hypervisor.device import Device, Field
from hypervisor.events import (
    DmaTransfer,
    Event,
    FirmwareCall,
    InterruptAcknowledge,
    InterruptChange,
    InterruptComplete,
    InterruptTaken,
    MmioAccess,
    TimerFired,
    Trap,
)
from hypervisor.time.clock import to_nanoseconds

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class DeviceMemory:
    """Guest RAM as one device uses it (see hypervisor.device.GuestMemory): the machine's own
    methods, or ones that tell before."""

    def __init__(self, memory: Any, seen: Callable[[int, int, bool], None]) -> None:
        self._memory = memory
        self._seen = seen
        self.contains: Callable[[int, int], bool] = memory.contains
        self.read: Callable[[int, int], bytes]
        self.write: Callable[[int, Any], None]
        self.watch(False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def watch(self, wanted: bool) -> None:
        memory = self._memory
        self.read = self._read if wanted else memory.read
        self.write = self._write if wanted else memory.write

    def _read(self, address: int, size: int) -> bytes:
        self._seen(address, size, False)
        data: bytes = self._memory.read(address, size)
        return data

    def _write(self, address: int, data: Any) -> None:
        self._seen(address, len(data), True)
        self._memory.write(address, data)


class Observer:
    """Places and removes what makes a machine's events."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._memories: list[DeviceMemory] = []
        self._inputs: dict[tuple[str, int], str] = {}
        """Which device drives a controller's input."""
        self.raises: dict[str, int] = {}
        """How often each device has raised its line in this process."""
        self._raised: dict[str, int] = {}
        """When each device last raised its line (ns)."""
        self._taken: dict[int, int] = {}
        """When each hart last entered its interrupt handler (ns)."""
        self._traps: list[TrapTrace] = []
        self._follows_lines = False
        self._on_dma: Callable[[str, int, int, bool], None] | None = None
        machine.events.on_change.append(self._changed)

    # -- what the machine builds with ------------------------------------------------------------

    def memory_for(self, name: str) -> DeviceMemory:
        """Guest RAM for the device `name`."""

        def seen(address: int, size: int, is_write: bool) -> None:
            if self._machine.events.wants(DmaTransfer):
                self._publish(DmaTransfer, name, address, size, is_write)
            if self._on_dma is not None:
                self._on_dma(name, address, size, is_write)

        memory = DeviceMemory(self._machine.memory, seen)
        self._memories.append(memory)
        return memory

    def line(self, name: str, controller: str, number: int) -> Callable[[bool], None]:
        """The sink for the interrupt line of device `name`, before the controller's."""
        events, now = self._machine.events, self._machine.clock.now
        sinks, raises = self._machine.interrupt_sinks, self.raises
        self._inputs[controller, number] = name
        where = f"{controller}.{number}"

        def changed(level: bool) -> None:
            if level:
                raises[name] = raises.get(name, 0) + 1
            if self._follows_lines:
                if level:
                    self._raised[name] = now()
                if events.wants(InterruptChange):
                    events.publish(InterruptChange(now(), name, level, where))
            sinks[name](level)

        return changed

    def publish(self, event: Event) -> None:
        """What a device publishes, with what the device itself cannot know."""
        if isinstance(event, InterruptAcknowledge):
            event = self._acknowledged(event)
        elif isinstance(event, InterruptComplete):
            event = replace(event, line=self._inputs.get((event.device, event.number), ""))
        self._machine.events.publish(event)

    def follow_dma(self, seen: Callable[[str, int, int, bool], None] | None) -> None:
        """Tell `seen` (device, address, size, is_write) of all that devices read and write, before
        they do; or tell nobody."""
        self._on_dma = seen
        self._changed()

    def firmware_call(self, hart: Hart) -> None:
        """A hart calls the built-in firmware, which has not answered yet."""
        if self._machine.events.wants(FirmwareCall):
            firmware = self._machine.firmware
            self._publish(FirmwareCall, hart.index, firmware.name, *firmware.pending(hart))

    # -- what is watched -------------------------------------------------------------------------

    def _changed(self) -> None:
        machine, wants = self._machine, self._machine.events.wants
        for window in machine.bus.windows:
            window.unwatch()
            if wants(MmioAccess):
                window.watch(self._accessed)
        for memory in self._memories:
            memory.watch(wants(DmaTransfer) or self._on_dma is not None)
        machine.clock.on_fire = self._fired if wants(TimerFired) else None
        self._follows_lines = wants(InterruptChange) or wants(InterruptAcknowledge)
        self._trace_traps(wants(Trap) or wants(InterruptTaken))

    def _trace_traps(self, wanted: bool) -> None:
        if wanted == bool(self._traps):
            return
        for trace in self._traps:
            trace.close()
        self._traps = [TrapTrace(hart) for hart in self._machine.cpu] if wanted else []
        self._machine.events.gather = self._gather if wanted else None
        self._taken.clear()

    def _accessed(self, device: Device, offset: int, size: int, value: int, is_write: bool) -> None:
        machine = self._machine
        found = device.slot_at(offset, is_write)
        fields: Sequence[Field] = ()
        if found is None:
            name = f"{offset:#x}"
        else:
            slot, skipped = found
            name = slot.register.instance_name(slot.index)
            if not skipped and size == slot.size:
                fields = slot.register.fields
        machine.events.publish(
            MmioAccess(
                *(machine.clock.now(), device.name, name, offset, size, value, is_write),
                *(machine.turns.index, fields),
            )
        )

    def _fired(self, name: str, deadline: int) -> None:
        self._publish(TimerFired, name, deadline)

    def _publish(self, kind: Callable[..., Event], *values: Any) -> None:
        self._machine.events.publish(kind(self._machine.clock.now(), *values))

    def _acknowledged(self, event: InterruptAcknowledge) -> InterruptAcknowledge:
        if self._machine.events.gather is not None:
            self._gather()
        line = self._inputs.get((event.device, event.number), "")
        raised = self._raised.pop(line, None)
        if raised is None or raised > event.time:  # a restored machine has gone back
            return replace(event, line=line)
        taken = self._taken.get(event.hart, -1)
        return replace(
            event,
            line=line,
            latency=event.time - raised,
            taken=taken - raised if taken >= raised else -1,
        )

    # -- traps, which native code notes ----------------------------------------------------------

    def _gather(self) -> None:
        """Publish the traps that were taken since the last time, in their order."""
        noted = [(record, trace) for trace in self._traps for record in trace.take()]
        if not noted:
            return
        for trace in self._traps:
            if trace.lost:
                hart, lost, trace.lost = trace.hart.index, trace.lost, 0
                self._machine.log(f"trace: {lost} traps of hart {hart} were not noted")
        noted.sort(key=lambda each: each[0].time)
        events = self._machine.events
        for record, trace in noted:
            time, hart, number = to_nanoseconds(record.time), trace.hart.index, record.number
            if record.is_interrupt:
                self._taken[hart] = time
                if events.wants(InterruptTaken):
                    events.publish(InterruptTaken(time, hart, number, record.name, record.pc))
            elif events.wants(Trap):
                events.publish(Trap(time, hart, number, record.name, record.pc, record.value))

"""What there is to see in a machine, as plain data: dictionaries and lists that JSON can carry.

Looking changes nothing: registers are shown as they are stored, and no hook of a device runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hypervisor.device import Device
from hypervisor.device.virtio import VirtioDevice
from tools.monitor.errors import MonitorError

if TYPE_CHECKING:
    from hypervisor.machine import Machine
    from tools.monitor.accesses import Accesses

View = dict[str, Any]
_ARRAY_SHOWN = 64
"""Elements of a register array that are looked through for ones that are not zero."""


def device_of(machine: Machine, name: str) -> Device:
    """The device of that name. Raises MonitorError."""
    if name not in machine.devices:
        raise MonitorError(f"no device '{name}'; there are {', '.join(machine.devices)}")
    return machine.devices[name]


def devices(machine: Machine) -> list[View]:
    """Every device: where it is, its interrupt, and what went through it."""
    windows = {window.device.name: window for window in machine.bus.windows}
    found = []
    for name, entry in machine.description.devices.items():
        device, window = machine.devices[name], windows.get(name)
        found.append(
            {
                "name": name,
                "type": entry.type,
                "summary": entry.model.summary,
                "at": None if window is None else window.base,
                "size": 0 if window is None else window.size,
                "irq": None if entry.interrupt is None else str(entry.interrupt),
                "level": device.irq.level,
                "reads": 0 if window is None else window.reads,
                "writes": 0 if window is None else window.writes,
                "state": device.describe(),
            }
        )
    return found


def registers(machine: Machine, name: str, accesses: Accesses) -> list[View]:
    """A device's registers: value, fields, and the last access that was seen. Of arrays, what is
    not zero."""
    device = device_of(machine, name)
    found = []
    for offset, slot in device.placed():
        register, value = slot.register, slot.store[slot.index]
        shown = register.instance_name(slot.index)
        last = accesses.last(name, shown)
        if register.is_array and not value and last is None and slot.index:
            continue
        if register.is_array and slot.index >= _ARRAY_SHOWN and not value and last is None:
            continue
        found.append(
            {
                "name": shown,
                "offset": offset,
                "size": slot.size,
                "access": register.access,
                "value": value,
                "computed": register.read_hook is not None,
                "fields": register.decode(value),
                "doc": register.doc,
                "last": last,
                "last_fields": register.decode(last["value"]) if last is not None else {},
            }
        )
    return found


def memory_map(machine: Machine) -> list[View]:
    """RAM and device windows by guest-physical address."""
    ram = machine.memory
    found: list[View] = [{"begin": ram.base, "end": ram.base + ram.size, "what": "RAM"}]
    for window in machine.bus.windows:
        what = f"{window.device.name} ({window.device.type})"
        found.append({"begin": window.base, "end": window.end, "what": what})
    return sorted(found, key=lambda each: int(each["begin"]))


def interrupts(machine: Machine) -> list[View]:
    """Every wired line: its level, how often it was raised, and what its controller makes of it."""
    found = []
    for name, entry in machine.description.devices.items():
        if entry.interrupt is None:
            continue
        controller = machine.devices[entry.interrupt.controller]
        found.append(
            {
                "device": name,
                "input": str(entry.interrupt),
                "level": machine.devices[name].irq.level,
                "count": machine.observer.raises.get(name, 0),
                **controller.input_state(entry.interrupt.number),
            }
        )
    return found


def timers(machine: Machine) -> list[View]:
    """The timers that are armed, the next first."""
    now = machine.clock.now()
    return [
        {"name": name, "deadline": deadline, "in": deadline - now}
        for deadline, name in machine.clock.armed
    ]


def virtqueues(machine: Machine) -> list[View]:
    """Every virtqueue: its rings, and how far driver and device are."""
    found = []
    for name, device in machine.devices.items():
        if not isinstance(device, VirtioDevice):
            continue
        for index, queue in enumerate(device.queues):
            found.append(
                {
                    "device": name,
                    "queue": device.queue_names[index],
                    "index": index,
                    "ready": queue.ready,
                    "size": queue.size,
                    "descriptors": queue.descriptors,
                    "driver": queue.driver,
                    "device_ring": queue.device,
                    "taken": queue.next,
                    "available": queue.seen,
                    "used": queue.used,
                    "in_flight": (queue.next - queue.used) & 0xFFFF,
                }
            )
    return found


def harts(machine: Machine) -> list[View]:
    """What every hart does."""
    return [
        {
            "hart": hart.index,
            "pc": hart.pc,
            "function": function_at(machine, hart.pc),
            "state": "stopped" if hart.stopped else "waiting" if hart.waiting else "running",
            "executed": hart.executed,
            "turn": hart.index == machine.turns.index,
        }
        for hart in machine.cpu
    ]


def hart_registers(machine: Machine, index: int) -> dict[str, int]:
    """All registers of a hart by name, pc first."""
    hart = hart_of(machine, index)
    return {"pc": hart.pc, **{name: int(value) for name, value in hart.registers.items()}}


def hart_of(machine: Machine, index: int) -> Any:
    """The hart of that number. Raises MonitorError."""
    if not 0 <= index < len(machine.cpu):
        raise MonitorError(f"no hart {index}; there are {len(machine.cpu)}, from 0")
    return machine.cpu[index]


def function_at(machine: Machine, address: int) -> str | None:
    """`NAME+OFFSET` where a program that was booted says so."""
    for program in machine.programs:
        found = program.symbols.lookup(address) if program.symbols is not None else None
        if found is not None:
            return f"{found[0]}+{found[1]:#x}"
    return None


def walk(machine: Machine, index: int, address: int) -> View:
    """The page walk for a virtual address, table by table, and where it ends."""
    steps, physical = hart_of(machine, index).page_walk(address)
    return {
        "virtual": address,
        "steps": [
            {"level": step.level, "at": step.entry_address, "entry": step.entry} for step in steps
        ],
        "physical": physical,
        "what": None if physical is None else what_is_at(machine, physical),
    }


def what_is_at(machine: Machine, physical: int) -> str:
    """`RAM`, a device's register, or `nothing`."""
    for each in memory_map(machine):
        if each["begin"] <= physical < each["end"]:
            what: str = each["what"]
            return what
    return "nothing"


def status(machine: Machine) -> View:
    """The machine as a whole."""
    return {
        "machine": machine.description.machine,
        "arch": machine.description.cpu.arch,
        "harts": len(machine.cpu),
        "virtual_ns": machine.clock.now(),
        "past": machine.history is not None and machine.history.is_past,
        "executed_bytes": machine.clock.executed,
        "resets": machine.resets,
        "console_written": machine.console.written,
    }


def displays(machine: Machine) -> Iterator[View]:
    """Devices that have to do with graphics, as they describe themselves."""
    for name, device in machine.devices.items():
        if "gpu" in device.type:
            yield {"device": name, "type": device.type, "state": device.describe()}

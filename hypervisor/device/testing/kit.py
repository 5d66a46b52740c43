"""Devices driven by the names of their registers, with no CPU.

    kit = Kit()
    kit.add("plic", "riscv.plic", at=0x0C00_0000)
    kit.add("uart0", "ns16550a", at=0x1000_0000, irq="plic.10", backend="stdio")
    kit.write("uart0.IER", 2)
    kit.write("uart0.THR", 65)
    assert kit.console.output == b"A"
    assert kit.level("uart0")

A name is DEVICE.REGISTER, DEVICE.REGISTER[INDEX] for one of an array, and either with .FIELD at its
end. Accesses are the guest's: hooks run, masks apply, and what the guest may not do is not done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any

import cbor2

from hypervisor.device.device import Device
from hypervisor.device.registers import Field, Register, Slot, registers_of
from hypervisor.device.testing.bench import Bench

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000
"""Nanoseconds, the unit of `advance`."""

_NAME = re.compile(r"([\w-]+)\.(\w+)(?:\[(\d+)\])?(?:\.(\w+))?")


class KitError(Exception):
    """A test asks for what is not there: one sentence with what is."""


@dataclass(frozen=True)
class _Target:
    device: Device
    register: Register
    offset: int
    field: Field | None


@dataclass
class _Lines:
    """What one device did with its interrupt line: (virtual time in ns, level)."""

    changes: list[tuple[int, bool]] = field(default_factory=list)


class Kit(Bench):
    """A board with devices on it, by name. All of `Bench` is here too: `clock`, `memory`,
    `console`, `host`, `control`, `messages`.

    Closes its devices at the end of a `with` block.
    """

    def __init__(self, harts: int = 1, seed: int | None = 1, machine_mode: bool = True) -> None:
        super().__init__(harts, seed, machine_mode)
        self.devices: dict[str, Device] = {}
        self._lines: dict[str, _Lines] = {}
        self._offsets: dict[str, dict[tuple[str, int], int]] = {}

    def __enter__(self) -> Kit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the devices hold of the host."""
        while self.devices:
            self.devices.popitem()[1].close()

    # -- devices ------------------------------------------------------------------------------

    def add(self, name: str, model: type[Device] | str, **options: Any) -> Any:
        """Build a device and reset it. `model`: a class, or an installed type's name. `irq`, as
        in a description, wires its line to a controller that was added before."""
        if name in self.devices:
            raise KitError(f"there already is a device '{name}'")
        found = _installed(model) if isinstance(model, str) else model
        device: Device = self.build(found, name, **options)
        self.devices[name] = device
        self._offsets[name] = {(s.register.name, s.index): at for at, s in device.placed()}
        lines = self._lines[name] = _Lines()
        sink = None
        if device.options.irq is not None:
            controller, _, number = device.options.irq.rpartition(".")
            sink = self._device(controller).input(int(number)).set
        device.irq.connect(partial(self._line_changed, lines, sink))
        return device

    def add_all(self, entries: Iterable[Any]) -> None:
        """Build every device of a description: `kit.add_all(description.devices.values())`."""
        pending = list(entries)
        for entry in sorted(pending, key=lambda entry: entry.interrupt is not None):
            given = entry.options.model_dump(exclude={"type"})
            self.add(entry.name, entry.model, **given)

    def _line_changed(self, lines: _Lines, sink: Any, level: bool) -> None:
        lines.changes.append((self.clock.now(), level))
        if sink is not None:
            sink(level)

    # -- accesses -----------------------------------------------------------------------------

    def read(self, name: str) -> int:
        """A guest's load of a whole register, or of one field of it."""
        target = self._target(name, write=False)
        value = target.device.read(target.offset, target.register.size)
        return value if target.field is None else target.field.of(value)

    def write(self, name: str, value: int) -> None:
        """A guest's store to a whole register. Of a field: a load, and a store with the field
        changed."""
        target = self._target(name, write=True)
        size = target.register.size
        bits = target.field
        largest = target.register.mask if bits is None else bits.mask >> bits.lsb
        if not 0 <= value <= largest:
            raise KitError(f"{value:#x} does not fit into {name}, which takes up to {largest:#x}")
        if bits is not None:
            kept = target.device.read(target.offset, size) & ~bits.mask & ~target.register.w1c
            value = kept | value << bits.lsb
        target.device.write(target.offset, size, value)

    def load(self, address: int, size: int = 4) -> int:
        """A guest's load of `size` bytes from a guest-physical address: of a device, or of RAM."""
        device, offset = self._at(address)
        if device is not None:
            return device.read(offset, size)
        return int.from_bytes(self.memory.read(address, size), "little")

    def store(self, address: int, value: int, size: int = 4) -> None:
        """A guest's store."""
        device, offset = self._at(address)
        if device is not None:
            device.write(offset, size, value)
        else:
            self.memory.write(address, value.to_bytes(size, "little"))

    def _at(self, address: int) -> tuple[Device | None, int]:
        for device in self.devices.values():
            base = device.options.at
            if base is not None and base <= address < base + device.size_for(device.options):
                return device, address - base
        return None, 0

    # -- time and wires -----------------------------------------------------------------------

    def advance(self, nanoseconds: int) -> None:
        """Let virtual time pass, and take what other threads posted."""
        self.clock.advance(nanoseconds)
        self.run_posted()

    def level(self, name: str) -> bool:
        """The level of a device's interrupt line."""
        return self._device(name).irq.level

    def interrupts(self, name: str) -> list[tuple[int, bool]]:
        """Every change of a device's interrupt line since it was added, or since `forget`:
        (virtual time in ns, level)."""
        self._device(name)
        return self._lines[name].changes

    def forget(self, name: str) -> None:
        """Begin `interrupts` anew."""
        self.interrupts(name).clear()

    def await_interrupt(self, name: str, within: int) -> int:
        """Advance to when a device's line is high; how long it took (ns). AssertionError when it
        still is low after `within` ns."""
        begun = self.clock.now()
        end = begun + within
        self.run_posted()
        while not self.level(name):
            due = self.clock.next_deadline()
            if due is None or due > end:
                self.clock.advance(end - self.clock.now())
                raise AssertionError(f"{name} did not interrupt within {within} ns")
            self.advance(due - self.clock.now())
        return self.clock.now() - begun

    def hart_line(self, hart: int, number: int) -> bool:
        """The level of local interrupt `number` of a hart, as controllers drive it."""
        return self.harts[hart].interrupt(number).level

    def settle(self, limit: int = SECOND) -> None:
        """Advance until all host work that devices asked for is done. AssertionError when some is
        still to be done after `limit` ns."""
        end = self.clock.now() + limit
        while self.host.pending:
            due = self.clock.next_deadline()
            if due is None or due > end:
                raise AssertionError(
                    f"{self.host.pending} host requests are not done within {limit} ns"
                )
            self.advance(due - self.clock.now())

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The time and all devices' state, as a machine's snapshot has them."""
        devices = {name: device.save() for name, device in self.devices.items()}
        return cbor2.dumps({"time": self.clock.now(), "devices": devices})

    def restore(self, snapshot: bytes) -> None:
        """Become the kit, with the same devices, that a snapshot is of. Memory is not in it."""
        state = cbor2.loads(snapshot)
        self.clock.restart(state["time"])
        self.host.pending = 0
        for name, saved in state["devices"].items():
            self._device(name).load(saved)

    # -- names --------------------------------------------------------------------------------

    def _device(self, name: str) -> Device:
        if name not in self.devices:
            known = ", ".join(self.devices) or "none"
            raise KitError(f"no device '{name}'; there is: {known}")
        return self.devices[name]

    def _target(self, name: str, write: bool) -> _Target:
        match = _NAME.fullmatch(name)
        if match is None:
            raise KitError(f"'{name}' is not DEVICE.REGISTER, such as uart0.LCR or uart0.LCR.DLAB")
        device = self._device(match[1])
        table = {register.name: register for register in registers_of(type(device))}
        register = table.get(match[2])
        if register is None:
            raise KitError(f"{device.type} has no register '{match[2]}'; it has {', '.join(table)}")
        index = int(match[3] or 0)
        if index >= register.count or (match[3] is not None and not register.is_array):
            what = f"has {register.count}, from 0" if register.is_array else "is no array"
            raise KitError(f"{name}: {match[1]}.{register.name} {what}")
        found = None
        if match[4] is not None:
            fields = {each.name: each for each in register.fields}
            if match[4] not in fields:
                known = ", ".join(fields) or "none"
                raise KitError(
                    f"{match[1]}.{register.name} has no field '{match[4]}'; it has {known}"
                )
            found = fields[match[4]]
        offset = self._offsets[device.name][register.name, index]
        target = _Target(device, register, offset, found)
        self._check_shown(device, target, write)
        return target

    @staticmethod
    def _check_shown(device: Device, target: _Target, write: bool) -> None:
        """Refuse a register that another one stands in for, so that no test means the wrong one."""
        shown = device.slot_at(target.offset, write)
        slot: Slot | None = shown[0] if shown else None
        if slot is None or slot.register is not target.register:
            other = slot.register.name if slot else "none"
            raise KitError(
                f"{device.name}.{target.register.name} cannot be "
                f"{'written' if write else 'read'} now: at its offset is {other}"
            )


def _installed(name: str) -> Any:
    found = {entry.name: entry for entry in entry_points(group="hypervisor.devices")}
    if name not in found:
        raise KitError(f"no device type '{name}'; there are {', '.join(sorted(found))}")
    return found[name].load()

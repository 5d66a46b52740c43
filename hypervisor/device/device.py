"""The base of every device model: a register table, its state, and its wires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from hypervisor.device.board import Board, Timer
from hypervisor.device.device_events import DeviceEvent
from hypervisor.device.line import Line
from hypervisor.device.options import Options
from hypervisor.device.registers import Register, Slot, SystemRegisters, registers_of
from hypervisor.device.tree import Node

_EventType = type[DeviceEvent]
"""Here, as `Device.type` is something else."""


class Device:
    """A model. Subclasses declare registers, give `compatible`, and write the behaviour.

    The machine calls `read` and `write` for guest accesses, `reset` at power-on and reset,
    `save`/`load` for snapshots, `close` at the end. All run on the machine's thread.
    """

    Options: ClassVar[type[Options]] = Options
    type: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    compatible: ClassVar[tuple[str, ...]] = ()
    """The device tree's `compatible`; empty: the device is not in the tree."""
    address_size: ClassVar[int] = 0x1000
    """Bytes of guest-physical address space at `options.at`; 0: none. Where options decide,
    override `size_for`."""
    interrupt_inputs: ClassVar[int] = 0
    """Number of the last input, if other devices' `irq` may name this one."""
    first_input: ClassVar[int] = 1
    fault_points: ClassVar[frozenset[str]] = frozenset()
    """What can be made to go wrong in it besides registers and its interrupt: `requests` (then it
    has a `request_fault`), `packets` (a `packet_fault`), `commands` (a `command_fault`)."""
    private_inputs: ClassVar[bool] = False
    """True for a controller with inputs of which each hart has its own."""
    arch: ClassVar[str | None] = None
    """The architecture whose machines alone can have this device; None: all."""
    live: bool = False
    """True where the host may bring input at any time (a network): idle time then passes at the
    wall's rate."""
    state: ClassVar[tuple[str, ...]] = ()
    """Attributes besides the registers that a snapshot carries (plain data)."""

    def __init__(self, name: str, options: Any, board: Board) -> None:
        self.name = name
        self.options = options
        self.board = board
        self.clock = board.clock
        self.memory = board.memory
        self.irq = Line(f"{name}.irq")
        self.register_bank = 0
        self.timers: dict[str, Timer] = {}
        self.values: dict[str, list[int]] = {}
        self._places: dict[int, list[tuple[Register, int]]] = {}
        """Register and index at each offset."""
        self._slots: dict[int, list[Slot]] = {}
        """The same, of offsets that were asked for: an interrupt controller has thousands."""
        self._reported: set[tuple[int, bool]] = set()
        for register in registers_of(self.__class__):
            self.values[register.name] = [register.reset] * register.count
            for index in range(register.count):
                offset = register.offset + index * register.stride
                self._places.setdefault(offset, []).append((register, index))

    # -- what a subclass overrides ------------------------------------------------------------

    def reset(self) -> None:
        """Back to power-on. Overriders call this first."""
        for register in registers_of(self.__class__):
            self.values[register.name][:] = [register.reset] * register.count
        for timer in self.timers.values():
            timer.cancel()
        self.register_bank = 0
        self.irq.set(False)

    def node(self) -> Node | None:
        """This device in the device tree, None when it is not in it. The machine adds
        `compatible`, `reg` and the interrupt; overriders add what their binding wants."""
        if not self.compatible:
            return None
        base = f"@{self.options.at:x}" if self.options.at is not None else ""
        return Node(f"{self.type.rpartition('.')[2]}{base}", {}, [])

    def extra_nodes(self) -> list[Node]:
        """Nodes of the tree's root that belong to this device besides its own."""
        return []

    @classmethod
    def size_for(cls, options: Any) -> int:
        """Bytes of address space that a device with these options takes."""
        return cls.address_size

    def input(self, number: int) -> Line:
        """Interrupt input `number` of a controller."""
        raise NotImplementedError(f"{self.type} has no interrupt inputs")

    def private_input(self, hart: int, number: int) -> Line:
        """Interrupt input `number` of a controller that belongs to one hart."""
        raise NotImplementedError(f"{self.type} has no private inputs")

    def interrupt_cells(self, number: int) -> list[int]:
        """Input `number` of this controller as the device tree's `interrupts` writes it."""
        return [number]

    def system_registers(self) -> SystemRegisters:
        """AArch64: registers that are reached by MRS and MSR; a hook acts for the accessing
        hart."""
        return {}

    def input_state(self, number: int) -> dict[str, bool | int]:
        """What a controller makes of input `number`, for people: pending, active, enabled,
        priority, as far as it knows them."""
        return {}

    def describe(self) -> list[str]:
        """Lines that tell a person what the device's registers do not."""
        return []

    @property
    def has_power_button(self) -> bool:
        """Whether the machine's power button is on this device."""
        return False

    def press_power_button(self) -> None:
        """Push it, where it is on this device."""

    @property
    def writes_in_place(self) -> str:
        """The file of the host that the guest changes through this device for good, "" where there
        is none: no state of before can be gone back to."""
        return ""

    def restored(self) -> None:
        """Called after `load`: re-raise lines, re-submit host requests."""

    def close(self) -> None:
        """Let go of host resources."""

    # -- accesses -----------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """A guest load of `size` bytes (1, 2, 4, 8) at `offset` from the base."""
        slots = self._slots.get(offset) or self._slots_at(offset)
        if slots:
            slot = slots[0] if len(slots) == 1 else self._banked(slots, write=False)
            if slot.size == size:
                return slot.read()
            if slot.size > size:
                return slot.read() & (1 << 8 * size) - 1
        return self._read_parts(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest store."""
        slots = self._slots.get(offset) or self._slots_at(offset)
        if slots:
            slot = slots[0] if len(slots) == 1 else self._banked(slots, write=True)
            if slot.size == size:
                if value & slot.tagged:
                    self._report_tagged(slot.register, value)
                slot.write(value)
                return
            if slot.size > size:
                self._write_part(slot, (1 << 8 * size) - 1, value)
                return
        self._write_parts(offset, size, value)

    def slot_at(self, offset: int, write: bool = False) -> tuple[Slot, int] | None:
        """The register that covers `offset`, and the byte within it."""
        for back in range(8):
            slots = self._slots.get(offset - back) or self._slots_at(offset - back)
            if slots:
                slot = self._banked(slots, write)
                return (slot, back) if back < slot.size else None
        return None

    def placed(self) -> Iterator[tuple[int, Slot]]:
        """Every register with its offset on this device, which options may have moved."""
        for offset in self._places:
            for slot in self._slots_at(offset):
                yield offset, slot

    def unknown_access(self, offset: int, size: int, value: int | None) -> None:
        """An access where the table has nothing: said once per offset, read as zero."""
        key = (offset, value is not None)
        if key not in self._reported and len(self._reported) < 64:
            self._reported.add(key)
            what = "read of" if value is None else f"write of {value:#x} to"
            self.board.guest_error(f"{self.name}: {size}-byte {what} unknown register {offset:#x}")

    def _slots_at(self, offset: int) -> list[Slot]:
        slots = self._slots.get(offset)
        if slots is None:
            places = self._places.get(offset)
            if places is None:
                return []
            slots = [Slot(self, register, index) for register, index in places]
            self._slots[offset] = slots
        return slots

    def _banked(self, slots: list[Slot], write: bool) -> Slot:
        unusable = "ro" if write else "wo"
        best = slots[0]
        for slot in slots:
            register = slot.register
            if register.bank is not None and register.bank != self.register_bank:
                continue
            best = slot
            if register.access != unusable:
                return slot
        return best

    def _read_parts(self, offset: int, size: int) -> int:
        value = 0
        done = 0
        known = True
        while done < size:
            found = self.slot_at(offset + done)
            if found is None:
                known = False
                done += 1
                continue
            slot, skip = found
            part = min(slot.size - skip, size - done)
            bits = (slot.read() >> 8 * skip) & ((1 << 8 * part) - 1)
            value |= bits << 8 * done
            done += part
        if not known:
            self.unknown_access(offset, size, None)
        return value

    def _write_parts(self, offset: int, size: int, value: int) -> None:
        done = 0
        known = True
        while done < size:
            found = self.slot_at(offset + done, write=True)
            if found is None:
                known = False
                done += 1
                continue
            slot, skip = found
            part = min(slot.size - skip, size - done)
            lane = ((1 << 8 * part) - 1) << 8 * skip
            self._write_part(slot, lane, (value >> 8 * done) << 8 * skip)
            done += part
        if not known:
            self.unknown_access(offset, size, value)

    def _write_part(self, slot: Slot, lane: int, value: int) -> None:
        """Write the bits of a register that are in `lane`."""
        bits = value & lane
        # Bytes the guest does not write keep their value; for write-1-to-clear, zero keeps.
        kept = slot.store[slot.index] & ~lane & ~slot.register.w1c
        if bits & slot.tagged:
            self._report_tagged(slot.register, bits)
        slot.write(kept | bits)

    def _report_tagged(self, register: Register, value: int) -> None:
        for field in register.fields:
            if field.tagged and field.of(value):
                key = (register.offset << 8 | field.lsb, True)
                if key not in self._reported:
                    self._reported.add(key)
                    self.board.guest_error(
                        f"{self.name}: {register.name}.{field.name} is not implemented"
                    )

    # -- helpers for subclasses ---------------------------------------------------------------

    def timer(self, name: str, callback: Any) -> Timer:
        """A timer whose deadline snapshots carry."""
        timer = self.board.clock.timer(f"{self.name}.{name}", callback)
        self.timers[name] = timer
        return timer

    def publish(self, kind: _EventType, *values: Any) -> None:
        """Tell those who watch, if anyone does: an event of `kind` with its fields after the time
        and this device's name."""
        if self.board.wants(kind):
            self.board.publish(kind(self.clock.now(), self.name, *values))

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Plain data from which `load` makes this very state."""
        return {
            "registers": {name: list(values) for name, values in self.values.items()},
            "bank": self.register_bank,
            "timers": {name: timer.deadline for name, timer in self.timers.items()},
            "irq": self.irq.level,
            "state": {name: getattr(self, name) for name in self.state},
        }

    def fingerprint(self) -> dict[str, Any]:
        """The same for equal devices, however they keep what they have: for digests only."""
        return self.save()

    def load(self, state: dict[str, Any]) -> None:
        """Take a saved state; refuse one of another shape with ValueError."""
        self.check_shape(state)
        for name, values in state["registers"].items():
            self.values[name][:] = values
        for name, deadline in state["timers"].items():
            timer = self.timers[name]
            timer.cancel() if deadline is None else timer.arm(deadline)
        for name in self.state:
            setattr(self, name, state["state"][name])
        self.register_bank = state["bank"]
        self.irq.set(state["irq"])
        self.restored()

    def check_shape(self, state: dict[str, Any]) -> None:
        """Refuse a state of another version of this model with ValueError."""
        registers = state["registers"]
        timers, own = set(state["timers"]), set(state["state"])
        wrong = [f"register {name}" for name in registers.keys() ^ self.values.keys()]
        wrong += [
            f"register {name}"
            for name, values in registers.items()
            if name in self.values and len(values) != len(self.values[name])
        ]
        wrong += [f"timer {name}" for name in timers ^ self.timers.keys()]
        wrong += [f"state {name}" for name in own ^ set(self.state)]
        if wrong:
            raise ValueError(
                f"{self.name}: the snapshot is of another version of {self.type}: "
                f"{min(wrong)} differs"
            )

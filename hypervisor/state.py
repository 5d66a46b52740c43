"""A machine's state apart from RAM, as plain data: saved, checked, loaded, digested."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cbor2

from hypervisor.time.clock import to_nanoseconds

if TYPE_CHECKING:
    from hypervisor.machine import Machine


def sha256(machine: Machine) -> str:
    """Digest of RAM, registers and device state; equal for equal machines."""
    digest = hashlib.sha256(machine.memory.digest().encode())
    state = _guest_state(machine)
    state["devices"] = {name: device.fingerprint() for name, device in machine.devices.items()}
    digest.update(cbor2.dumps(state, canonical=True))
    return digest.hexdigest()


def _guest_state(machine: Machine) -> dict[str, Any]:
    return {
        "clock": machine.clock.save(),
        "harts": [hart.save() for hart in machine.cpu],
        "devices": {name: device.save() for name, device in machine.devices.items()},
        "firmware": machine.firmware.save(),
        "faults": machine.faults.save(),
        "turns": machine.turns.save(),
    }


def save(machine: Machine) -> Mapping[str, Any]:
    """Everything but RAM."""
    return {
        **_guest_state(machine),
        "console": machine.console.save(),
        "channels": {name: channel.save() for name, channel in machine.channels.items()},
        "resets": machine.resets,
        "power": [machine.power.off, machine.power.reset],
    }


def check(machine: Machine, state: Mapping[str, Any]) -> None:
    """Refuse, with ValueError, what another version of this program saved."""
    own = save(machine)
    for part in (None, "devices", "clock", "console", "channels"):
        here, there = (own, state) if part is None else (own[part], state[part])
        if different := here.keys() ^ there.keys():
            raise ValueError(f"{min(different)} is not in both")
    if len(state["harts"]) != len(machine.cpu):
        raise ValueError("the number of harts differs")
    for here, there in zip(own["harts"], state["harts"], strict=True):
        if here.keys() ^ there.keys() or here["registers"].keys() ^ there["registers"].keys():
            raise ValueError("the harts' registers differ")
    for name, device in machine.devices.items():
        device.check_shape(state["devices"][name])
    machine.faults.check(state["faults"])


def load(machine: Machine, state: Mapping[str, Any]) -> None:
    """Take `save`'s data; RAM must be loaded before."""
    machine.faults.load(state["faults"])  # their timers must be there
    machine.inputs.moved()
    # Devices look at the time and take input while they load.
    machine.clock.load(state["clock"])
    machine.console.load(state["console"])
    for name, channel in machine.channels.items():
        channel.load(state["channels"][name])
    for name, device in machine.devices.items():
        device.load(state["devices"][name])
    machine.faults.settle()
    for hart, saved in zip(machine.cpu, state["harts"], strict=True):
        hart.load(saved)
    machine.firmware.load(state["firmware"])
    machine.clock.load(state["clock"])  # again: devices armed their timers in another order
    machine.resets = state["resets"]
    machine.power.off, machine.power.reset = state["power"]
    machine.bus.failure = None
    machine.endings.forget()
    machine.turns.load(state["turns"])


def figures(machine: Machine) -> dict[str, Any]:
    """Figures of the run so far."""
    traps: dict[str, int] = {}
    for hart in machine.cpu:
        for cause, count in enumerate(hart.cell.traps):
            if count:
                name = hart.causes.get(cause, f"cause {cause}")
                traps[name] = traps.get(name, 0) + count
    return {
        "virtual_ns": to_nanoseconds(machine.clock.cell.units),
        "executed_bytes": machine.clock.executed,
        "executed_bytes_by_hart": [hart.executed for hart in machine.cpu],
        "traps": traps,
        "firmware_calls": dict(machine.firmware.calls),
        "mmio": {
            window.device.name: {"reads": window.reads, "writes": window.writes}
            for window in machine.bus.windows
        },
        "code_barriers": sum(hart.cell.code_barriers for hart in machine.cpu),
        "translation_flushes": sum(hart.cell.flushes for hart in machine.cpu),
        "dropped_code_pages": sum(hart.cell.dropped_pages for hart in machine.cpu),
        "resets": machine.resets,
        "console_sha256": machine.console.sha256,
    }

"""A machine's devices as its description has them: made, placed on the bus and wired to
controllers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypervisor.board import MachineBoard
from hypervisor.device import Board

if TYPE_CHECKING:
    from hypervisor.machine import Machine


def place_devices(machine: Machine, held: ExitStack) -> None:
    """Make each device and give it its window on the bus; `held` closes it."""
    for name, entry in machine.description.devices.items():
        board: Board = MachineBoard(machine, name)
        device = entry.model(name, entry.options, board)
        held.callback(device.close)
        machine.devices[name] = device
        if device.live:
            machine.live.add(name)
        if entry.options.at is not None and entry.size:
            machine.bus.add(device, entry.options.at, entry.size)


def connect_interrupts(machine: Machine) -> None:
    """Lead each device's interrupt line to its controller, past who watches it."""
    for name, entry in machine.description.devices.items():
        if entry.interrupt is not None:
            controller = machine.devices[entry.interrupt.controller]
            machine.interrupt_sinks[name] = controller.input(entry.interrupt.number).set
            place = (entry.interrupt.controller, entry.interrupt.number)
            machine.devices[name].irq.connect(machine.observer.line(name, *place))

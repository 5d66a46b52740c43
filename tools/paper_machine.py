"""A machine as far as its device tree needs it: no engine, no RAM, no file or network opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from hypervisor.arch import architecture
from hypervisor.config import Description, DeviceEntry
from hypervisor.device import Board, Device, Node
from hypervisor.device.testing import Bench, BenchHart


def device_tree_of(description: Description) -> Node:
    """The tree that the guest of this description gets, without the place of its initial RAM
    disk, which is known when it is loaded."""
    machine = cast(Any, _PaperMachine(description))
    return architecture(description.cpu.arch).tree(machine, None)


@dataclass
class _Ram:
    base: int
    size: int


class _PaperMachine:
    def __init__(self, description: Description) -> None:
        self.description = description
        ram = description.memory.ram
        self.memory = _Ram(ram.at, ram.size)
        self.cpu = [BenchHart(index) for index in range(description.cpu.harts)]
        board = cast(
            Board, Bench(description.cpu.harts, description.seed, description.machine_mode)
        )
        self.devices = {name: _build(entry, board) for name, entry in description.devices.items()}


def _build(entry: DeviceEntry, board: Board) -> Device:
    """A device of which only the base is initialised: models open files and networks after that,
    and what they are in the tree follows from options. One that needs more is built whole."""
    device = entry.model.__new__(entry.model)
    try:
        Device.__init__(device, entry.name, entry.options, board)
        device.node()
        device.extra_nodes()
    except AttributeError:
        device = entry.model(entry.name, entry.options, board)
    return device

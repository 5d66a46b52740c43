"""AArch64 machines: one core started at EL1, the others by PSCI, which is always ours.

Kernels are entered as Linux's Documentation/arch/arm64/booting.rst says: x0 is the device tree,
x1 to x3 are zero, the MMU is off, interrupts are masked. Firmware starts so too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from hypervisor.arch.architecture import Architecture
from hypervisor.boot.aarch64_tree import aarch64_tree, interrupt_controller
from hypervisor.boot.layout import Placement
from hypervisor.boot.loadable import Loadable
from hypervisor.boot.psci import Psci
from hypervisor.cpu import aarch64_selftest
from hypervisor.cpu.aarch64 import Core
from hypervisor.cpu.cells import ClockCell
from hypervisor.device.tree import Node

if TYPE_CHECKING:
    from hypervisor.machine import Machine

VIRTUAL_TIMER, PHYSICAL_TIMER = 27, 30
"""Private inputs of the interrupt controller, as the Base System Architecture numbers them."""


class Aarch64(Architecture):
    def make_hart(self, index: int, clock: ClockCell) -> Core:
        aarch64_selftest.verify()
        return Core(index, clock)

    def make_firmware(self, machine: Machine) -> Psci:
        return Psci(cast("list[Core]", machine.cpu), machine.memory, machine.power)

    def connect(self, machine: Machine) -> None:
        controller = interrupt_controller(machine)
        if controller is None:
            return
        registers = machine.bus.guarded(controller.system_registers())
        for core in cast("list[Core]", machine.cpu):
            if registers:
                core.add_registers(registers)
            inputs = (VIRTUAL_TIMER, PHYSICAL_TIMER)
            lines = [controller.private_input(core.index, number) for number in inputs]
            core.connect_timers(machine.clock, lines)

    def tree(self, machine: Machine, initrd: tuple[int, int] | None) -> Node:
        return aarch64_tree(machine, initrd)

    def wants_tree_first(self, programs: Sequence[Loadable], is_firmware: bool) -> bool:
        """U-Boot does, and runs wherever it is put; what has an address of its own goes there."""
        return is_firmware and programs[0].kind == "raw"

    def enter(self, machine: Machine, placement: Placement, entry: int) -> None:
        machine.cpu[0].begin(entry, placement.tree)

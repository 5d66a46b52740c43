"""RISC-V machines: the start in S-mode over our SBI, or in machine mode at the guest's firmware.

Kernels are entered as the RISC-V boot protocol says (a0 hart id, a1 device tree). Firmware is
entered in M-mode on every hart; a2 then points at OpenSBI's `fw_dynamic_info`, which says where the
next stage is.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, cast

from hypervisor.arch.architecture import Architecture
from hypervisor.boot.layout import Placement
from hypervisor.boot.riscv64_tree import riscv64_tree
from hypervisor.boot.sbi import Sbi
from hypervisor.cpu import selftest
from hypervisor.cpu.cells import ClockCell
from hypervisor.cpu.riscv64 import Hart
from hypervisor.device.tree import Node

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_DYNAMIC_MAGIC = 0x4942534F  # "OSBI"
_DYNAMIC_VERSION = 2
_NEXT_SUPERVISOR = 1


class Riscv64(Architecture):
    reserved = 0x1000
    code_alignment = 2

    def make_hart(self, index: int, clock: ClockCell) -> Hart:
        return Hart(index, clock, selftest.verify().exception_index)

    def connect(self, machine: Machine) -> None:
        """Nothing: a description names all of them, or devices know of harts."""

    def make_firmware(self, machine: Machine) -> Sbi:
        harts = cast("list[Hart]", machine.cpu)
        return Sbi(harts, machine.clock, machine.memory, machine.console, machine.power)

    def tree(self, machine: Machine, initrd: tuple[int, int] | None) -> Node:
        return riscv64_tree(machine, initrd)

    def enter(self, machine: Machine, placement: Placement, entry: int) -> None:
        harts = cast("list[Hart]", machine.cpu)
        if not machine.description.machine_mode:
            harts[0].begin_supervisor(entry, placement.tree)
            return
        info = machine.memory.base + machine.memory.size - self.reserved
        next_stage = placement.entries[1] if len(placement.entries) > 1 else 0
        words = (_DYNAMIC_MAGIC, _DYNAMIC_VERSION, next_stage, _NEXT_SUPERVISOR, 0, 0)
        machine.memory.write(info, struct.pack("<6Q", *words))
        for hart in harts:
            hart.begin(entry, hart.index, placement.tree, info)

"""The device tree of a RISC-V machine (Linux bindings riscv/cpus.yaml)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypervisor.boot.machine_tree import machine_tree
from hypervisor.device.tree import Node

if TYPE_CHECKING:
    from hypervisor.machine import Machine

TIMEBASE = 10_000_000
_ISA = "rv64imafdc_zicntr_zicsr_zifencei"
_EXTENSIONS = ["i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei"]


def riscv64_tree(machine: Machine, initrd: tuple[int, int] | None) -> Node:
    """The root node. `initrd`: (start, end) addresses of the initial RAM disk."""
    return machine_tree(machine, initrd, {"compatible": "riscv-virtio"}, [_cpus(machine)])


def _cpus(machine: Machine) -> Node:
    cpus = Node("cpus", {"#address-cells": 1, "#size-cells": 0, "timebase-frequency": TIMEBASE})
    for hart in machine.cpu:
        controller = Node(
            "interrupt-controller",
            {
                "#address-cells": 0,
                "#interrupt-cells": 1,
                "interrupt-controller": True,
                "compatible": "riscv,cpu-intc",
            },
            label=f"cpu{hart.index}_intc",
        )
        properties: dict[str, Any] = {
            "device_type": "cpu",
            "reg": hart.index,
            "status": "okay",
            "compatible": "riscv",
            "riscv,isa": _ISA,
            "riscv,isa-base": "rv64i",
            "riscv,isa-extensions": _EXTENSIONS,
            "mmu-type": "riscv,sv48",
        }
        cpus.children.append(Node(f"cpu@{hart.index}", properties, [controller]))
    return cpus

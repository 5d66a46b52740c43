"""The device tree of a RISC-V machine, from its parts (Devicetree Specification 0.4; Linux
bindings riscv/cpus.yaml and the devices' own)."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from hypervisor.device.tree import Node, Ref, u64

if TYPE_CHECKING:
    from hypervisor.machine import Machine

TIMEBASE = 10_000_000
_ISA = "rv64imafdc_zicntr_zicsr_zifencei"
_EXTENSIONS = ["i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei"]


def riscv64_tree(machine: Machine, initrd: tuple[int, int] | None) -> Node:
    """The root node. `initrd`: (start, end) addresses of the initial RAM disk."""
    ram = machine.memory
    return Node(
        "",
        {
            "#address-cells": 2,
            "#size-cells": 2,
            "compatible": "riscv-virtio",
            "model": machine.description.machine,
        },
        [
            _chosen(machine, initrd),
            Node(
                f"memory@{ram.base:x}",
                {"device_type": "memory", "reg": u64(ram.base, ram.size)},
            ),
            _cpus(machine),
            _soc(machine),
            *(node for device in machine.devices.values() for node in device.extra_nodes()),
        ],
    )


def _chosen(machine: Machine, initrd: tuple[int, int] | None) -> Node:
    boot = machine.description.boot
    properties: dict[str, Any] = {}
    if boot.command_line:
        properties["bootargs"] = boot.command_line
    console = machine.description.console
    if console is not None and machine.devices[console].compatible:
        node = machine.devices[console].node()
        assert node is not None
        properties["stdout-path"] = f"/soc/{node.name}"
    seed = machine.description.seed
    if seed is None:
        properties["rng-seed"] = os.urandom(64)
    elif boot.rng_seed != "off":
        properties["rng-seed"] = hashlib.sha512(f"rng-seed {seed}".encode()).digest()
    if initrd is not None:
        properties["linux,initrd-start"] = u64(initrd[0])
        properties["linux,initrd-end"] = u64(initrd[1])
    return Node("chosen", properties)


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


def _soc(machine: Machine) -> Node:
    soc = Node(
        "soc",
        {"#address-cells": 2, "#size-cells": 2, "compatible": "simple-bus", "ranges": True},
    )
    for name, device in machine.devices.items():
        node = device.node()
        if node is None:
            continue
        head: dict[str, Any] = {}
        if device.compatible:
            head["compatible"] = list(device.compatible)
        if device.options.at is not None:
            head["reg"] = u64(device.options.at, type(device).size_for(device.options))
        if device.options.irq is not None:
            controller, _, number = device.options.irq.partition(".")
            head["interrupt-parent"] = Ref(controller)
            head["interrupts"] = machine.devices[controller].interrupt_cells(int(number))
        node.properties = {**head, **node.properties}
        node.label = name
        soc.children.append(node)
    return soc

"""The device tree of a machine, from its parts (Devicetree Specification 0.4): what all
architectures have in common."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypervisor.device.tree import Node, Ref, Value, u64

if TYPE_CHECKING:
    from hypervisor.machine import Machine


def machine_tree(
    machine: Machine,
    initrd: tuple[int, int] | None,
    root: Mapping[str, Value],
    processors: Sequence[Node],
) -> Node:
    """The root node, with `root`'s properties and `processors` among its children.

    `initrd`: (start, end) addresses of the initial RAM disk.
    """
    ram = machine.memory
    return Node(
        "",
        {
            "#address-cells": 2,
            "#size-cells": 2,
            **root,
            "model": machine.description.machine,
        },
        [
            _chosen(machine, initrd),
            Node(
                f"memory@{ram.base:x}",
                {"device_type": "memory", "reg": u64(ram.base, ram.size)},
            ),
            *processors,
            _soc(machine),
            *_extra(machine),
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


def _extra(machine: Machine) -> list[Node]:
    """Devices' nodes at the root; what several have in common they give under one name."""
    nodes = [node for device in machine.devices.values() for node in device.extra_nodes()]
    return list({node.name: node for node in nodes}.values())


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

"""The device tree of an AArch64 machine (Linux bindings arm/cpus.yaml, arm/psci.yaml,
timer/arm,arch_timer.yaml)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.boot.machine_tree import machine_tree
from hypervisor.device import Device
from hypervisor.device.tree import Node, Ref, Value

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_TIMERS = (29, 30, 27, 26)
"""Private inputs of the secure physical, physical, virtual and hypervisor timer; EL1 has the second
and the third."""


def aarch64_tree(machine: Machine, initrd: tuple[int, int] | None) -> Node:
    """The root node. `initrd`: (start, end) addresses of the initial RAM disk."""
    root: dict[str, Value] = {"compatible": "linux,dummy-virt"}
    processors = [_cpus(machine), _psci()]
    controller = interrupt_controller(machine)
    if controller is not None:
        root["interrupt-parent"] = Ref(controller.name)
        processors.append(_timer(controller))
    return machine_tree(machine, initrd, root, processors)


def interrupt_controller(machine: Machine) -> Device | None:
    """The device that has private inputs for each core."""
    return next((device for device in machine.devices.values() if device.private_inputs), None)


def _cpus(machine: Machine) -> Node:
    cpus = Node("cpus", {"#address-cells": 1, "#size-cells": 0})
    for core in machine.cpu:
        properties: dict[str, Value] = {
            "device_type": "cpu",
            "reg": core.index,
            "compatible": "arm,cortex-a72",
            "enable-method": "psci",
        }
        cpus.children.append(Node(f"cpu@{core.index}", properties))
    return cpus


def _psci() -> Node:
    return Node("psci", {"compatible": ["arm,psci-1.0", "arm,psci-0.2"], "method": "hvc"})


def _timer(controller: Device) -> Node:
    cells = [cell for number in _TIMERS for cell in controller.interrupt_cells(number)]
    properties: dict[str, Value] = {
        "compatible": "arm,armv8-timer",
        "interrupts": cells,
        "always-on": True,
    }
    return Node("timer", properties)

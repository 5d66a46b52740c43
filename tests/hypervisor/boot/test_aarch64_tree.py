"""The generated tree of an AArch64 machine says what its description says."""

from __future__ import annotations

import struct

import pytest

from hypervisor.boot import fdt
from hypervisor.boot.start import device_tree
from hypervisor.machine import Machine

RET = bytes.fromhex("c0035fd6")
DESCRIPTION = """
machine: board
cpu: {{arch: aarch64, harts: {harts}}}
memory: {{ram: {{at: 0x4000_0000, size: 16M}}}}
boot: {{kernel: guest.bin}}
devices:
  gic: {{type: arm.gicv2, at: 0x0800_0000}}
  uart0: {{type: arm.pl011, at: 0x0900_0000, irq: gic.33, backend: stdio}}
  rtc: {{type: arm.pl031, at: 0x0901_0000, irq: gic.34}}
  gpio: {{type: arm.pl061, at: 0x0903_0000, irq: gic.39}}
"""


@pytest.fixture
def tree(tmp_path):
    """The parsed tree of a machine with so many cores."""

    def build(harts=1):
        (tmp_path / "guest.bin").write_bytes(RET)
        path = tmp_path / "board.yaml"
        path.write_text(DESCRIPTION.format(harts=harts))
        with Machine.load(path) as machine:
            return fdt.parse(device_tree(machine))

    return build


def child(node, *names):
    for name in names:
        (node,) = [each for each in node.children if each.name == name]
    return node


def cells(value):
    return struct.unpack(f">{len(value) // 4}I", value)


@pytest.mark.parametrize("harts", [1, 4])
def test_every_core_is_started_by_psci(tree, harts):
    root = tree(harts)

    cores = child(root, "cpus").children
    assert [cells(core.properties["reg"]) for core in cores] == [(n,) for n in range(harts)]
    assert {core.properties["enable-method"] for core in cores} == {b"psci\0"}
    assert child(root, "psci").properties["method"] == b"hvc\0"


def test_controller_gives_its_own_registers_and_is_everyones_parent(tree):
    root = tree()

    gic = child(root, "soc", "interrupt-controller@8000000")
    assert cells(gic.properties["reg"])[1::4] == (0x0800_0000, 0x0801_0000)
    assert root.properties["interrupt-parent"] == gic.properties["phandle"]


@pytest.mark.parametrize(("harts", "cores"), [(1, 0x1), (4, 0xF)])
def test_timers_interrupt_every_core(tree, harts, cores):
    interrupts = cells(child(tree(harts), "timer").properties["interrupts"])

    assert interrupts[1::3] == (13, 14, 11, 10)
    assert set(interrupts[2::3]) == {cores << 8 | 4}


def test_devices_share_one_clock(tree):
    root = tree()

    assert [node.name for node in root.children].count("apb-pclk") == 1
    clock = child(root, "apb-pclk").properties["phandle"]
    uart = child(root, "soc", "serial@9000000")
    assert uart.properties["clocks"] == clock * 2
    assert cells(uart.properties["interrupts"]) == (0, 1, 4)
    assert child(root, "chosen").properties["stdout-path"] == b"/soc/serial@9000000\0"

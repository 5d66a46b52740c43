"""The generated tree says what the description says, for dtc and for a driver."""

from __future__ import annotations

import struct
import subprocess

import pytest

from hypervisor.boot import fdt
from hypervisor.boot.start import device_tree

PROGRAM = b"\x13\0\0\0"
DEVICES = """
  rtc: {type: goldfish.rtc, at: 0x0010_1000, irq: plic.11}
  rng: {type: virtio.rng, at: 0x1000_8000, irq: plic.8}
"""


@pytest.fixture
def tree(workshop):
    """The parsed tree of a machine described with the given words."""

    def build(**how):
        return fdt.parse(device_tree(workshop.build(PROGRAM, **{"mode": "kernel", **how})))

    return build


def child(node, *names):
    for name in names:
        (node,) = [each for each in node.children if each.name == name]
    return node


def cells(value):
    return struct.unpack(f">{len(value) // 4}I", value)


def test_memory_is_where_the_description_puts_it(tree):
    node = child(tree(ram="16M"), "memory@80000000")

    assert cells(node.properties["reg"]) == (0, 0x8000_0000, 0, 16 << 20)
    assert node.properties["device_type"] == b"memory\0"


@pytest.mark.parametrize("harts", [1, 4, 8])
def test_every_hart_has_its_node_and_interrupt_controller(tree, harts):
    cpus = child(tree(harts=harts), "cpus")

    assert cells(cpus.properties["timebase-frequency"]) == (10_000_000,)
    assert [node.name for node in cpus.children] == [f"cpu@{index}" for index in range(harts)]
    for index, cpu in enumerate(cpus.children):
        controller = child(cpu, "interrupt-controller")
        assert cells(cpu.properties["reg"]) == (index,)
        assert cpu.properties["riscv,isa-base"] == b"rv64i\0"
        assert cells(controller.properties["#interrupt-cells"]) == (1,)
        assert controller.properties["compatible"] == b"riscv,cpu-intc\0"
    handles = {
        cells(child(cpu, "interrupt-controller").properties["phandle"]) for cpu in cpus.children
    }
    assert len(handles) == harts


def test_devices_have_their_address_and_interrupt(tree):
    root = tree(devices=DEVICES)
    soc = child(root, "soc")

    plic = child(soc, "interrupt-controller@c000000")
    for name, address, irq in (
        ("serial@10000000", 0x1000_0000, 10),
        ("rtc@101000", 0x10_1000, 11),
        ("rng@10008000", 0x1000_8000, 8),
    ):
        node = next(n for n in soc.children if n.name.endswith(name.partition("@")[2]))
        assert cells(node.properties["reg"])[:2] == (0, address)
        assert cells(node.properties["interrupts"]) == (irq,)
        assert node.properties["interrupt-parent"] == plic.properties["phandle"]


def test_interrupt_controller_names_the_supervisor_input_of_every_hart(tree):
    root = tree(harts=2)
    handles = [
        cells(child(cpu, "interrupt-controller").properties["phandle"])[0]
        for cpu in child(root, "cpus").children
    ]

    extended = cells(
        child(root, "soc", "interrupt-controller@c000000").properties["interrupts-extended"]
    )

    pairs = list(zip(extended[::2], extended[1::2], strict=True))
    assert [pair for pair in pairs if pair[1] == 9] == [(handle, 9) for handle in handles]


def test_machine_mode_timer_is_for_machine_mode_only(tree):
    supervisor = [node.name for node in child(tree(), "soc").children]
    machine = [node.name for node in child(tree(mode="firmware"), "soc").children]

    assert "clint@2000000" not in supervisor
    assert "clint@2000000" in machine


def test_console_is_the_chosen_output(tree):
    root = tree()
    path = child(root, "chosen").properties["stdout-path"].rstrip(b"\0").decode()

    node = child(root, *path.strip("/").split("/"))

    assert node.properties["compatible"] == b"ns16550a\0"


def test_command_line_is_handed_over(tree):
    chosen = child(tree(boot=", command_line: 'console=ttyS0 quiet'"), "chosen")

    assert chosen.properties["bootargs"] == b"console=ttyS0 quiet\0"


def test_without_a_command_line_there_is_none(tree):
    assert "bootargs" not in child(tree(), "chosen").properties


def seed_of(root):
    return child(root, "chosen").properties.get("rng-seed")


def test_seed_is_the_same_in_every_run_and_another_for_another_number(tree):
    default, again = seed_of(tree()), seed_of(tree())
    one, two = seed_of(tree(boot=", rng_seed: 1")), seed_of(tree(boot=", rng_seed: 2"))

    assert default == again == one != two
    assert len(default) == 64


def test_seed_of_the_host_differs_and_seed_off_is_none(tree):
    one, other = (seed_of(tree(boot=", rng_seed: host")) for _ in range(2))

    assert one != other
    assert seed_of(tree(boot=", rng_seed: off")) is None


def test_power_off_and_reboot_go_by_the_finisher(tree):
    root = tree()

    finisher = child(root, "soc", "test@100000").properties["phandle"]

    for name, value in (("poweroff", 0x5555), ("reboot", 0x7777)):
        properties = child(root, name).properties
        assert properties["regmap"] == finisher
        assert cells(properties["value"]) == (value,)


@pytest.mark.parametrize("mode", ["kernel", "firmware"])
def test_dtc_has_nothing_to_complain_of(workshop, mode):
    blob = device_tree(workshop.build(PROGRAM, mode=mode, harts=2, devices=DEVICES))

    result = subprocess.run(
        ["dtc", "-I", "dtb", "-O", "dts", "-"], input=blob, capture_output=True, check=False
    )

    assert result.returncode == 0
    assert result.stderr.decode() == ""

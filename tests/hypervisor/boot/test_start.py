"""What is in RAM and in the registers when the guest's first instruction runs."""

from __future__ import annotations

import struct

import pytest

from hypervisor.boot import fdt
from hypervisor.boot.loadable import BootError
from hypervisor.device.tree import Node
from hypervisor.machine import Machine

RAM = 0x8000_0000
PROGRAM = b"\x13\0\0\0" * 16


def tree_of(machine, register="a1"):
    address = machine.cpu[0].registers[register]
    size = struct.unpack(">I", machine.memory.read(address + 4, 4))[0]
    return fdt.parse(machine.memory.read(address, size))


def chosen(machine):
    return next(node for node in tree_of(machine).children if node.name == "chosen").properties


def test_kernel_is_entered_in_supervisor_mode_on_the_first_hart(workshop):
    machine = workshop.build(PROGRAM, mode="kernel", harts=3)

    hart = machine.cpu[0]

    assert machine.memory.read(RAM, len(PROGRAM)) == PROGRAM
    assert (hart.pc, hart.registers["priv"], hart.registers["a0"]) == (RAM, 1, 0)
    assert [each.stopped for each in machine.cpu] == [False, True, True]
    assert tree_of(machine).properties["model"] == b"board\0"


def test_firmware_is_entered_in_machine_mode_on_every_hart(workshop):
    machine = workshop.build(PROGRAM, harts=3)

    states = [
        (hart.pc, hart.registers["priv"], hart.registers["a0"], hart.stopped)
        for hart in machine.cpu
    ]

    assert states == [(RAM, 3, index, False) for index in range(3)]
    assert tree_of(machine).properties["model"] == b"board\0"


def test_firmware_is_told_of_the_kernel_behind_it(workshop):
    (workshop.folder / "next.bin").write_bytes(b"next")
    machine = workshop.build(PROGRAM, boot=", kernel: next.bin", ram="8M")

    address = machine.cpu[0].registers["a2"]
    magic, version, entry, mode, options, hart = struct.unpack(
        "<6Q", machine.memory.read(address, 48)
    )

    assert (magic, version, mode, options, hart) == (0x4942534F, 2, 1, 0, 0)
    assert machine.memory.read(entry, 4) == b"next"
    assert entry % (2 << 20) == 0


def test_firmware_without_a_kernel_is_told_of_none(workshop):
    machine = workshop.build(PROGRAM)

    address = machine.cpu[0].registers["a2"]

    assert struct.unpack("<6Q", machine.memory.read(address, 48))[:3] == (0x4942534F, 2, 0)


@pytest.mark.parametrize("mode", ["kernel", "firmware"])
def test_entry_of_the_description_is_where_it_starts(workshop, mode):
    machine = workshop.build(PROGRAM, mode=mode, boot=", entry: 0x80000010")

    assert machine.cpu[0].pc == RAM + 0x10


def test_initrd_is_where_the_tree_says(workshop):
    (workshop.folder / "initrd").write_bytes(b"disk" * 1000)
    machine = workshop.build(PROGRAM, mode="kernel", boot=", initrd: initrd", ram="8M")

    properties = chosen(machine)
    start, end = (
        int.from_bytes(properties[f"linux,initrd-{name}"], "big") for name in ("start", "end")
    )

    assert machine.memory.read(start, end - start) == b"disk" * 1000


def test_files_are_loaded_where_they_are_wanted(workshop):
    (workshop.folder / "blob").write_bytes(b"here")
    machine = workshop.build(PROGRAM, boot=", load: [{file: blob, at: 0x80012345}]")

    assert machine.memory.read(0x8001_2345, 4) == b"here"


def test_file_that_does_not_fit_in_ram_is_refused(workshop):
    (workshop.folder / "blob").write_bytes(b"here")
    path = workshop.describe(PROGRAM, boot=", load: [{file: blob, at: 0x800ffffd}]")

    with pytest.raises(BootError, match="blob: does not fit in RAM at 0x800ffffd"):
        Machine.load(path)


@pytest.mark.parametrize("mode", ["kernel", "firmware"])
@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 0x1000, 8 << 20])
def test_program_larger_than_ram_is_refused(workshop, mode, size):
    path = workshop.describe(bytes(size), mode=mode)

    with pytest.raises(BootError, match=r"RAM of .* is too small: .*guest.bin"):
        Machine.load(path)


def test_tree_of_a_file_is_handed_over_as_it_is(workshop):
    blob = fdt.flatten(Node("", {"model": "mine"}, []))
    (workshop.folder / "mine.dtb").write_bytes(blob)
    machine = workshop.build(PROGRAM, mode="kernel", boot=", dtb: mine.dtb")

    address = machine.cpu[0].registers["a1"]

    assert machine.memory.read(address, len(blob)) == blob


@pytest.mark.parametrize("content", [b"", b"not a tree at all", b"\xd0\x0d\xfe\xed" + bytes(60)])
def test_file_that_is_no_tree_is_refused(workshop, content):
    (workshop.folder / "mine.dtb").write_bytes(content)
    path = workshop.describe(PROGRAM, boot=", dtb: mine.dtb")

    with pytest.raises(BootError, match=r"mine\.dtb.*is not a device tree blob"):
        Machine.load(path)


def test_reset_takes_a_program_that_was_changed_in_between(workshop):
    machine = workshop.build(PROGRAM)
    (workshop.folder / "guest.bin").write_bytes(b"another program")
    machine.memory.write(RAM + 0x8_0000, b"left behind")

    machine.reset()

    assert machine.memory.read(RAM, 15) == b"another program"
    assert machine.memory.read(RAM + 0x8_0000, 11) == bytes(11)

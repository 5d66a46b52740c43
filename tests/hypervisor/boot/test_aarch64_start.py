"""Every form in which an AArch64 machine takes a program, and the state it is entered in (Linux's
Documentation/arch/arm64/booting.rst)."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys

import pytest
from elftools.elf.elffile import ELFFile

from hypervisor.boot.loadable import BootError
from hypervisor.machine import Machine

RAM = 0x4000_0000
AARCH64, RISCV64 = 183, 243
EL1, MASKED = 1 << 2, 0x3C0
REPORT = """
    .globl _start
_start:
    mov x20, x0
    adr x21, _start
    orr x22, x1, x2
    orr x22, x22, x3
    mrs x23, currentel
    mrs x24, daif
    mrs x25, sctlr_el1
    ldr w26, [x20]          // the device tree's magic
    movz x0, #0x8400, lsl #16
    movk x0, #8             // SYSTEM_OFF
    hvc #0
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Code that runs anywhere: it notes what it was entered with, and powers off."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "a.S").write_text(REPORT)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-freestanding-none"]
    command += ["-nostdlib", "-static", "-o", folder / "a.elf", folder / "a.S"]
    subprocess.run(command, check=True)
    with (folder / "a.elf").open("rb") as file:
        return ELFFile(file).get_section_by_name(".text").data()


@pytest.fixture
def boot(tmp_path):
    """`boot(text, **files)`: a machine with the description's `boot` of `text`, beside files of
    these names."""
    machines = []

    def load(text, **files):
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        (tmp_path / "board.yaml").write_text(
            "machine: board\ncpu: {arch: aarch64}\n"
            "memory: {ram: {at: 0x4000_0000, size: 16M}}\n"
            f"boot: {{{text}}}\n"
            "devices:\n  uart0: {type: arm.pl011, at: 0x0900_0000, backend: stdio}\n"
        )
        machines.append(Machine.load(tmp_path / "board.yaml"))
        return machines[-1]

    yield load
    for machine in machines:
        machine.close()


@pytest.fixture
def linux(make_image, report):
    """A Linux Image around the report, which begins with a jump over the header."""
    image = make_image(magic=b"ARM\x64", text_offset=0, image_size=0x10_0000, body=report)
    return struct.pack("<I", 0x1400_0010) + image[4:]


def entered(machine):
    """Where the program ran, and the state it found."""
    outcome = machine.run(timeout=60)
    registers = machine.cpu[0].registers
    assert outcome.kind == "power-off"
    assert registers["x20"] % 8 == 0
    assert registers["x26"] == 0xEDFE_0DD0
    assert registers["x22"] == 0
    assert (registers["x23"], registers["x24"]) == (EL1, MASKED)
    assert registers["x25"] & 1 == 0
    return registers["x21"]


def test_linux_image_runs_at_its_offset_from_2_mib(boot, linux):
    assert entered(boot("kernel: Image", Image=linux)) == RAM + 64


def test_linux_image_of_old_runs_at_512_kib(boot, linux):
    old = linux[:16] + bytes(8) + linux[24:]

    assert entered(boot("kernel: Image", Image=old)) == RAM + 0x8_0000 + 64


def test_packed_linux_image_is_unpacked(boot, linux):
    assert entered(boot("kernel: Image", Image=gzip.compress(linux))) == RAM + 64


def test_efi_zboot_image_is_unpacked(boot, linux, make_zboot):
    packed = make_zboot(gzip.compress(linux), b"gzip")

    assert entered(boot("kernel: vmlinuz", vmlinuz=packed)) == RAM + 64


@pytest.mark.parametrize("kind", ["kernel", "firmware"])
def test_elf_program_runs_at_its_address(boot, report, make_elf, kind):
    at = RAM + 0x34_5000
    program = make_elf(segments=[(at, at, report, 0x1000)], entry=at, machine=AARCH64)

    assert entered(boot(f"{kind}: program", program=program.build())) == at


def test_elf_of_virtual_addresses_runs_at_its_physical_one(boot, report, make_elf):
    virtual, at = 0xFFFF_8000_0801_0000, RAM + 0x21_0000
    kernel = make_elf(segments=[(virtual, at, report, 0x1000)], entry=virtual, machine=AARCH64)

    assert entered(boot("kernel: vmlinux", vmlinux=kernel.build())) == at


def test_raw_kernel_runs_at_the_start_of_ram(boot, report):
    assert entered(boot("kernel: raw", raw=report)) == RAM


def test_raw_firmware_finds_the_tree_at_the_start_of_ram(boot, report):
    machine = boot("firmware: raw", raw=report)

    assert entered(machine) == RAM + 0x20_0000
    assert machine.memory.read(RAM, 4) == b"\xd0\x0d\xfe\xed"


def test_raw_program_runs_where_it_is_loaded(boot, report):
    text = "load: [{file: raw, at: 0x4012_3450}], entry: 0x4012_3450"

    assert entered(boot(text, raw=report)) == 0x4012_3450


def test_initial_ram_disk_is_where_the_tree_says(boot, linux):
    machine = boot("kernel: Image, initrd: disk", Image=linux, disk=b"disk" * 1000)

    entered(machine)
    tree = machine.memory.read(machine.cpu[0].registers["x20"], 0x1_0000)

    at = tree.index(b"linux,initrd-start")
    assert at > 0
    assert b"disk" * 1000 in machine.memory.read(RAM, 16 << 20)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda image: image[:56] + b"RSC\x05" + image[60:],
            "is for riscv64, this machine is aarch64",
        ),
        (lambda image: image[:24] + b"\x01" + image[25:], "is a big-endian kernel"),
        (lambda image: gzip.compress(image)[:-9], "its gzip data is cut short"),
        (lambda image: gzip.compress(image)[:40] + b"x" * 40, "its gzip data is damaged"),
        (lambda image: image[:16] + struct.pack("<Q", 32 << 20) + image[24:], "is too small"),
        (lambda image: b"", "is empty"),
    ],
)
def test_image_that_cannot_run_is_refused(boot, linux, change, complaint):
    with pytest.raises(BootError, match=rf"Image.*{complaint}|{complaint}.*Image"):
        boot("kernel: Image", Image=change(linux))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"machine": RISCV64}, "is for riscv64, this machine is aarch64"),
        ({"machine": 62}, "is for x86_64, this machine is aarch64"),
        ({"segments": [(8, 8, b"text", 16)], "entry": 8}, "wants 0x8-0x17, which is not RAM"),
        ({"entry": RAM + 0x100}, "its entry 0x40000100 is in none of its segments"),
        ({"bits": 1}, "is not a 64-bit little-endian ELF file"),
    ],
)
def test_elf_that_cannot_run_is_refused(boot, make_elf, changes, complaint):
    fields = {"segments": [(RAM, RAM, b"text", 16)], "entry": RAM, "machine": AARCH64} | changes

    with pytest.raises(BootError, match=rf"program: {complaint}"):
        boot("kernel: program", program=make_elf(**fields).build())


def test_raw_program_outside_ram_is_refused(boot, report):
    with pytest.raises(BootError, match="raw: does not fit in RAM at 0x40fffff0"):
        boot("load: [{file: raw, at: 0x40ff_fff0}], entry: 0x40ff_fff0", raw=report)


def test_entry_between_instructions_is_refused(boot, report):
    said = "raw: nothing can be entered at 0x40000002: instructions are at multiples of 4"

    with pytest.raises(BootError, match=said):
        boot("kernel: raw, entry: 0x4000_0002", raw=report)

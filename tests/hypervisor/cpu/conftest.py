"""A guest in assembler on a bare AArch64 core, and what its exception handlers found."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cache

import pytest
from elftools.elf.elffile import ELFFile

from hypervisor.cpu.aarch64 import Core
from hypervisor.cpu.cells import NEVER, Reason
from hypervisor.memory import Memory
from hypervisor.time.clock import VirtualClock

RAM = 0x4000_0000
LINK = f"SECTIONS {{ . = {RAM:#x}; .text : {{ *(.text*) }} }}"

BEGINNING = (
    """
.macro to_el0                      // go on in EL0
    msr spsr_el1, xzr
    adr x2, user\\@
    msr elr_el1, x2
    mov x2, #0
    eret
user\\@:
.endm
.macro here                        // note where the next instruction is
    adr x19, at\\@
at\\@:
.endm
    adr x0, vectors
    msr vbar_el1, x0
    ldr x1, =0x40008000
    ldr x0, =main
    add x0, x0, x2
    mov x2, #0
    br x0
    .ltorg
    .balign 2048
vectors:
"""
    + "\n".join(
        f"""
    .balign 128
    mov x25, #{vector}
    mrs x20, esr_el1
    mrs x21, elr_el1
    mrs x22, far_el1
    mrs x23, spsr_el1
    mrs x24, daif
    hvc #0"""
        for vector in range(0, 0x800, 0x80)
    )
    + """
    .balign 2048
main:
"""
)
SLOT = 256
"""Bytes from one of several pieces of code to the next."""


@dataclass
class Taken:
    """What a handler found."""

    core: Core

    def __getattr__(self, name: str) -> int:
        register = {"vector": "x25", "esr": "x20", "elr": "x21", "far": "x22"}
        register |= {"spsr": "x23", "daif": "x24", "at": "x19"}
        return self.core.registers[register[name]]

    @property
    def exception_class(self) -> int:
        return self.esr >> 26

    @property
    def syndrome(self) -> int:
        return self.esr & 0x1FF_FFFF


@pytest.fixture(scope="session")
def assemble_pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exceptions")
    (folder / "link.ld").write_text(LINK)

    @cache
    def run(pieces):
        source = "".join(f" .balign {SLOT}\n{piece}\n" for piece in pieces)
        (folder / "a.S").write_text(f".globl _start\n_start:\n{BEGINNING}{source}\n")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-freestanding-none"]
        command += ["-mcpu=cortex_a76", "-nostdlib", "-static", f"-Wl,-T,{folder / 'link.ld'}"]
        subprocess.run([*command, "-o", folder / "a.elf", folder / "a.S"], check=True)
        with (folder / "a.elf").open("rb") as file:
            return ELFFile(file).get_section_by_name(".text").data()

    return run


@pytest.fixture
def take(assemble_pieces):
    """`take(source, lines)`: run `source` with these interrupt lines high until a handler calls the
    firmware. `among`: sources that are assembled with it in one go; `registers`: what the guest
    finds in them."""
    held = []

    def run(source, lines=(), among=None, **registers):
        pieces = tuple(among or [source])
        clock = VirtualClock(0)
        memory = Memory(RAM, 1 << 20)
        memory.on_write.append(clock.cell)
        core = Core(0, clock.cell)
        held.extend((core, memory))
        core.map_ram(RAM, memory.size, memory.host_address)
        memory.write(RAM, assemble_pieces(pieces))
        core.reset(firmware=False)
        core.begin(RAM, 0, 0, SLOT * pieces.index(source))
        for name, value in registers.items():
            core.registers[name] = value
        for number in lines:
            core.interrupt(number).set(True)
        reason = Reason.DEADLINE
        for _ in range(10):
            core.take_interrupt_lines()
            clock.cell.deadline = NEVER
            reason = core.run()
            if reason == Reason.FIRMWARE_CALL:
                break
        assert reason == Reason.FIRMWARE_CALL, f"no handler was entered; pc {core.pc:#x}"
        return Taken(core)

    yield run
    for each in held:
        each.close()

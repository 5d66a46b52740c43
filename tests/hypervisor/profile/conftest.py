"""A bare-metal guest in C, compiled with debug information and frame pointers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("guest.c")
LINKER_SCRIPT = """
ENTRY(_start)
SECTIONS { . = 0x80000000; .text : { *(.text.start) *(.text*) } .data : { *(.data* .bss*) } }
"""


@pytest.fixture(scope="session")
def guest_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest as an ELF program."""
    folder = tmp_path_factory.mktemp("guest")
    (folder / "guest.ld").write_text(LINKER_SCRIPT)
    output = folder / "guest.elf"
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none"),
            *("-mcpu=generic_rv64+m+a+c", "-mcmodel=medany", "-nostdlib", "-static"),
            *("-O1", "-g", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"),
            *("-fno-sanitize=all", "-fno-stack-protector", "-fno-inline", "-ffreestanding"),
            *("-fno-optimize-sibling-calls", f"-Wl,-T,{folder / 'guest.ld'}"),
            *("-o", str(output), str(SOURCE)),
        ],
        check=True,
    )
    return output


@pytest.fixture
def guest(guest_file, workshop):
    """A machine that is about to run it."""
    return workshop.build(guest_file.read_bytes())

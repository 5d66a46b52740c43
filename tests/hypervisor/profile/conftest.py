"""A bare-metal guest in C, compiled with debug information and frame pointers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypervisor.machine import Machine

AARCH64 = """machine: board
cpu: {{arch: aarch64}}
memory: {{ram: {{at: 0x4000_0000, size: 1M}}}}
boot: {{kernel: {file}}}
devices:
  gic: {{type: arm.gicv2, at: 0x0800_0000}}
"""
SOURCE = Path(__file__).with_name("guest.c")
LINKER_SCRIPT = """
ENTRY(_start)
SECTIONS {{ . = {base}; .text : {{ *(.text.start) *(.text*) }} .data : {{ *(.data* .bss*) }} }}
"""


def compiled(folder: Path, target: str, base: int, *options: str) -> Path:
    """The guest as an ELF program for `target` at address `base`."""
    (folder / "guest.ld").write_text(LINKER_SCRIPT.format(base=base))
    output = folder / "guest.elf"
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", f"{target}-freestanding-none"),
            *("-O1", "-g", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"),
            *("-fno-sanitize=all", "-fno-stack-protector", "-fno-inline", "-ffreestanding"),
            *("-fno-optimize-sibling-calls", "-nostdlib", "-static", *options),
            *(f"-Wl,-T,{folder / 'guest.ld'}", "-o", str(output), str(SOURCE)),
        ],
        check=True,
    )
    return output


@pytest.fixture(scope="session")
def guest_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For riscv64."""
    folder = tmp_path_factory.mktemp("guest")
    options = ("-mcpu=generic_rv64+m+a+c", "-mcmodel=medany")
    return compiled(folder, "riscv64", 0x8000_0000, *options)


@pytest.fixture(scope="session")
def aarch64_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For AArch64, without the vector registers that nobody has switched on."""
    folder = tmp_path_factory.mktemp("guest")
    return compiled(folder, "aarch64", 0x4000_0000, "-mgeneral-regs-only")


@pytest.fixture
def aarch64(aarch64_file: Path) -> Iterator[Callable[[], Machine]]:
    """Builds machines that are about to run it."""
    path = aarch64_file.with_name("board.yaml")
    path.write_text(AARCH64.format(file=aarch64_file))
    with ExitStack() as machines:
        yield lambda: machines.enter_context(Machine.load(path))


@pytest.fixture
def guest(guest_file, workshop):
    """A machine that is about to run it."""
    return workshop.build(guest_file.read_bytes())

"""The bundled bare-metal guest: its sources make its bytes, and it does what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import configs
from hypervisor.boot.loader import load_file

GUESTS = Path(configs.__file__).parent / "guests"
GUEST = GUESTS / "hello-riscv64.elf"


def test_its_sources_rebuild_it_byte_for_byte(tmp_path):
    command = [sys.executable, GUESTS / "build.py", tmp_path]

    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)

    assert (tmp_path / GUEST.name).read_bytes() == GUEST.read_bytes()


def test_it_is_small():
    assert GUEST.stat().st_size < 16 << 10


def test_it_is_loaded_at_the_start_of_ram():
    program = load_file(GUEST, "riscv64")

    assert (program.kind, program.entry) == ("elf", 0x8000_0000)


CONVERSATION = """
Hello from bare metal: no operating system, RISC-V machine mode.
This machine: riscv-virtio,qemu, 1 hart, 64 MiB of RAM.
Type help for what it can do.

hello> primes 1000
168 primes up to 1000, the largest is 997
hello> sleep 5
slept 5 ms
hello> fault
trap 2: illegal instruction at {pc}
trap 3: breakpoint at {pc}
trap 11: environment call from M-mode at {pc}
trap 5: load access fault on 0x8 at {pc}
trap 7: store access fault on 0x10 at {pc}
still here
hello> nonsense
no such command: nonsense (try help)
hello> poweroff
goodbye
"""


@pytest.mark.guest
def test_another_machine_runs_it_the_same():
    command = ["qemu-system-riscv64", "-M", "virt", "-m", "64M", "-bios", "none"]
    command += ["-kernel", os.fspath(GUEST), "-nographic", "-no-user-config"]
    typed = b"primes 1000\rsleep 5\rfault\rnonsense\rpoweroff\r"

    run = subprocess.run(command, input=typed, capture_output=True, check=True, timeout=60)

    lines = run.stdout.decode().replace("\r\n", "\n").splitlines()
    shown = [line.partition(" at 0x8000")[0] for line in lines]
    expected = [line.removesuffix(" at {pc}") for line in CONVERSATION.splitlines()]
    assert shown == expected

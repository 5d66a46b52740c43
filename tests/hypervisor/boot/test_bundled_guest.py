"""The bundled bare-metal guest: its sources make its bytes, and it does what it says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

import configs
from hypervisor.boot.loader import load_file
from hypervisor.machine import Machine

GUESTS = Path(configs.__file__).parent / "guests"
CONFIG = GUESTS.parent / "riscv64-hello.yaml"
GUEST = GUESTS / "hello-riscv64.elf"


def test_sources_rebuild_each_guest_byte_for_byte(tmp_path):
    command = [sys.executable, GUESTS / "build.py", tmp_path]

    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)

    rebuilt = {guest.name: guest.read_bytes() for guest in tmp_path.glob("*.elf")}
    assert rebuilt == {guest.name: guest.read_bytes() for guest in GUESTS.glob("*.elf")}
    assert GUEST.name in rebuilt


@pytest.mark.parametrize("guest", sorted(GUESTS.glob("*.elf")), ids=lambda guest: guest.stem)
def test_it_is_small(guest):
    assert guest.stat().st_size < 16 << 10


def test_it_is_loaded_at_the_start_of_ram():
    program = load_file(GUEST, "riscv64")

    assert (program.kind, program.entry) == ("elf", 0x8000_0000)


COMMANDS = ["primes 1000", "sleep 5", "fault", "mem", "nonsense", "reboot", "help", "poweroff"]
BANNER = """
Hello from bare metal: no operating system, RISC-V machine mode.
This machine: {model}, 1 hart, 64 MiB of RAM.
Type help for what it can do.

"""
TALK = """\
hello> primes 1000
168 primes up to 1000, the largest is 997
hello> sleep 5
slept 5 ms
hello> fault
trap 2: illegal instruction at *
trap 3: breakpoint at *
trap 11: environment call from M-mode at *
trap 5: load access fault on 0x8 at *
trap 7: store access fault on 0x10 at *
still here
hello> mem
64 MiB of RAM at *
this program ends at *
256 KiB tested: 0 wrong words
hello> nonsense
no such command: nonsense (try help)
hello> reboot
resetting
"""
TALK_AFTER_RESET = """\
hello> help
  help      this list
  time      the time since power-on
  mem       how much memory there is, and a test of some
  primes    N: the prime numbers up to N
  sleep     MS: wait for the timer
  fault     provoke traps and survive them
  reboot    reset the machine
  poweroff  switch the machine off
hello> poweroff
goodbye
"""


def expected(model: str) -> str:
    banner = BANNER.format(model=model)
    return banner + TALK + banner + TALK_AFTER_RESET


def comparable(output: bytes) -> str:
    """What was printed, without carriage returns and addresses that a rebuild may move."""
    text = output.decode().replace("\r", "")
    return re.sub(r" at 0x8000....$| at 0x8001....$", " at *", text, flags=re.MULTILINE)


def test_it_talks_on_our_machine():
    with Machine.load(CONFIG) as machine:
        for command in COMMANDS:
            machine.console.expect("hello> ")
            machine.console.send(f"{command}\r")
        outcome = machine.run(timeout=60)

        assert outcome.kind == "power-off"
        assert comparable(machine.console.output) == expected("riscv64-virt")


@pytest.mark.guest
def test_it_talks_the_same_on_qemu():
    command = ["qemu-system-riscv64", "-M", "virt", "-m", "64M", "-bios", "none"]
    command += ["-kernel", os.fspath(GUEST), "-nographic", "-no-user-config"]

    qemu = pexpect.spawn(shlex.join(command), timeout=60)
    output = b""
    for line in COMMANDS:
        qemu.expect_exact("hello> ")
        output += qemu.before + qemu.after
        qemu.send(f"{line}\r")
    qemu.expect(pexpect.EOF)

    assert comparable(output + qemu.before) == expected("riscv-virtio,qemu")

"""The bundled bare-metal guests: their sources make their bytes, and they do what they say."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

import configs
from hypervisor.boot.loader import load_file
from hypervisor.machine import Machine

GUESTS = Path(configs.__file__).parent / "guests"


@dataclass(frozen=True)
class Guest:
    """What is different on the architectures."""

    arch: str
    entry: int
    model: str
    mode: str
    cpu: str
    faults: str
    qemu: tuple[str, ...]
    qemu_model: str

    @property
    def file(self) -> Path:
        return GUESTS / f"hello-{self.arch}.elf"

    @property
    def config(self) -> Path:
        return GUESTS.parent / f"{self.arch}-hello.yaml"


GUEST_OF = {
    "riscv64": Guest(
        "riscv64",
        0x8000_0000,
        "riscv64-virt",
        "RISC-V machine mode",
        "hart",
        """\
trap 2: illegal instruction at *
trap 3: breakpoint at *
trap 11: environment call from M-mode at *
trap 5: load access fault on 0x8 at *
trap 7: store access fault on 0x10 at *
""",
        ("qemu-system-riscv64", "-M", "virt", "-bios", "none"),
        "riscv-virtio,qemu",
    ),
    "aarch64": Guest(
        "aarch64",
        0x4020_0000,
        "aarch64-virt",
        "AArch64 EL1",
        "core",
        """\
trap 0x0: undefined instruction at *
trap 0x3c: breakpoint instruction at *
trap 0x15: supervisor call at *
trap 0x25: data abort of a load on 0xb000008 at *
trap 0x25: data abort of a store on 0xb000010 at *
""",
        ("qemu-system-aarch64", "-M", "virt,gic-version=2", "-cpu", "cortex-a72"),
        "linux,dummy-virt",
    ),
}
every_architecture = pytest.mark.parametrize("guest", GUEST_OF.values(), ids=GUEST_OF)


def test_sources_rebuild_each_guest_byte_for_byte(tmp_path):
    command = [sys.executable, GUESTS / "build.py", tmp_path]

    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)

    rebuilt = {guest.name: guest.read_bytes() for guest in tmp_path.glob("*.elf")}
    assert rebuilt == {guest.name: guest.read_bytes() for guest in GUESTS.glob("*.elf")}
    assert {guest.file.name for guest in GUEST_OF.values()} < rebuilt.keys()


@pytest.mark.parametrize("guest", sorted(GUESTS.glob("*.elf")), ids=lambda guest: guest.stem)
def test_it_is_small(guest):
    assert guest.stat().st_size < 16 << 10


@every_architecture
def test_it_is_loaded_where_it_was_linked(guest):
    program = load_file(guest.file, guest.arch)

    assert (program.kind, program.entry) == ("elf", guest.entry)


COMMANDS = ["primes 1000", "sleep 5", "fault", "mem", "nonsense", "reboot", "help", "poweroff"]
BANNER = """
Hello from bare metal: no operating system, {mode}.
This machine: {model}, 1 {cpu}, 64 MiB of RAM.
Type help for what it can do.

"""
TALK = """\
hello> primes 1000
168 primes up to 1000, the largest is 997
hello> sleep 5
slept 5 ms
hello> fault
{faults}still here
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


def expected(guest: Guest, model: str) -> str:
    banner = BANNER.format(mode=guest.mode, model=model, cpu=guest.cpu)
    return banner + TALK.format(faults=guest.faults) + banner + TALK_AFTER_RESET


def comparable(output: bytes) -> str:
    """What was printed, without carriage returns and addresses that a rebuild may move."""
    text = output.decode().replace("\r", "")
    return re.sub(r" at 0x[48]0[0-3].....$", " at *", text, flags=re.MULTILINE)


@every_architecture
def test_it_talks_on_our_machine(guest):
    with Machine.load(guest.config) as machine:
        for command in COMMANDS:
            machine.console.expect("hello> ")
            machine.console.send(f"{command}\r")
        outcome = machine.run(timeout=60)

        assert outcome.kind == "power-off"
        assert comparable(machine.console.output) == expected(guest, guest.model)
        assert machine.messages == []


@every_architecture
def test_it_polls_where_no_controller_can_wake_it(guest, tmp_path):
    controller = {"riscv64": "plic", "aarch64": "gic"}[guest.arch]
    description = tmp_path / "polling.yaml"
    text = guest.config.read_text().replace("guests/", f"{GUESTS}/")
    without = re.sub(rf", irq: {controller}\.\d+|^  {controller}: .*\n", "", text, flags=re.M)
    description.write_text(without)

    with Machine.load(description) as machine:
        machine.console.expect("hello> ")
        machine.console.send("primes 100\r")
        answer = machine.console.expect("hello> ")

    assert "25 primes up to 100, the largest is 97" in answer


@pytest.mark.guest
@every_architecture
def test_it_talks_the_same_on_qemu(guest):
    command = [*guest.qemu, "-m", "64M", "-kernel", os.fspath(guest.file)]
    command += ["-nographic", "-no-user-config", "-nic", "none"]

    qemu = pexpect.spawn(shlex.join(command), timeout=60)
    output = b""
    for line in COMMANDS:
        qemu.expect_exact("hello> ")
        output += qemu.before + qemu.after
        qemu.send(f"{line}\r")
    qemu.expect(pexpect.EOF)

    assert comparable(output + qemu.before) == expected(guest, guest.qemu_model)

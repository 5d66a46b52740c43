"""Debian with a disk that fails on purpose: what its kernel and its programs make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypervisor import Machine
from hypervisor.config.faults import DiskDelay, DiskError, SpuriousInterrupt

pytestmark = pytest.mark.guest

CONFIG = Path(__file__).parents[2] / "configs" / "riscv64-disk.yaml"
PROMPT = "# "
SECTOR = 80_000
READ = f"dd if=/dev/vda of=/dev/null bs=4096 count=1 skip={SECTOR // 8} iflag=direct"
LOST_AT = 60
"""Seconds: long after the boot, so that the time before is free of faults."""
HUNG = 10
"""Seconds after which the kernel reports a task that waits."""

DESCRIPTION = """base: {config}
boot:
  initrd: {initrd}
  command_line: console=ttyS0 no4lvl root=/dev/vda rw sysctl.kernel.hung_task_timeout_secs={hung}
devices: {{disk0: {{file: {disk}}}}}
faults:
  - {{kind: interrupt.lost, device: disk0, at: {lost_at}s}}
"""
Ask = Callable[..., str]


@pytest.fixture(scope="module")
def booted(build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, bytes]]:
    """A machine at its shell's prompt, and a snapshot of it there."""
    path = tmp_path_factory.mktemp("faults") / "faulty.yaml"
    files = {"initrd": build("quick-boot.yaml"), "disk": build("notes-disk.yaml")}
    path.write_text(DESCRIPTION.format(config=CONFIG, lost_at=LOST_AT, hung=HUNG, **files))
    with Machine.load(path) as machine:
        machine.console.expect(PROMPT, timeout=300)
        yield machine, machine.snapshot()


@pytest.fixture
def machine(booted: tuple[Machine, bytes]) -> Machine:
    machine, snapshot = booted
    machine.restore(snapshot)
    machine.messages.clear()
    return machine


def test_lost_interrupt_makes_linux_report_a_hung_task(machine: Machine, tmp_path: Path) -> None:
    """The fault is the description's."""
    trace = machine.trace("fault,irq:disk0,ack:disk0,virtqueue:disk0", tmp_path / "why.txt")
    machine.console.send(f"sleep {LOST_AT}; echo kept >/root/kept; sync\n")
    said = machine.console.expect("disables this message", timeout=200)
    trace.close()

    assert f"blocked in I/O wait for more than {HUNG} seconds" in said
    assert any(
        line.startswith("faults.0: the interrupt of disk0 was lost") for line in machine.messages
    )
    lines = (tmp_path / "why.txt").read_text().splitlines()
    lost = next(n for n, line in enumerate(lines) if "the interrupt of disk0 was lost" in line)
    assert "completion disk0" in lines[lost - 2]
    assert "irq disk0 raised" in lines[lost - 1]
    assert not any("ack" in line for line in lines[lost:])


def test_failed_request_is_an_io_error_in_the_guest(machine: Machine, ask: Ask) -> None:
    machine.faults.add(DiskError(device="disk0", sector=SECTOR, sectors=8, count="all"))

    answer = ask(machine, f"{READ}; echo code $?; dmesg | tail -1")

    assert "Input/output error" in answer
    assert "code 1" in answer
    assert f"I/O error, dev vda, sector {SECTOR} op 0x0:(READ)" in answer


def test_request_after_the_failed_one_succeeds(machine: Machine, ask: Ask) -> None:
    machine.faults.add(DiskError(device="disk0", operation="read"))

    assert "code 1" in ask(machine, f"{READ}; echo code $?")
    assert "code 0" in ask(machine, f"{READ}; echo code $?")


def test_delayed_request_takes_its_time(machine: Machine, ask: Ask) -> None:
    machine.faults.add(DiskDelay(device="disk0", operation="read", delay=2_000_000_000))
    before = machine.clock.now()

    answer = ask(machine, f"{READ}; echo code $?")

    assert "code 0" in answer
    assert 2_000_000_000 < machine.clock.now() - before < 2_500_000_000


def test_spurious_interrupts_are_counted_by_the_guest(machine: Machine, ask: Ask) -> None:
    look = "grep virtio /proc/interrupts; sleep 0.5; grep virtio /proc/interrupts"
    quiet = ask(machine, f"{look}; sync; sleep 6; {look}").splitlines()[-2:]
    at = machine.clock.now() + 200_000_000

    machine.faults.add(
        SpuriousInterrupt(device="disk0", at=at, every=1_000_000, width=1_000, count=7)
    )
    lines = ask(machine, look).splitlines()

    seen = [int(line.split()[1]) for line in (*quiet, *lines)]
    assert seen[1] - seen[0] == 0
    assert seen[3] - seen[2] == 7

"""How runs end that do not end well, and what is said about them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIG = Path(__file__).parents[2] / "configs" / "riscv64-debian.yaml"
Restored = Callable[..., Machine]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
Bare = Callable[..., Machine]

BARE = """
machine: riscv64-virt
cpu: {{arch: riscv64, harts: {harts}}}
memory: {{ram: {{at: 0x8000_0000, size: 16M}}}}
boot: {{{role}: {file}}}
devices:
  finisher: {{type: sifive.test, at: 0x0010_0000}}
  plic: {{type: riscv.plic, at: 0x0c00_0000}}
  clint: {{type: riscv.clint, at: 0x0200_0000}}
  uart0: {{type: ns16550a, at: 0x1000_0000, irq: plic.10, backend: stdio}}
"""

HELLO = """
    li t0, 0x10000000
    li t1, 'h'
    sb t1, 0(t0)
    li t1, 'i'
    sb t1, 0(t0)
"""


@pytest.fixture
def bare_file(assemble: Callable[[str], bytes], tmp_path: Path) -> Callable[..., Path]:
    """`bare_file(source, harts)`: a description whose firmware is the assembled source."""

    def make(source: str, harts: int = 1) -> Path:
        program = tmp_path / "program.bin"
        program.write_bytes(assemble(source))
        path = tmp_path / "bare.yaml"
        path.write_text(BARE.format(harts=harts, role="firmware", file=program))
        return path

    return make


@pytest.fixture
def bare(
    bare_file: Callable[..., Path], boot_machine: Callable[..., Machine]
) -> Callable[..., Machine]:
    return lambda source, harts=1: boot_machine(str(bare_file(source, harts)))


@pytest.mark.parametrize(("arch", "mode"), [("riscv64", "S-mode"), ("aarch64", "EL1")])
def test_kernel_panic_is_a_failure_with_registers(arch: str, mode: str, restored: Restored) -> None:
    machine = restored(4, arch)

    machine.console.send("echo c > /proc/sysrq-trigger\n")
    outcome = machine.run(timeout=100)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert outcome.sentence == "the guest's kernel panicked"
    assert f"{mode}) at " in outcome.report
    assert "=>" in outcome.report
    assert "end Kernel panic - not syncing: sysrq triggered crash" in machine.console.text


def test_all_harts_waiting_with_nothing_pending_is_a_hang(bare: Bare) -> None:
    machine = bare("csrw mie, zero\n1: wfi\n j 1b\n", harts=4)

    outcome = machine.run(timeout=60)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "hangs" in outcome.sentence
    assert "waiting" in outcome.report
    assert "wfi" in outcome.report or "c.j" in outcome.report


def test_trap_with_no_handler_is_a_failure(bare: Bare) -> None:
    machine = bare("csrw mtvec, zero\n li a0, 0x40\n lw a1, 0(a0)\n")

    outcome = machine.run(timeout=60)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "hart 0 took a trap with no handler" in outcome.sentence


def test_busy_loop_with_no_timer_runs_out_of_time(bare: Bare) -> None:
    machine = bare(HELLO + "1: j 1b\n")

    outcome = machine.run(until="hi there", timeout=1)

    assert (outcome.kind, outcome.code) == ("timeout", 124)
    assert outcome.sentence == "1 seconds ran out, before 'hi there' was printed"


def test_timed_out_machine_goes_on_when_run_again(bare: Bare) -> None:
    machine = bare("li t2, 400000000\n1: addi t2, t2, -1\n bnez t2, 1b\n" + HELLO + "2: j 2b\n")

    first = machine.run(until="hi", timeout=0.2)
    second = machine.run(until="hi", timeout=100)

    assert (first.kind, second.kind) == ("timeout", "until")


def test_stop_from_another_thread_ends_a_run(bare: Bare) -> None:
    machine = bare("1: j 1b\n")
    stopper = threading.Timer(0.3, machine.stop)
    stopper.start()

    outcome = machine.run(timeout=60)

    stopper.join()
    assert outcome.kind == "stopped"


def test_finisher_s_failure_code_is_a_failure(bare: Bare) -> None:
    machine = bare("li t0, 0x100000\n li t1, 0x2a3333\n sw t1, 0(t0)\n1: j 1b\n")

    outcome = machine.run(timeout=60)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "42" in outcome.sentence
    assert "M-mode) at 0x80000" in outcome.report


def test_command_line_s_timeout_is_124(hypervisor_run: Command, bare_file: Bare) -> None:
    result = hypervisor_run(bare_file("1: j 1b\n"), "--timeout", 1)

    assert result.returncode == 124
    assert "1 seconds ran out" in result.stderr


def test_power_off_before_the_awaited_text_is_1(hypervisor_run: Command, bare_file: Bare) -> None:
    source = HELLO + "li t0, 0x100000\n li t1, 0x5555\n sw t1, 0(t0)\n1: j 1b\n"

    result = hypervisor_run(bare_file(source), "--until", "hi there", "--timeout", 60)

    assert result.returncode == 1
    assert "the guest powered off before it printed 'hi there'" in result.stderr
    assert "M-mode) at 0x80000" in result.stderr
    assert "=> 0x80000" in result.stderr


def test_power_off_after_the_awaited_text_is_0(hypervisor_run: Command, bare_file: Bare) -> None:
    source = HELLO + "li t0, 0x100000\n li t1, 0x5555\n sw t1, 0(t0)\n1: j 1b\n"

    result = hypervisor_run(bare_file(source), "--until", "hi", "--timeout", 60)

    assert result.returncode == 0


def test_hang_is_1_on_the_command_line(hypervisor_run: Command, bare_file: Bare) -> None:
    result = hypervisor_run(bare_file("csrw mie, zero\n1: wfi\n j 1b\n"), "--timeout", 60)

    assert result.returncode == 1
    assert "hangs" in result.stderr
    assert "0x8000000" in result.stderr

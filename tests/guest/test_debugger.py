"""GDB itself, on Debian kernels by their own symbols, and on a program of ours by its variables."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]

COUNTER = """
struct tally { long rounds; long sum; } tally;

static void add(long value) {
    tally.sum += value;
}

void count(void) {
    for (long n = 1;; n++) {
        tally.rounds = n;
        if (n % 7 == 0) add(n);
    }
}
"""

STARTS = {
    "riscv64": "la sp, stack\n call count",
    "aarch64": "adrp x0, stack\n add x0, x0, :lo12:stack\n mov sp, x0\n bl count",
}
RAM = {"riscv64": 0x8000_0000, "aarch64": 0x4000_0000}
TARGET = {
    "riscv64": ["riscv64-freestanding-none", "-mcpu=generic_rv64+m+a+c", "-mcmodel=medany"],
    "aarch64": ["aarch64-freestanding-none", "-mgeneral-regs-only"],
}
SYSTEM = {"riscv64": "mstatus", "aarch64": "SCTLR_EL1"}
DEVICES = {
    "riscv64": "finisher: {type: sifive.test, at: 0x0010_0000}",
    "aarch64": "uart0: {type: arm.pl011, at: 0x0900_0000}",
}


class Server:
    """`hypervisor run ... --gdb`, waiting for a debugger."""

    def __init__(self, machine: Path | str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.main", "run", str(machine)),
                *("--console", "none", "--gdb", "127.0.0.1:0", "--gdb-wait", "--timeout", "400"),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.place = ""
        for line in self.process.stderr:
            found = re.search(r"target remote (\S+)`", line)
            if found:
                self.place = found[1]
                break

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def talk(self, symbols: Path, *commands: str) -> str:
        """What GDB prints in a session."""
        lines = ["set pagination off", "set confirm off", f"file {symbols}"]
        lines += [f"target remote {self.place}", *commands]
        words = [word for line in lines for word in ("-ex", line)]
        result = subprocess.run(
            ["gdb-multiarch", "-nx", "-q", "-batch", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return result.stdout


@pytest.fixture
def serve() -> Iterator[Callable[[Path | str], Server]]:
    """`serve(machine)`: its GDB server."""
    servers: list[Server] = []

    def run(machine: Path | str) -> Server:
        servers.append(Server(machine))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


def kernel_symbols(machine: str, path: Path) -> Path:
    command = [sys.executable, "-m", "tools.main", "symbols", machine, "-o", str(path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    return path


@pytest.mark.parametrize(
    ("arch", "watched"), [("riscv64", "*(long*)&jiffies"), ("aarch64", "-location *(long*)$sp")]
)
def test_debian_kernel_is_debugged_by_symbol_and_back_to_a_write(
    arch: str, watched: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    machine = f"configs/{arch}-debian.yaml"
    symbols = kernel_symbols(machine, tmp_path / "vmlinux.elf")

    said = serve(machine).talk(
        symbols,
        "break do_sys_openat2",
        "continue",
        "backtrace 2",
        "print/x $pc",
        "stepi",
        "reverse-stepi",
        "print/x $pc",
        "delete",
        f"watch {watched}",
        "reverse-continue",
        "info registers pc",
        "delete",
        "kill",
    )

    assert re.search(r"^Breakpoint 1, 0x\w+ in do_sys_openat2 \(\)", said, re.MULTILINE), said
    assert re.search(r"^#1 +0x\w+ in \w+_sys_openat \(\)", said, re.MULTILINE), said
    here = re.findall(r"^\$\d = (0x\w+)", said, re.MULTILINE)
    assert len(here) == 2, said
    assert here[0] == here[1]
    assert re.search(r"Hardware watchpoint 2: .*\n\nOld value = .*\nNew value = ", said), said
    assert re.search(r"^pc +0x\w+\s+0x\w+ <\w+\+\d+>", said, re.MULTILINE), said


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """`program(arch)`: a description and the bare-metal program that it runs, with its DWARF."""

    def build(arch: str) -> tuple[Path, Path]:
        (tmp_path / "count.c").write_text(COUNTER)
        (tmp_path / "start.S").write_text(
            f'.globl _start\n.section .text.start,"ax"\n_start:\n {STARTS[arch]}\n'
            ".bss\n.balign 4096\n.space 4096\nstack:\n.space 16\n"
        )
        (tmp_path / "link.ld").write_text(
            f"ENTRY(_start) SECTIONS {{ . = {RAM[arch]:#x}; .text : {{ *(.text.start) *(.text*) }} "
            ".data : { *(.data*) *(.rodata*) } .bss : { *(.bss*) } }"
        )
        elf = tmp_path / "count.elf"
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc", "-target", *TARGET[arch], "-g", "-O1"),
                *("-fno-inline", "-nostdlib", "-static", f"-Wl,-T,{tmp_path / 'link.ld'}"),
                *("-o", str(elf), str(tmp_path / "start.S"), str(tmp_path / "count.c")),
            ],
            check=True,
            timeout=200,
        )
        machine = tmp_path / "board.yaml"
        machine.write_text(
            f"machine: board\ncpu: {{arch: {arch}}}\n"
            f"memory: {{ram: {{at: {RAM[arch]:#x}, size: 2M}}}}\n"
            f"boot: {{kernel: count.elf}}\ndevices:\n  {DEVICES[arch]}\n"
        )
        return machine, elf

    return build


@pytest.mark.parametrize("arch", ["riscv64", "aarch64"])
def test_program_is_debugged_by_variable_name(
    arch: str, serve: Callable[..., Server], program: Callable[[str], tuple[Path, Path]]
) -> None:
    machine, elf = program(arch)

    said = serve(machine).talk(
        elf,
        "break add",
        "continue",
        "continue",
        "backtrace",
        "print value",
        "print tally",
        "delete",
        "watch tally.sum",
        "continue",
        "print tally",
        "delete",
        "watch tally.rounds",
        "reverse-continue",
        "print tally.rounds",
        "kill",
    )

    assert re.search(r"#0 +add \(value=.*\) at .*count\.c", said), said
    assert re.search(r"#1 +0x\w+ in count \(\)", said), said
    values = re.findall(r"^\$\d+ = (.*)$", said, re.MULTILINE)
    assert values == ["14", "{rounds = 14, sum = 7}", "{rounds = 14, sum = 21}", "13"], said


@pytest.mark.parametrize("arch", ["riscv64", "aarch64"])
def test_debugger_leaves_a_program_that_runs_and_comes_again(
    arch: str, serve: Callable[..., Server], program: Callable[[str], tuple[Path, Path]]
) -> None:
    machine, elf = program(arch)
    server = serve(machine)
    group = {"riscv64": "csr", "aarch64": "system"}[arch]

    server.talk(elf, "break add", "continue", "watch tally.rounds", "detach")
    said = server.talk(
        elf,
        "print tally.rounds > 7",
        "rwatch tally.sum",
        "continue",
        "delete",
        "break add",
        "continue",
        "print value % 7",
        f"info registers {group}",
        "kill",
    )

    assert re.findall(r"^\$\d+ = (.*)$", said, re.MULTILINE) == ["1", "0"], said
    assert re.search(r"Hardware read watchpoint 1: tally.sum\n\nValue = \d+\n", said), said
    assert re.search(rf"^{SYSTEM[arch]} +0x\w+", said, re.MULTILINE), said

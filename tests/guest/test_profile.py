"""Debian profiled: known hot functions of its kernel and of a program are found by name."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine
from hypervisor.profile.profile import Profile
from hypervisor.profile.symbols import SymbolFile

pytestmark = pytest.mark.guest

Restored = Callable[..., Machine]
Ask = Callable[..., str]
COPY = "dd if=/dev/zero of=/dev/null bs=1M count=64"
"""The kernel zeroes 64 MiB of the program's memory."""
PROGRAM = """
.globl _start
_start:
    li s0, 0
    call busy
    li a0, 0
    li a7, 93               # exit
    ecall
.type busy, @function
busy:
    li t0, 3000000
1:  addi t0, t0, -1
    bnez t0, 1b
    ret
.size busy, .-busy
"""
LOOP_BYTES = 4 * 3_000_000
PERIOD = 20_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of a few instructions, with its symbols."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "busy.S").write_text(PROGRAM)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none"]
    options = ["-nostdlib", "-static", "-g0", "-Wl,-z,max-page-size=4096", "-o", "busy", "busy.S"]
    subprocess.run([*command, *options], cwd=folder, check=True)
    return folder / "busy"


def type_file(machine: Machine, ask: Ask, path: Path, to: str) -> None:
    """Have the guest's shell write a small file."""
    data = path.read_bytes()
    ask(machine, f": >{to}; chmod +x {to}")
    for start in range(0, len(data), 200):
        octal = "".join(f"\\{byte:03o}" for byte in data[start : start + 200])
        machine.console.send(f"printf '{octal}' >>{to}\n")
        machine.console.expect("# ")


def profiled(machine: Machine, ask: Ask, command: str, *files: SymbolFile) -> Profile:
    profile = Profile(machine, PERIOD, files, exact=True)
    ask(machine, command)
    profile.close()
    return profile


@pytest.mark.parametrize(
    ("arch", "entry"), [("riscv64", "handle_exception"), ("aarch64", "el0t_64_sync")]
)
def test_kernel_s_hot_function_is_found_and_the_run_is_the_same(
    arch: str, entry: str, restored: Restored, ask: Ask
) -> None:
    machine, plain = restored(1, arch), restored(1, arch)
    ask(plain, COPY)

    profile = profiled(machine, ask, COPY)

    assert machine.state_sha256() == plain.state_sha256()
    hottest = profile.functions()[0]
    assert "clear_user" in hottest.name
    assert hottest.own * 5 > profile.samples * PERIOD
    stacks = Counter[tuple[str, ...]]()
    for sample, weight in profile.sampler.samples.items():
        stacks[tuple(profile.table.name(address) for address in sample.stack.addresses)] += weight
    clearing = {names: weight for names, weight in stacks.items() if names[0] == hottest.name}
    for_dd = [
        weight
        for names, weight in clearing.items()
        if ("read_zero" in names or "read_iter_zero" in names) and names[-1] == entry
    ]
    # The kernel clears memory for a program that it starts, too.
    assert sum(for_dd) * 10 > sum(clearing.values()) * 9


def test_program_s_hot_function_is_found(restored: Restored, ask: Ask, program: Path) -> None:
    machine = restored(1)
    type_file(machine, ask, program, "/busy")

    profile = profiled(machine, ask, "/busy", SymbolFile.load(str(program)))

    user = Counter[str]()
    for sample, weight in profile.sampler.samples.items():
        if sample.stack.mode == "user":
            user[profile.names(sample)[0]] += weight
    assert user.most_common(1)[0][0] == "busy"
    rows = {row.name: row for row in profile.functions()}
    modes = profile.modes()
    assert sum(modes.values()) == profile.account.executed
    assert LOOP_BYTES <= (rows["busy"].exact or 0) < modes["user"]
    assert abs(rows["busy"].own - (rows["busy"].exact or 0) * 25 // 32) < 10 * PERIOD

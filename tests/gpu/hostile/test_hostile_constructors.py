"""Code of a guest's in the compiler's process: a program's constructors, which run as PoCL loads
what it linked. What it must not do is refused there too, and nothing outlives the build."""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gpu.opencl import Status
from tests.gpu.hostile.conftest import Attacker
from tests.gpu.hostile.test_hostile_sources import build

CONSTRUCTOR = """
__kernel void k(__global int *a) {{
    a[0] = 7;
    __asm__ volatile("jmp 9f\\n"
        "7: push %%rbx\\n push %%rbp\\n sub $264, %%rsp\\n"
        "{code}"
        "add $264, %%rsp\\n pop %%rbp\\n pop %%rbx\\n ret\\n"
        "6: .asciz \\"{text}\\"\\n"
        "9:\\n"
        ".pushsection .init_array, \\"aw\\"\\n .quad 7b\\n .popsection\\n" ::: "memory");
}}
"""
END = "mov $60, %%edi\\n mov $231, %%eax\\n syscall\\n"
"""Ends the process, and so the build."""
TEXT, STACK, PATH = "text", "stack", "path"
"""Arguments that are addresses: of the text, of the stack, and what rbx has."""
REFUSALS = (1, 2, 13, 30, 38)
"""EPERM, ENOENT, EACCES, EROFS, ENOSYS."""
PARENT = os.getpid()
FINE = b"__kernel void k(__global int *a) { a[0] = 7; }"


def call(number: int, *arguments: int | str) -> str:
    """Code for a system call, whose result is in rax then."""
    code = "xor %%r10, %%r10\\n xor %%r8, %%r8\\n xor %%r9, %%r9\\n"
    for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8"), arguments, strict=False):
        if value == TEXT:
            code += f"lea 6f(%%rip), %%{register}\\n"
        elif value == STACK:
            code += f"mov %%rsp, %%{register}\\n"
        elif value == PATH:
            code += f"mov %%rbx, %%{register}\\n"
        else:
            code += f"movabs ${value}, %%{register}\\n"
    return code + f"mov ${number}, %%eax\\n syscall\\n"


def end_unless_refused(number: int, *arguments: int | str) -> str:
    """Code for a system call that lets the build succeed only if it is refused."""
    checks = "".join(f"cmp ${-error}, %%rax\\n je 3f\\n" for error in REFUSALS)
    return call(number, *arguments) + checks + END + "3:"


def source(code: str, text: str = "/bin/sh") -> bytes:
    return CONSTRUCTOR.format(code=code, text=text).encode()


def test_constructors_run_in_the_compiler_at_all(attacker: Attacker) -> None:
    """Without this, no other test here would say anything."""
    assert build(attacker.guest, source(end_unless_refused(39)))[0] == Status.BUILD_PROGRAM_FAILURE
    assert build(attacker.guest, source(""))[0] == Status.SUCCESS


FILES = ("/etc/passwd", "/proc/self/environ", f"/proc/{PARENT}/mem", sys.executable, __file__)


def test_compiler_cannot_open_files_of_the_host(attacker: Attacker) -> None:
    code = "".join(end_unless_not_opened(path) for path in FILES)

    assert build(attacker.guest, source(code)) == (Status.SUCCESS, b"")


def end_unless_not_opened(path: str) -> str:
    return f'jmp 1f\\n 2: .asciz \\"{path}\\"\\n 1: lea 2b(%%rip), %%rbx\\n' + end_unless_refused(
        2, PATH, 0
    )


CALLS: dict[str, list[tuple[int | str, ...]]] = {
    "sockets": [(41, 2, 1, 0), (41, 1, 1, 0), (41, 16, 3, 0), (53, 1, 1, 0, STACK)],
    "signals": [
        (62, PARENT, 9),  # kill
        (62, -1, 9),
        (129, PARENT, 9, STACK),  # rt_sigqueueinfo
        (72, 3, 8, PARENT),  # fcntl(F_SETOWN)
        (424, 3, 9, 0, 0),  # pidfd_send_signal
    ],
    "other processes": [
        (101, 16, PARENT, 0, 0),  # ptrace
        (310, PARENT, STACK, 1, STACK, 1),  # process_vm_readv
        (302, PARENT, 7, 0, STACK),  # prlimit
        (112,),  # setsid
        (109, 0, 0),  # setpgid
    ],
    "programs and namespaces": [
        (59, TEXT, 0, 0),  # execve
        (272, 0x1000_0000),  # unshare
        (56, 0x1000_0011, 0, 0, 0),  # clone(CLONE_NEWUSER)
        (165, TEXT, TEXT, TEXT, 0),  # mount
        (161, TEXT),  # chroot
    ],
    "privileges": [
        (105, 0),  # setuid
        (157, 4, 1),  # prctl(PR_SET_DUMPABLE)
        (250, 0, -3, 1),  # keyctl
        (126, STACK, STACK),  # capset
    ],
    "ways around": [
        (2, TEXT, os.O_WRONLY | os.O_CREAT, 0o600),
        (319, TEXT, 0),  # memfd_create
        (321, 0, STACK, 64),  # bpf
        (425, 8, STACK),  # io_uring_setup
        (323, 0),  # userfaultfd
        (298, STACK, 0, -1, -1),  # perf_event_open
    ],
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS.keys())
def test_compiler_makes_no_system_call_that_it_does_not_need(
    attacker: Attacker, calls: list[tuple[Any, ...]]
) -> None:
    code = "".join(end_unless_refused(*each) for each in calls)

    assert build(attacker.guest, source(code)) == (Status.SUCCESS, b"")
    os.kill(PARENT, 0)


def forged(answer: bytes) -> bytes:
    """A source whose constructor answers the hypervisor in the compiler's place, on whichever
    descriptor its socket is, and ends."""
    message = struct.pack("<I", len(answer)) + answer
    data = ",".join(map(str, message))
    write = (
        f"jmp 2f\\n 1: .byte {data}\\n 2: mov $3, %%ebx\\n"
        f"3: mov %%rbx, %%rdi\\n lea 1b(%%rip), %%rsi\\n mov ${len(message)}, %%edx\\n"
        "mov $1, %%eax\\n syscall\\n inc %%ebx\\n cmp $1024, %%ebx\\n jl 3b\\n"
    )
    return source(write + END)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"status":Infinity,"log":""}',
        b'{"status":1e999,"log":""}',
        rb'{"status":-11,"log":"\ud800"}',
        b'{"status":0,"log":"","kernels":[{"count":1e999}],"binary":"00"}',
        b"[" * 100_000,
    ],
)
def test_forged_answer_fails_its_build_alone(attacker: Attacker, answer: bytes) -> None:
    status, _ = build(attacker.guest, forged(answer))
    attacker.neighbour.compute()

    assert status == Status.BUILD_PROGRAM_FAILURE
    assert build(attacker.guest, FINE)[0] == Status.SUCCESS


def test_forged_success_is_believed_as_far_as_it_makes_sense(attacker: Attacker) -> None:
    """Its kernels are the attacker's own loss; that it is kept as it is said to be is not."""
    answer = rb'{"status":0,"log":"forged","kernels":[],"binary":"00","x":"\ud800"}'

    found = build(attacker.guest, forged(answer)), build(attacker.guest, forged(answer))

    assert found == ((Status.SUCCESS, b"forged"),) * 2


SLEEPER = (
    "2: mov $15, %%edi\\n lea 6f(%%rip), %%rsi\\n mov $157, %%eax\\n syscall\\n"
    "1: movq $1000, (%%rsp)\\n movq $0, 8(%%rsp)\\n mov %%rsp, %%rdi\\n xor %%esi, %%esi\\n"
    "mov $35, %%eax\\n syscall\\n jmp 1b\\n"
)
"""A process that has a name, and sleeps."""
FORK = "1: mov $57, %%eax\\n syscall\\n test %%rax, %%rax\\n jz 2f\\n"
FORK_UNTIL_REFUSED = (
    f"xor %%ebx, %%ebx\\n {FORK} js 3f\\n inc %%ebx\\n cmp $2000, %%ebx\\n jl 1b\\n {END} {SLEEPER}"
    f"3: cmp $-11, %%rax\\n jne 4f\\n cmp $16, %%ebx\\n jg 5f\\n 4: {END} 5: "
)
"""Lets the build succeed only if a few processes could be started, and not 2000."""
FORK_AND_DIE = f"mov $20, %%ebx\\n {FORK} dec %%ebx\\n jnz 1b\\n {END} {SLEEPER}"


def test_compiler_starts_few_processes(attacker: Attacker) -> None:
    name = f"few-{PARENT}"

    status, _ = build(attacker.guest, source(FORK_UNTIL_REFUSED, name))
    attacker.neighbour.compute()

    assert status == Status.SUCCESS
    assert named(name) == []
    assert build(attacker.guest, FINE)[0] == Status.SUCCESS


def test_nothing_that_a_compiler_started_outlives_it(attacker: Attacker) -> None:
    name = f"last-{PARENT}"

    status, log = build(attacker.guest, source(FORK_AND_DIE, name))

    assert (status, log) == (Status.BUILD_PROGRAM_FAILURE, b"the compiler failed\n")
    assert named(name) == []


def named(name: str) -> list[str]:
    """The processes of this name that are still there. Killed ones may take a moment."""
    deadline = time.monotonic() + 60
    found = living(name)
    while found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = living(name)
    return found


def living(name: str) -> list[str]:
    stats = [text(path) for path in Path("/proc").glob("[0-9]*/stat")]
    return [stat for stat in stats if f"({name})" in stat and ") Z " not in stat]


def text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""

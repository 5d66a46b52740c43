"""Inline assembly in a kernel makes system calls. Each must fail, as root and not."""

from __future__ import annotations

import errno
import os
import struct
import sys

import pytest

from tests.gpu.hostile.conftest import Attacker

KERNEL = """
__kernel void k(__global long *a) {
    long words[6], result;
    for (int i = 0; i < 6; i++) words[i] = a[1 + i] == -999 ? (long)(a + 16) : a[1 + i];
    __asm__ volatile("mov %5, %%r10; mov %6, %%r8; mov %7, %%r9; syscall" : "=a"(result)
        : "a"(a[0]), "D"(words[0]), "S"(words[1]), "d"(words[2]),
          "r"(words[3]), "r"(words[4]), "r"(words[5])
        : "rcx", "r8", "r9", "r10", "r11", "memory");
    a[0] = result;
}
"""
TEXT = -999
"""An argument that points to the text."""
AT_FDCWD = -100
PARENT = os.getpid()
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOSYS, errno.EROFS}


def call(attacker: Attacker, number: int, *arguments: int, text: str = "") -> int:
    """What the system call returned in the kernel."""
    words = (number, *arguments, *[0] * (15 - len(arguments)))
    attacker.guest.write(0, struct.pack("<16q", *words) + text.encode() + bytes(64))
    result = attacker.run(KERNEL)
    assert result is not None, attacker.reason()
    return int(struct.unpack_from("<q", result)[0])


def test_system_calls_are_made_at_all(attacker: Attacker) -> None:
    """Without this, no other test here would say anything."""
    assert call(attacker, 39) > 0  # getpid
    assert call(attacker, 228, 1, TEXT) == 0  # clock_gettime


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/hostname",
        "/proc/self/maps",
        f"/proc/{PARENT}/mem",
        "/dev/mem",
        "/lib/x86_64-linux-gnu/libc.so.6",
        sys.executable,
        os.path.abspath(__file__),
        "../../../../etc/passwd",
    ],
    ids=["passwd", "hostname", "maps", "parent", "memory", "libc", "python", "test", "relative"],
)
def test_files_of_the_host_cannot_be_opened(attacker: Attacker, path: str) -> None:
    assert -call(attacker, 257, AT_FDCWD, TEXT, 0, text=path) in REFUSALS
    assert -call(attacker, 2, TEXT, 0, text=path) in REFUSALS


@pytest.mark.parametrize(
    "folder",
    ["/", "/tmp", "/dev/shm", os.path.dirname(__file__)],
    ids=["root", "tmp", "shm", "tests"],
)
def test_files_of_the_host_cannot_be_written(attacker: Attacker, folder: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT

    result = call(attacker, 257, AT_FDCWD, TEXT, flags, 0o600, text=f"{folder}/hostile")

    assert -result in REFUSALS
    assert not os.path.exists(f"{folder}/hostile")


CALLS = {
    "socket (internet)": (41, 2, 1, 0),
    "socket (unix)": (41, 1, 1, 0),
    "socket (netlink)": (41, 16, 3, 0),
    "socketpair": (53, 1, 1, 0, TEXT),
    "kill the parent": (62, PARENT, 9),
    "kill all": (62, -1, 9),
    "tgkill": (234, PARENT, PARENT, 9),
    "tkill": (200, PARENT, 9),
    "rt_sigqueueinfo": (129, PARENT, 9, TEXT),
    "pidfd_open": (434, PARENT, 0),
    "pidfd_send_signal": (424, 3, 9, 0, 0),
    "own the parent's signals": (72, 3, 8, PARENT),
    "choose the signal": (72, 3, 10, 9),
    "ptrace": (101, 16, PARENT, 0, 0),
    "process_vm_readv": (310, PARENT, TEXT, 1, TEXT, 1, 0),
    "process_vm_writev": (311, PARENT, TEXT, 1, TEXT, 1, 0),
    "prlimit of the parent": (302, PARENT, 7, 0, TEXT),
    "execve": (59, TEXT, 0, 0),
    "execveat": (322, AT_FDCWD, TEXT, 0, 0, 0),
    "fork": (57,),
    "vfork": (58,),
    "clone a process": (56, 17, 0, 0, 0, 0),
    "clone3": (435, TEXT, 88),
    "unshare": (272, 0x1000_0000),
    "setns": (308, 3, 0),
    "mount": (165, TEXT, TEXT, TEXT, 0, 0),
    "umount": (166, TEXT, 0),
    "pivot_root": (155, TEXT, TEXT),
    "chroot": (161, TEXT),
    "memfd_create": (319, TEXT, 0),
    "shared memory": (9, 0, 4096, 3, 0x21, -1, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "mremap": (25, 0, 0, 4096, 1, 0),
    "bpf": (321, 0, TEXT, 64),
    "io_uring_setup": (425, 8, TEXT),
    "perf_event_open": (298, TEXT, 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "keyctl": (250, 0, -3, 1),
    "init_module": (175, TEXT, 1, TEXT),
    "reboot": (169, 0xFEE1DEAD - (1 << 32), 672274793, 0, 0),
    "setuid": (105, 0),
    "capset": (126, TEXT, TEXT),
    "be dumpable": (157, 4, 1),
    "ioctl": (16, 1, 0x5412, TEXT),
    "seccomp": (317, 1, 0, TEXT),
    "sethostname": (170, TEXT, 1),
    "mknod": (133, TEXT, 0o20600, 0x101),
    "symlink": (88, TEXT, TEXT),
    "x32 socket": (0x4000_0000 + 41, 2, 1, 0),
}


@pytest.mark.parametrize("arguments", CALLS.values(), ids=CALLS.keys())
def test_system_call_is_refused(attacker: Attacker, arguments: tuple[int, ...]) -> None:
    assert -call(attacker, *arguments, text="/bin/sh") in REFUSALS
    os.kill(PARENT, 0)


def test_memory_beyond_the_limit_is_refused(attacker: Attacker) -> None:
    private = 0x22

    assert call(attacker, 9, 0, 1 << 36, 3, private, -1, 0) == -errno.ENOMEM


SENDER = """
__kernel void k(__global long *a) {{
    __global char *text = (__global char *)(a + 16);
    char message[] = {{ {bytes} }};
    for (int i = 0; i < sizeof message; i++) text[i] = message[i];
    for (long round = 0; round < {rounds}L; round++)
        for (long fd = 3; fd < 1024; fd++) {{
            long result, at = round < sizeof message ? round : sizeof message - 1;
            __asm__ volatile("mov $0x4000, %%r10; xor %%r8, %%r8; xor %%r9, %%r9; syscall"
                : "=a"(result)
                : "a"(44L), "D"(fd), "S"(text + {start}), "d"({size}L)
                : "rcx", "r8", "r9", "r10", "r11", "memory");
        }}
}}"""
READY = b'\x0e\0\0\0{"ready":true}'
NONSENSE = b"\x05\0\0\0[1,2]"
LONG = b"\xff\xff\xff\x7f"
SLOW = b"\0\0\x3f\0" + b" "


def sender(message: bytes, start: str = "0", size: int = 0, rounds: int = 1) -> str:
    """A kernel that sends a message on whatever of its files is a socket."""
    listed = ", ".join(str(byte) if byte < 128 else f"{byte - 256}" for byte in message)
    return SENDER.format(bytes=listed, start=start, size=size or len(message), rounds=rounds)


@pytest.mark.parametrize("message", [NONSENSE, LONG, READY], ids=["no object", "long", "ready"])
def test_nonsense_on_its_socket_loses_only_the_context(attacker: Attacker, message: bytes) -> None:
    assert attacker.run(sender(message)) is None
    assert "nonsense" in attacker.reason()


def test_endless_answers_do_not_hold_the_machine(attacker: Attacker) -> None:
    """Byte by byte, so that there is always something and never a message."""
    source = sender(SLOW, start="at", size=1, rounds=1 << 40)

    assert attacker.run(source) is None
    assert attacker.run("__kernel void k(__global int *a) { a[0] = 7; }") is not None

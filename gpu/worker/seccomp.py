"""System calls that a worker may make, as a BPF program for seccomp(2). All others fail with EPERM.

What the lists allow is what Python, the C library and OpenCL runtimes on a CPU were seen to use
after they were loaded. x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from gpu.worker.system import syscall

_ARCHITECTURE = 0xC000_003E
_SECCOMP, _SET_MODE_FILTER, _GET_ACTION_AVAIL, _TSYNC = 317, 1, 2, 1
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_ANYWHERE = {
    # files that are open already
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "pread64": 17,
    "pwrite64": 18, "readv": 19, "writev": 20, "select": 23, "dup": 32, "dup2": 33, "flock": 73,
     "fsync": 74, "fdatasync": 75, "ftruncate": 77, "getdents": 78, "getdents64": 217,
    "epoll_wait": 232, "epoll_ctl": 233, "pselect6": 270, "ppoll": 271, "epoll_pwait": 281,
    "dup3": 292, "close_range": 436,
    # messages on the socket to the hypervisor
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48,
    # memory
    "mprotect": 10, "munmap": 11, "brk": 12, "msync": 26, "mincore": 27, "madvise": 28,
    "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "membarrier": 324,
    # paths: which, is the view's and Landlock's to say
    "open": 2, "stat": 4, "lstat": 6, "access": 21, "getcwd": 79, "chdir": 80, "rename": 82,
    "mkdir": 83, "rmdir": 84, "unlink": 87, "readlink": 89, "chmod": 90, "fchmod": 91,
    "umask": 95, "openat": 257, "mkdirat": 258, "newfstatat": 262, "unlinkat": 263,
    "renameat": 264, "readlinkat": 267, "faccessat": 269, "utimensat": 280, "renameat2": 316,
    "statx": 332, "faccessat2": 439, "statfs": 137, "fstatfs": 138,
    # this process and its threads
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24,
    "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63, "gettimeofday": 96, "getrlimit": 97,
    "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "getppid": 110, "sigaltstack": 131, "arch_prctl": 158, "gettid": 186,
    "time": 201, "futex": 202, "sched_setaffinity": 203, "sched_getaffinity": 204,
    "set_tid_address": 218, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
    "exit_group": 231, "set_robust_list": 273, "getcpu": 309, "getrandom": 318, "rseq": 334,
}  # fmt: skip
_TO_RUN_A_LINKER = {
    "mremap": 25, "pipe": 22, "vfork": 58, "fork": 57, "execve": 59, "wait4": 61, "waitid": 247,
    "pipe2": 293,
}  # fmt: skip
_FCNTL = 72
_MMAP, _IOCTL, _CLONE, _PRCTL, _TGKILL, _PRLIMIT, _CLONE3 = 9, 16, 56, 157, 234, 302, 435
_CLONE_THREAD = 0x1_0000
_NEW_NAMESPACES = 0x7E02_0080
_SHARED_ANONYMOUS = 0x21
_THREAD_NAMES = (15, 16)
_FILE_COMMANDS = (*range(8), 37, 38, 1030)
"""Duplicates, flags and locks: F_SETOWN and F_SETSIG would send signals to other processes."""

Instruction = tuple[int, int, int, int]


def check() -> None:
    """OSError where the host's kernel has no such lists, or we have none for its processor."""
    if platform.machine() != "x86_64":
        raise OSError(errno.ENOSYS, "there is a list of system calls for x86-64 only")
    action = ctypes.c_uint32(_ERRNO)
    syscall(_SECCOMP, _GET_ACTION_AVAIL, 0, ctypes.addressof(action))


def restrict(may_run_linker: bool, has_device_files: bool) -> None:
    """Restrict all threads of this process, and what they start."""
    program = _program(may_run_linker, has_device_files)
    code = b"".join(struct.pack("<HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(buffer))
    argument = ctypes.create_string_buffer(header, len(header))
    syscall(_SECCOMP, _SET_MODE_FILTER, _TSYNC, ctypes.addressof(argument))


def _program(may_run_linker: bool, has_device_files: bool) -> list[Instruction]:
    allowed = dict(_ANYWHERE)
    if may_run_linker:
        allowed |= _TO_RUN_A_LINKER
    if has_device_files:
        allowed |= {"ioctl": _IOCTL}
    refuse = _errno(errno.EPERM)
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHITECTURE),
        refuse,
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, 0x4000_0000),  # the numbers of the x32 ABI
        refuse,
    ]
    for number in sorted(allowed.values()):
        program += _case(number, [_allow()])
    # Memory that RLIMIT_DATA does not count.
    shared = [*_masked(3, _SHARED_ANONYMOUS), (_EQUAL, 0, 1, _SHARED_ANONYMOUS), refuse, _allow()]
    program += _case(_MMAP, shared)
    if may_run_linker:
        clone = [*_masked(0, _NEW_NAMESPACES), (_EQUAL, 0, 1, 0), _allow(), refuse]
    else:
        clone = [*_masked(0, _CLONE_THREAD), (_EQUAL, 0, 1, 0), refuse, _allow()]
    program += _case(_CLONE, clone)
    # Its flags are in memory, where they can not be looked at; the C library then uses clone.
    program += _case(_CLONE3, [_errno(errno.ENOSYS)])
    program += _case(_FCNTL, _one_of(1, _FILE_COMMANDS))
    program += _case(_PRCTL, _one_of(0, _THREAD_NAMES))
    program += _case(_TGKILL, _one_of(0, (os.getpid(),)))
    program += _case(_PRLIMIT, _one_of(0, (0,)))
    return [*program, refuse]


def _case(number: int, body: list[Instruction]) -> list[Instruction]:
    return [(_EQUAL, 0, len(body), number), *body]


def _masked(argument: int, mask: int) -> list[Instruction]:
    """The low word of an argument, and the bits of it that count."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), (_AND, 0, 0, mask)]


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), _allow()]
    return [*body, _errno(errno.EPERM)]


def _allow() -> Instruction:
    return _RETURN, 0, 0, _ALLOW


def _errno(code: int) -> Instruction:
    return _RETURN, 0, 0, _ERRNO | code

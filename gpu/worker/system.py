"""System calls that Python does not have, for the sandbox. Linux only."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPGET, _CAPSET = 125, 126
_CAPABILITY_VERSION_3 = 0x2008_0522


def syscall(number: int, *arguments: int | None) -> int:
    """Raises OSError."""
    words = [ctypes.c_long(0 if each is None else each) for each in arguments]
    return check(_syscall(ctypes.c_long(number), *words))


def check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, value: int = 0) -> None:
    check(libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), 0))


def has_capabilities(*wanted: int) -> bool:
    """Whether this thread has all of these (linux/capability.h)."""
    mask = sum(1 << number for number in wanted)
    return mask & _permitted() == mask


def _permitted() -> int:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    syscall(_CAPGET, ctypes.addressof(header), ctypes.addressof(data))
    return int(data[1]) | int(data[4]) << 32


def keep_capabilities(*kept: int) -> None:
    """This thread, and those it starts, have no other capabilities."""
    mask = sum(1 << number for number in kept) & _permitted()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    syscall(_CAPSET, ctypes.addressof(header), ctypes.addressof(data))

"""Landlock: which paths this process may use at all, whatever its user may.

Linux 5.13 and later (Documentation/userspace-api/landlock.rst).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from gpu.worker.system import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_OF_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_IOCTL_DEV = 1 << 15
_TRUNCATE = 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL_TCP = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3


def restrict(readable: Sequence[str], writable: Sequence[str], devices: Sequence[str]) -> None:
    """This thread, and all that it starts, may read and execute what is beneath `readable`, do all
    beneath `writable`, use the device files, and list folders. No TCP. OSError where the kernel
    has none."""
    version = syscall(_CREATE_RULESET, None, 0, 1)
    everything = _ALL_OF_VERSION[max(each for each in _ALL_OF_VERSION if each <= version)]
    network = _ALL_TCP if version >= 4 else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    attributes = struct.pack("<QQQ", everything, network, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    buffer = ctypes.create_string_buffer(attributes, 24)
    rules = syscall(_CREATE_RULESET, ctypes.addressof(buffer), size, 0)
    try:
        # hwloc, by which PoCL counts processors, opens the root.
        _allow(rules, "/", _READ_DIR)
        for path in readable:
            _allow(rules, path, (_EXECUTE | _READ_FILE | _READ_DIR) & everything)
        for path in writable:
            _allow(rules, path, everything)
        for path in devices:
            _allow(rules, path, (_READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEV) & everything)
        syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            access &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("<Qi", access, fd), 12)
        syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(fd)

"""PoCL's second device, which executes in the thread that asks.

What has one work-group gains nothing by PoCL's threads: it would have one of them woken, and then
wake the thread that waits, each of which takes longer than a short kernel. On a host with few
processors the woken thread also waits for one that is free. PoCL's device "basic" has no threads,
and the code that "pthread" runs is the same, found by the same names: only the device's number in
the head of a binary differs, which is a hash (FNV-1, 64 bits) of what its version is called.
"""

from __future__ import annotations

import struct
from typing import Any

from gpu.worker import groups

_MAGIC = b"poclbin\0"
_NUMBER = struct.Struct("<Q")
_THREADS, _DIRECT = "pthread-", "basic-"


def beside(device: Any) -> Any | None:
    """The device to give what has one work-group instead of `device`, if there is one."""
    if not groups.is_supported(device):
        return None
    name = _name(device)
    wanted = name.replace(_THREADS, _DIRECT, 1)
    found = [each for each in device.platform.get_devices() if _name(each) == wanted != name]
    return found[0] if found else None


def is_direct(device: Any) -> bool:
    """Whether it is such a device itself."""
    return _name(device).startswith(_DIRECT)


def binary_for(direct: Any, device: Any, binary: bytes) -> bytes:
    """A binary of `device` as one of `direct`."""
    end = len(_MAGIC) + _NUMBER.size
    if binary[:end] != _MAGIC + _number(device):
        raise ValueError("a binary of another device")
    return _MAGIC + _number(direct) + binary[end:]


def _name(device: Any) -> str:
    return str(device.version.partition("HSTR: ")[2]).strip()


def _number(device: Any) -> bytes:
    state = 0xCBF2_9CE4_8422_2325
    for byte in _name(device).encode():
        state = state * 0x100_0000_01B3 % (1 << 64) ^ byte
    return _NUMBER.pack(state)

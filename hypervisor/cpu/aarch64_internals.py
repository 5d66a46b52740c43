"""The engine's internal functions for AArch64, and where an instance keeps its state."""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
from ctypes import c_uint64, c_void_p, string_at
from functools import cache

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import library
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import EngineError

ARCH_ARM64, MODE_ARM, CORTEX_A72 = 2, 0, 2
PAGE = 4096
"""The smallest granule of the core. Left to itself the engine goes by pages of 1 KiB, which older
architectures had."""
X0_NUMBER = 199
"""The engine's number of x0."""
_IDENTITY_REACH = 0x4000


class Internals:
    """The engine's internal functions for AArch64."""

    def __init__(self) -> None:
        d = library.declare
        self.tlb_flush = d("tlb_flush_aarch64", None, c_void_p)
        self.update_virq = d("arm_cpu_update_virq_aarch64", None, c_void_p)
        self.update_vfiq = d("arm_cpu_update_vfiq_aarch64", None, c_void_p)
        self.rebuild_hflags = d("arm_rebuild_hflags_aarch64", None, c_void_p)


@cache
def internals() -> Internals:
    return Internals()


def find_env(engine: Engine) -> int:
    """CPUARMState by random values in x0 to x3, read back from the CPUState's memory."""
    markers = [secrets.randbits(64) for _ in range(4)]
    for number, value in enumerate(markers):
        engine.write_register(X0_NUMBER + number, value)
    pattern = struct.pack("<4Q", *markers)
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        for candidate in set(struct.unpack("<600Q", os.pread(memory, 4800, engine.handle))):
            if candidate % 8 or not 0x10000 < candidate < 1 << 47:
                continue
            try:
                body = os.pread(memory, 0x20000, candidate)
            except OSError:
                continue
            position = body.find(pattern)
            if position >= 0 and body[:8] == struct.pack("<II", 1, 1):
                return int(candidate) + position - env.X0
    finally:
        os.close(memory)
    raise EngineError(f"{library.wheel()} keeps its CPU state where it cannot be found")


def choose_features(address: int) -> ctypes.Array[c_uint64]:
    """Have the core at env `address` decode the Large System Extensions (LDADD, SWP, CAS), which
    the engine leaves to a model that we do not use, and say that it has no AArch32. Gives what the
    engine knows it by (`env.IDENTITY`)."""
    tail = string_at(address, _IDENTITY_REACH)
    pattern = struct.pack("<5Q", *env.IDENTITY)
    if tail.count(pattern) != 1:
        raise EngineError(f"{library.wheel()} keeps a core's features where they cannot be found")
    identity = (c_uint64 * 5).from_address(address + tail.index(pattern))
    identity[0] |= env.ATOMIC
    identity[2] = env.ID_AA64PFR0
    return identity

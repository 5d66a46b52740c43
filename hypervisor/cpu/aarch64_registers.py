"""An AArch64 core's registers, by the names of the specification.

General ones as assemblers write them (x0 to x30, sp, pc, pstate, v0 to v31, fpcr, fpsr), system
registers as the Arm ARM does (ELR_EL1). v registers have 128 bits, the others 64 at most.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import registers
from hypervisor.cpu.cells import NEVER, UNITS_PER_TICK, ClockCell, HartCell
from hypervisor.cpu.engine import Engine

_REG_CP, _REG_PSTATE, _REG_FPCR, _REG_FPSR = 290, 265, 291, 292
_SP_SELECT, _LEVEL = 1, 0xC

_TIMERS = {
    "CNTP_CTL_EL0": "cntp_ctl",
    "CNTP_CVAL_EL0": "cntp_cval",
    "CNTV_CTL_EL0": "cntv_ctl",
    "CNTV_CVAL_EL0": "cntv_cval",
}
_ENGINE = {"pstate": _REG_PSTATE, "fpcr": _REG_FPCR, "fpsr": _REG_FPSR}
_FIELDS = {name: env.X0 + 8 * n for n, name in enumerate(env.INTEGER_NAMES)}
_FIELDS |= {
    "sp": env.SP,
    "exclusive_address": env.EXCLUSIVE_ADDRESS,
    "exclusive_value": env.EXCLUSIVE_VALUE,
    "exclusive_high": env.EXCLUSIVE_HIGH,
}
_VECTORS = {f"v{n}": env.V0 + env.VECTOR * n for n in range(32)}
_BANKED = {f"SP_EL{n}": env.SP_EL + 8 * n for n in range(2)}
_COUNTERS = ("CNTVCT_EL0", "CNTPCT_EL0")


class _Access(ctypes.Structure):
    """uc_arm64_cp_reg."""

    _fields_ = [
        ("crn", c_uint32),
        ("crm", c_uint32),
        ("op0", c_uint32),
        ("op1", c_uint32),
        ("op2", c_uint32),
        ("val", c_uint64),
    ]


class Registers(registers.Registers):
    """A core's registers by name."""

    def __init__(self, engine: Engine, address: int, cell: HartCell, clock: ClockCell) -> None:
        self._engine = engine
        self._address = address
        self._cell = cell
        self._clock = clock

    def __iter__(self) -> Iterator[str]:
        yield from _FIELDS
        yield from _VECTORS
        yield from _ENGINE  # pstate before the stack pointers, of which it selects one
        yield from _BANKED
        yield from _TIMERS
        yield from env.SYSTEM_REGISTERS

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> int:
        at = _FIELDS.get(name)
        if at is not None:
            return self._word(at).value
        if name in _ENGINE:
            return self._engine.read_register(_ENGINE[name])
        if name in _VECTORS:
            low, high = (c_uint64 * 2).from_address(self._address + _VECTORS[name])
            return int(low) | int(high) << 64
        if name in _BANKED:
            return self._word(env.SP if self._is_present(name) else _BANKED[name]).value
        if name in _TIMERS:
            return int(getattr(self._cell, _TIMERS[name]))
        if name == "pc":
            return self._word(env.PC).value
        if name in _COUNTERS:
            return self._clock.visible // UNITS_PER_TICK
        access = self._access(name, 0)
        self._engine.read_into(_REG_CP, access)
        return int(access.val)

    def __setitem__(self, name: str, value: int) -> None:
        at = _FIELDS.get(name)
        if at is not None:
            self._word(at).value = value & NEVER
        elif name in _ENGINE:
            self._engine.write_register(_ENGINE[name], value & NEVER)
        elif name in _VECTORS:
            words = (c_uint64 * 2).from_address(self._address + _VECTORS[name])
            words[0], words[1] = value & NEVER, value >> 64 & NEVER
        elif name in _BANKED:
            self._word(_BANKED[name]).value = value & NEVER
            if self._is_present(name):
                self._word(env.SP).value = value & NEVER
        elif name in _TIMERS:
            setattr(self._cell, _TIMERS[name], value & NEVER)
        elif name == "pc":
            self._word(env.PC).value = value & NEVER
        else:
            self._engine.write_from(_REG_CP, self._access(name, value & NEVER))

    @property
    def level(self) -> int:
        """The present exception level, 0 to 3."""
        return (self._word(env.PSTATE).value & _LEVEL) >> 2

    def _is_present(self, name: str) -> bool:
        """The banked stack pointer `name` is the one in use."""
        selected = self.level if self._word(env.PSTATE).value & _SP_SELECT else 0
        return name == f"SP_EL{selected}"

    def _word(self, at: int) -> c_uint64:
        return c_uint64.from_address(self._address + at)

    def _access(self, name: str, value: int) -> _Access:
        for table in (env.SYSTEM_REGISTERS, env.FIRMWARE_REGISTERS, env.IDENTIFICATION):
            if name in table:
                op0, op1, crn, crm, op2 = table[name]
                return _Access(crn, crm, op0, op1, op2, value)
        raise KeyError(name)

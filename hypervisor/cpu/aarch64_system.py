"""System registers and instructions that the engine is made to answer as we do, or not at all.

The engine describes each of them in a record of the core's own, which it looks at when it
translates an access. A changed record costs nothing afterwards, where a hook would be called at
every access to any. Encodings are those of the Arm ARM, D12.1.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from ctypes import c_int32, c_int64, c_uint8, c_uint64, c_void_p
from functools import cache

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import library
from hypervisor.cpu.cells import HartCell
from hypervisor.cpu.library import EngineError
from hypervisor.device.registers import SystemRegisters

CTR_EL0 = 0x8444_C00A
"""Cache lines: 64 bytes of data, as a Cortex-A72 has, and a page of instructions, so that one
IC IVAU covers a page of code."""

_AARCH64 = 1 << 28 | 0x13 << 16
_SUPPRESS_BLOCK_END, _NO_RAW, _AARCH64_STATE = 8, 0x80, 1
_EL1_READS, _EL1_WRITES = 0xA8, 0x54
_ReadFunction = ctypes.CFUNCTYPE(c_uint64, c_void_p, c_void_p)
_WriteFunction = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_uint64)
_PMU_VERSION, _PERFORMANCE_MONITORS = 0xF << 8, 0xF << 24


class _Record(ctypes.Structure):
    """The beginning of the engine's ARMCPRegInfo."""

    _fields_ = [
        ("name", c_uint64),
        ("coprocessor", c_uint8),
        ("crn", c_uint8),
        ("crm", c_uint8),
        ("op0", c_uint8),
        ("op1", c_uint8),
        ("op2", c_uint8),
        ("state", c_int32),
        ("type", c_int32),
        ("access", c_int32),
        ("secure", c_int32),
        ("opaque", c_uint64),
        ("value", c_uint64),
        ("field", c_int64),
        ("banked_fields", c_int64 * 2),
        ("access_function", c_uint64),
        ("read", c_uint64),
        ("write", c_uint64),
    ]


class _NewRecord(ctypes.Structure):
    """As the engine copies it: of the rest nothing is wanted."""

    _fields_ = [("known", _Record), ("rest", c_uint64 * 8)]


RECORD_FIELD = _Record.field.offset
"""Where a record says at which offset in env the register lies."""


class _Wrapped(ctypes.Structure):
    """What the callback of a register whose own function goes on to be called is given."""

    _fields_ = [("hart", c_uint64), ("function", c_uint64)]


def _system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    return _AARCH64 | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


_COUNTERS = [_system(3, 3, 14, 0, 1), _system(3, 3, 14, 0, 2)]
_TIMERS = {
    "cntp_ctl": _system(3, 3, 14, 2, 1),
    "cntp_cval": _system(3, 3, 14, 2, 2),
    "cntp_tval": _system(3, 3, 14, 2, 0),
    "cntv_ctl": _system(3, 3, 14, 3, 1),
    "cntv_cval": _system(3, 3, 14, 3, 2),
    "cntv_tval": _system(3, 3, 14, 3, 0),
}
FUNCTIONS = (
    *("read_counter", "invalidate_page", "invalidate_all", "invalidate_tlbs", "write_spsr"),
    *(f"{access}_{name}" for access in ("read", "write") for name in _TIMERS),
)
"""The native callbacks that answer."""


def _monitors() -> Iterator[int]:
    """Every register that performance monitors may have."""
    for op2 in range(8):
        for crm in (12, 13, 14):
            yield _system(3, 3, 9, crm, op2)
        yield _system(3, 0, 9, 14, op2)
        for crm in range(8, 16):
            yield _system(3, 3, 14, crm, op2)


def adapt(address: int, hart: HartCell, native: Mapping[str, int]) -> list[object]:
    """Change the records of the core with this env `address`. Before it translates anything.

    Gives what must be kept for as long as the core. Raises EngineError.
    """
    find = _finder(address)
    _answer_timers(find, hart, native)
    kept = _follow_maintenance(find, hart, native)
    _identify(find)
    _known(find, _system(3, 0, 4, 0, 0)).write = native["write_spsr"]
    for key in _monitors():  # their cycle counter is the host's clock
        record = find(key)
        if record is not None:
            record.access = 0
    return kept


def define(cpu: int, registers: SystemRegisters) -> list[object]:
    """Give the core with this CPUState registers that the engine does not know. Before it
    translates an access to any; gives what must be kept for as long as the core."""
    add = library.declare(
        "define_one_arm_cp_reg_with_opaque_aarch64", None, c_void_p, c_void_p, c_void_p
    )
    kept: list[object] = []
    for (op0, op1, crn, crm, op2), (read, write) in registers.items():
        new = _NewRecord()
        record = new.known
        name = ctypes.create_string_buffer(f"S{op0}_{op1}_C{crn}_C{crm}_{op2}".encode())
        record.name = ctypes.addressof(name)
        record.crn, record.crm, record.op0, record.op1, record.op2 = crn, crm, op0, op1, op2
        record.state, record.type = _AARCH64_STATE, _NO_RAW
        kept.append(name)
        if read is not None:
            load = _ReadFunction(lambda _env, _record, read=read: read())
            record.read = library.address_of(load)
            record.access |= _EL1_READS
            kept.append(load)
        if write is not None:
            store = _WriteFunction(lambda _env, _record, value, write=write: write(value))
            record.write = library.address_of(store)
            record.access |= _EL1_WRITES
            kept.append(store)
        add(cpu, ctypes.byref(new), None)
    return kept


def _answer_timers(find: _Find, hart: HartCell, native: Mapping[str, int]) -> None:
    """The engine's counter is the host's, and its timers never fire."""
    for key in _COUNTERS:
        record = _known(find, key)
        record.opaque, record.read = ctypes.addressof(hart), native["read_counter"]
    for name, key in _TIMERS.items():
        register = _known(find, key)
        register.opaque = ctypes.addressof(hart)
        register.read, register.write = native[f"read_{name}"], native[f"write_{name}"]


def _follow_maintenance(find: _Find, hart: HartCell, native: Mapping[str, int]) -> list[object]:
    """IC does nothing in the engine, and TLBI what it does for this core alone."""
    everywhere, here = _system(1, 0, 7, 1, 0), _system(1, 0, 7, 5, 0)
    for key in (everywhere, here, _system(1, 3, 7, 5, 1)):
        record = _known(find, key)
        by_address = record.op1 == 3
        record.opaque, record.type = ctypes.addressof(hart), _SUPPRESS_BLOCK_END
        record.write = native["invalidate_page" if by_address else "invalidate_all"]
    kept: list[object] = []
    for op2 in range(8):
        operation = find(_system(1, 0, 8, 3, op2))
        if operation is not None:
            wrapped = _Wrapped(ctypes.addressof(hart), operation.write)
            operation.opaque, operation.write = ctypes.addressof(wrapped), native["invalidate_tlbs"]
            kept.append(wrapped)
    return kept


def _identify(find: _Find) -> None:
    _known(find, _system(3, 3, 0, 0, 1)).value = CTR_EL0
    _known(find, _system(3, 0, 0, 6, 0)).value |= env.ATOMIC
    _known(find, _system(3, 0, 0, 5, 0)).value &= ~_PMU_VERSION
    _known(find, _system(3, 0, 0, 1, 2)).value &= ~_PERFORMANCE_MONITORS


_Find = Callable[[int], _Record | None]


@cache
def _lookup() -> Callable[[int, int], int | None]:
    lookup: Callable[[int, int], int | None] = library.declare(
        "get_arm_cp_reginfo_aarch64", c_void_p, c_uint64, ctypes.c_uint32
    )
    return lookup


def _finder(address: int) -> _Find:
    table = c_uint64.from_address(address + env.CP_REGISTERS).value
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        size, _, mask = struct.unpack("<3I", os.pread(memory, 12, table))
    except OSError:
        size = mask = 0
    finally:
        os.close(memory)
    if not size or mask != size - 1:
        raise EngineError(f"{library.wheel()} describes its registers where they cannot be found")

    def find(key: int) -> _Record | None:
        at = _lookup()(table, key)
        return None if at is None else _Record.from_address(at)

    return find


def _known(find: _Find, key: int) -> _Record:
    """A record that must be there, and be what we take it for."""
    record = find(key)
    said = None if record is None else (record.crm, record.op2)
    if record is None or said != (key >> 3 & 15, key & 7):
        raise EngineError(f"{library.wheel()} describes its registers in a way that is not known")
    return record

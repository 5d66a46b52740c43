"""The address a RISC-V load, store or atomic uses, from its encoding (unprivileged ISA, ch. 34)."""

from __future__ import annotations

from collections.abc import Mapping

from hypervisor.cpu.riscv64_env import INTEGER_NAMES

_LOAD, _LOAD_FP, _STORE, _STORE_FP, _AMO = 0x03, 0x07, 0x23, 0x27, 0x2F
_LR = 0b00010
_WRAP = (1 << 64) - 1


def data_address(word: int, registers: Mapping[str, int]) -> int | None:
    """The effective address, or None when the instruction accesses no memory."""
    found = _wide(word) if word & 3 == 3 else _compressed(word)
    if found is None:
        return None
    base, displacement = found
    return registers[INTEGER_NAMES[base]] + displacement & _WRAP


def is_read_modify_write(word: int) -> bool:
    """An AMO or SC: its faults are store faults, though the engine reads first."""
    return word & 0x7F == _AMO and word >> 27 != _LR


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def _wide(word: int) -> tuple[int, int] | None:
    opcode, base = word & 0x7F, word >> 15 & 31
    if opcode in (_LOAD, _LOAD_FP):
        return base, _signed(word >> 20, 12)
    if opcode in (_STORE, _STORE_FP):
        return base, _signed(word >> 25 << 5 | word >> 7 & 31, 12)
    if opcode == _AMO:
        return base, 0
    return None


def _compressed(word: int) -> tuple[int, int] | None:
    quadrant, kind = word & 3, word >> 13
    if quadrant == 0 and kind in (1, 2, 3, 5, 6, 7):
        base = 8 + (word >> 7 & 7)
        high = (word >> 10 & 7) << 3
        if kind in (2, 6):  # 4 bytes
            return base, high | (word >> 6 & 1) << 2 | (word >> 5 & 1) << 6
        return base, high | (word >> 5 & 3) << 6
    if quadrant == 2 and kind in (1, 2, 3):  # from the stack pointer
        if kind == 2:
            return 2, (word >> 12 & 1) << 5 | (word >> 4 & 7) << 2 | (word >> 2 & 3) << 6
        return 2, (word >> 12 & 1) << 5 | (word >> 5 & 3) << 3 | (word >> 2 & 7) << 6
    if quadrant == 2 and kind in (5, 6, 7):
        if kind == 6:
            return 2, (word >> 9 & 15) << 2 | (word >> 7 & 3) << 6
        return 2, (word >> 10 & 7) << 3 | (word >> 7 & 7) << 6
    return None

"""The address that an A64 load, store, atomic or DC ZVA uses, from its encoding (Arm ARM C4.1,
"Loads and Stores")."""

from __future__ import annotations

from collections.abc import Mapping

_WRAP = (1 << 64) - 1
_ZERO = 31
"""As a base register this is sp, anywhere else zero."""
_UXTW, _SXTW = 2, 6
_DC_ZVA = 0xD50B_7420


def data_address(word: int, pc: int, registers: Mapping[str, int]) -> int | None:
    """The lowest address that the instruction `word` at `pc` accesses, or None when it accesses no
    memory."""
    if word & ~31 == _DC_ZVA:
        return _general(registers, word & 31)
    if word >> 27 & 1 == 0 or word >> 25 & 1:
        return None
    group = word >> 28 & 3
    if group == 1 and not word >> 24 & 1:
        return pc + 4 * _signed(word >> 5 & 0x7_FFFF, 19) & _WRAP
    base = word >> 5 & 31
    address = registers["sp"] if base == _ZERO else registers[f"x{base}"]
    # The others are exclusive, ordered or of SIMD structures, whose base register is the address.
    offsets = {1: _unscaled, 2: _pair, 3: _single}
    offset = offsets[group](word, registers) if group in offsets else 0
    return address + offset & _WRAP


def _pair(word: int, registers: Mapping[str, int]) -> int:
    if word >> 23 & 3 == 1:  # post-index
        return 0
    opc, is_vector = word >> 30, word >> 26 & 1
    scale = 2 + opc if is_vector else 2 + (opc >> 1)
    return _signed(word >> 15 & 0x7F, 7) << scale


def _single(word: int, registers: Mapping[str, int]) -> int:
    is_vector_of_16 = word >> 26 & 1 and word >> 23 & 1
    scale = 4 if is_vector_of_16 else word >> 30
    if word >> 24 & 1:
        return (word >> 10 & 0xFFF) << scale
    kind = word >> 10 & 3
    if word >> 21 & 1:
        return _register_offset(word, registers, scale) if kind == 2 else 0  # 0: atomic
    return 0 if kind == 1 else _unscaled(word, registers)  # 1: post-index


def _unscaled(word: int, registers: Mapping[str, int]) -> int:
    return _signed(word >> 12 & 0x1FF, 9)


def _register_offset(word: int, registers: Mapping[str, int], scale: int) -> int:
    value, extension = _general(registers, word >> 16 & 31), word >> 13 & 7
    if extension == _UXTW:
        value &= 0xFFFF_FFFF
    elif extension == _SXTW:
        value = _signed(value & 0xFFFF_FFFF, 32)
    return value << (scale if word >> 12 & 1 else 0)


def _general(registers: Mapping[str, int], number: int) -> int:
    return 0 if number == _ZERO else registers[f"x{number}"]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value

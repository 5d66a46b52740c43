"""Addresses of loads and stores, decoded; judged by a disassembler where chance made the words."""

from __future__ import annotations

import re
from typing import Any

import capstone
import pytest
from capstone import arm64_const as names
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.cpu.aarch64_decode import data_address
from tests.effort import effort

PC = 0x4000_1000
WRAP = (1 << 64) - 1
REGISTERS = {f"x{n}": 0x1_0000_0000 * (n + 1) + 0x8000_0000 * (n % 2) + 8 * n for n in range(31)}
REGISTERS["sp"] = 0x7777_0000
X1, X2 = REGISTERS["x1"], REGISTERS["x2"]
DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
DISASSEMBLER.detail = True
LATER = re.compile(r"prfm|cpy|ldra[ab]$|(ld|stz?2?)g$")
"""Never faults, or is not there before Armv8.3 and so undefined."""
SET, CLEAR = 1 << 27, 1 << 25
"""What all loads and stores have."""


@pytest.mark.parametrize(
    ("word", "address"),
    [
        pytest.param(0xF940_0420, X1 + 8, id="ldr x0, [x1, #8]"),
        pytest.param(0x3DC0_0420, X1 + 16, id="ldr q0, [x1, #16]"),
        pytest.param(0x39BF_FC20, X1 + 4095, id="ldrsb x0, [x1, #4095]"),
        pytest.param(0xF85F_8020, X1 - 8, id="ldur x0, [x1, #-8]"),
        pytest.param(0xF85F_8C20, X1 - 8, id="ldr x0, [x1, #-8]!"),
        pytest.param(0xF85F_8420, X1, id="ldr x0, [x1], #-8"),
        pytest.param(0xF81F_0FE0, 0x7776_FFF0, id="str x0, [sp, #-16]!"),
        pytest.param(0xF862_6820, X1 + X2 & WRAP, id="ldr x0, [x1, x2]"),
        pytest.param(0xF862_7820, X1 + 8 * X2 & WRAP, id="ldr x0, [x1, x2, lsl #3]"),
        pytest.param(0xB862_5820, X1 + 4 * (X2 & 0xFFFF_FFFF), id="ldr w0, [x1, w2, uxtw #2]"),
        pytest.param(0xB861_D820, X1 + 4 * (0x8000_0008 - (1 << 32)), id="ldr w0, [x1, w1, sxtw2]"),
        pytest.param(0xF87F_6820, X1, id="ldr x0, [x1, xzr]"),
        pytest.param(0xA97F_0820, X1 - 16, id="ldp x0, x2, [x1, #-16]"),
        pytest.param(0xA8FF_0820, X1, id="ldp x0, x2, [x1], #-16"),
        pytest.param(0x6940_8820, X1 + 4, id="ldpsw x0, x2, [x1, #4]"),
        pytest.param(0xAD00_8820, X1 + 16, id="stp q0, q2, [x1, #16]"),
        pytest.param(0x58FF_FFE0, PC - 4, id="ldr x0, . - 4"),
        pytest.param(0xC85F_7C20, X1, id="ldxr x0, [x1]"),
        pytest.param(0xC89F_FC20, X1, id="stlr x0, [x1]"),
        pytest.param(0xF822_0020, X1, id="ldadd x2, x0, [x1]"),
        pytest.param(0xC8A2_7C20, X1, id="cas x2, x0, [x1]"),
        pytest.param(0x4C40_7020, X1, id="ld1 {v0.16b}, [x1]"),
        pytest.param(0x4CDF_7020, X1, id="ld1 {v0.16b}, [x1], #16"),
        pytest.param(0xD91F_F020, X1 - 1, id="stlur x0, [x1, #-1]"),
    ],
)
def test_address_is_what_the_form_says(word: int, address: int) -> None:
    assert data_address(word, PC, REGISTERS) == address


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(0xD503_201F, id="nop"),
        pytest.param(0x8B02_0020, id="add"),
        pytest.param(0xD65F_03C0, id="ret"),
        pytest.param(0x1E62_2820, id="fadd"),
        pytest.param(0xD53B_D040, id="mrs"),
        pytest.param(0x0000_0000, id="udf"),
    ],
)
def test_other_instructions_access_nothing(word: int) -> None:
    assert data_address(word, PC, REGISTERS) is None


def memory_operand(instruction: Any) -> Any | None:
    return next((each for each in instruction.operands if each.type == names.ARM64_OP_MEM), None)


def register(number: int) -> int:
    name = DISASSEMBLER.reg_name(number)
    name = {"fp": "x29", "lr": "x30"}.get(name, name)
    wide = name.replace("w", "x")
    value = 0 if wide == "xzr" else REGISTERS[wide]
    return value & 0xFFFF_FFFF if name.startswith("w") else value


EXTEND = {
    names.ARM64_EXT_INVALID: lambda value: value,
    names.ARM64_EXT_UXTW: lambda value: value,
    names.ARM64_EXT_SXTW: lambda value: value - (value >> 31 << 32),
    names.ARM64_EXT_SXTX: lambda value: value,
}


def by_disassembly(operand: Any) -> int:
    memory = operand.mem
    index = EXTEND[operand.ext](register(memory.index)) if memory.index else 0
    return register(memory.base) + memory.disp + (index << operand.shift.value) & WRAP


def agrees(word: int) -> bool:
    """With the disassembler, as far as that sees a load or store of memory by a register."""
    found = list(DISASSEMBLER.disasm(word.to_bytes(4, "little"), PC))
    operand = memory_operand(found[0]) if found else None
    if operand is None or LATER.match(found[0].mnemonic):
        return True
    return data_address(word, PC, REGISTERS) == by_disassembly(operand)


@settings(max_examples=effort(1_000, 50_000), deadline=None)
@given(st.integers(0, (1 << 32) - 1))
def test_random_loads_and_stores_agree_with_the_disassembler(word: int) -> None:
    assert agrees(word & ~CLEAR | SET)

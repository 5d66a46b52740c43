"""The address an instruction accesses, against the assembler and the engine's own faults."""

from __future__ import annotations

import random

import pytest

from hypervisor.cpu.riscv64_decode import data_address, is_read_modify_write

REGISTERS = {"s0": 0x1_0000, "s1": 0x2_0000, "a0": 0x3_0000, "a5": 0x4_0000, "sp": 0x5_0000}
REGISTERS |= {"t6": (1 << 64) - 8, "zero": 0, "ra": 0x6_0000}

ACCESSES = {
    "lb a1, -1(s0)": 0xFFFF,
    "lhu a1, 2(s1)": 0x2_0002,
    "lw a1, 2047(a0)": 0x3_07FF,
    "ld a1, -2048(a0)": 0x2_F800,
    "lwu a1, 16(t6)": 8,
    "flw fa0, 4(a5)": 0x4_0004,
    "fld fa0, -8(a5)": 0x3_FFF8,
    "sb a1, -1(s0)": 0xFFFF,
    "sh a1, 2046(s1)": 0x2_07FE,
    "sw a1, -2048(a0)": 0x2_F800,
    "sd a1, 1032(ra)": 0x6_0408,
    "fsw fa0, 4(a5)": 0x4_0004,
    "fsd fa0, -16(a5)": 0x3_FFF0,
    "lr.w a1, (s0)": 0x1_0000,
    "sc.d a1, a2, (s1)": 0x2_0000,
    "amoadd.w a1, a2, (a0)": 0x3_0000,
    "amomaxu.d.aqrl a1, a2, (a5)": 0x4_0000,
    "c.lw a1, 124(s0)": 0x1_007C,
    "c.lw a1, 64(a5)": 0x4_0040,
    "c.sw a1, 4(s1)": 0x2_0004,
    "c.ld a1, 248(s0)": 0x1_00F8,
    "c.ld a1, 8(a5)": 0x4_0008,
    "c.sd a1, 192(s1)": 0x2_00C0,
    "c.fld fa0, 64(a0)": 0x3_0040,
    "c.fsd fa0, 56(a0)": 0x3_0038,
    "c.lwsp a1, 252(sp)": 0x5_00FC,
    "c.lwsp a1, 4(sp)": 0x5_0004,
    "c.ldsp a1, 504(sp)": 0x5_01F8,
    "c.swsp a1, 200(sp)": 0x5_00C8,
    "c.sdsp a1, 320(sp)": 0x5_0140,
    "c.fldsp fa0, 256(sp)": 0x5_0100,
    "c.fsdsp fa0, 448(sp)": 0x5_01C0,
}
NO_ACCESSES = [
    "add a0, a1, a2",
    "c.mv a0, a1",
    "j .",
    "lui a0, 1",
    "ecall",
    "c.addi4spn s0, sp, 16",
]


@pytest.fixture(scope="module")
def words(assemble):
    """The encoding of each instruction, of all in one assembly."""
    every = [*ACCESSES, *NO_ACCESSES]
    code = assemble("".join(f".balign 4\n.option push\n {text}\n.option pop\n" for text in every))
    found = {}
    for number, text in enumerate(every):
        word = int.from_bytes(code[4 * number : 4 * number + 4], "little")
        found[text] = word if word & 3 == 3 else word & 0xFFFF
    return found


@pytest.mark.parametrize("text", ACCESSES)
def test_address_is_what_the_assembler_meant(words, text):
    assert data_address(words[text], REGISTERS) == ACCESSES[text]
    assert (words[text] & 3 != 3) == text.startswith("c.")


@pytest.mark.parametrize("text", NO_ACCESSES)
def test_other_instructions_access_nothing(words, text):
    assert data_address(words[text], REGISTERS) is None


def test_atomics_but_load_reserved_read_and_write(words):
    atomic = {text for text in ACCESSES if is_read_modify_write(words[text])}

    assert atomic == {"sc.d a1, a2, (s1)", "amoadd.w a1, a2, (a0)", "amomaxu.d.aqrl a1, a2, (a5)"}


def test_any_32_bits_decode_to_an_address_or_nothing(rig):
    registers = rig.harts[0].registers
    choose = random.Random(1)

    found = [data_address(choose.getrandbits(32), registers) for _ in range(5000)]

    assert all(address is None or 0 <= address < 1 << 64 for address in found)
    assert any(address is not None for address in found)

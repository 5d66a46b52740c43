"""A person is shown where a hart is, what it holds, and the instructions there."""

from __future__ import annotations

import pytest

from hypervisor.boot.loadable import Loadable
from hypervisor.report import describe_hart, disassemble

RAM, RAM_END = 0x8000_0000, 0x8010_0000


@pytest.fixture
def waiting(rig):
    return rig.run("li a0, 0x1234\n li s11, -1\n wfi\n add a1, a2, a3\n c.mv a4, a5\n ret")


def test_place_mode_and_registers_are_shown(waiting):
    text = describe_hart(waiting)

    assert text.startswith(f"hart 0 (waiting, M-mode) at {waiting.pc:#x}\n")
    assert "a0 0000000000001234" in text
    assert "s11 ffffffffffffffff" in text
    for name in ("sepc", "scause", "stval", "satp", "mepc", "mcause", "mtval", "mstatus"):
        assert f" {name} 0" in text
    assert "last trap" not in text
    assert not text.endswith("\n")


def test_code_is_disassembled_with_the_present_instruction_marked(waiting):
    lines = disassemble(waiting)

    assert lines[:3] == [
        f"=> {waiting.pc:#x}: add a1, a2, a3",
        f"   {waiting.pc + 4:#x}: c.mv a4, a5",
        f"   {waiting.pc + 6:#x}: c.jr ra",
    ]


@pytest.mark.parametrize("priv", [0, 1, 3])
@pytest.mark.parametrize("state", ["running", "waiting", "stopped"])
def test_mode_and_state_are_named(rig, priv, state):
    hart = rig.load("nop")
    hart.registers["priv"] = priv
    hart.waiting = state == "waiting"
    hart.stopped = state == "stopped"

    assert f"({state}, {'US?M'[priv]}-mode)" in describe_hart(hart)


def test_last_trap_is_named(rig):
    hart = rig.run("la t0, h\n csrw mtvec, t0\n unimp\n.balign 4\nh: wfi")

    assert "last trap: illegal instruction" in describe_hart(hart)


@pytest.mark.parametrize("culprit", ["unimp", "ld a0, (zero)"])
def test_place_of_a_trap_with_no_handler_is_shown(rig, culprit):
    hart = rig.load(f"csrw mtvec, zero\n li a0, 7\n {culprit}")
    hart.run()
    hart.run()

    text = describe_hart(hart)

    assert hart.pc == 0
    assert f"the trap was taken at {RAM + 6:#x}\n=> {RAM + 6:#x}: " in text


@pytest.mark.parametrize("pc", [0, RAM_END, 0x4000_0000, (1 << 64) - 2])
def test_code_that_cannot_be_read_is_said_so(rig, pc):
    hart = rig.load("nop")
    hart.pc = pc

    assert disassemble(hart) == [f"no code can be read at {pc:#x}"]


@pytest.mark.parametrize(("size", "code"), [(4, b"\x13\0\0\0"), (2, b"\x01\0")])
def test_last_instruction_of_ram_is_shown(rig, size, code):
    hart = rig.load("nop")
    rig.memory.write(RAM_END - size, code)
    hart.pc = RAM_END - size

    (line,) = disassemble(hart)
    assert line in (f"=> {hart.pc:#x}: nop", f"=> {hart.pc:#x}: c.nop")


def test_words_that_are_no_instructions_are_shown_too(rig):
    hart = rig.load("nop")
    rig.memory.write(RAM, b"\xff\xff\xff\xff\x13\0\0\0")

    assert disassemble(hart)[0].startswith(f"=> {RAM:#x}: .")


class Symbols:
    def lookup(self, address):
        return ("main", address - RAM) if RAM <= address < RAM + 0x100 else None


def test_functions_are_named_where_a_program_knows_them(waiting):
    waiting.registers["ra"] = RAM + 0x200
    nameless = Loadable("raw", "raw", [], 0)
    program = Loadable("guest", "elf", [], 0, symbols=Symbols())

    first, second, *_ = describe_hart(waiting, [nameless, program]).splitlines()

    assert first.endswith(f"at {waiting.pc:#x} (main+{waiting.pc - RAM:#x})")
    assert second == f"called from {RAM + 0x200:#x}"

"""S-mode reaches U-mode's pages while sstatus.SUM is set, and not else, whatever a TLB holds."""

from __future__ import annotations

import struct

import pytest

RAM = 0x8000_0000
ROOT, MIDDLE, LEAVES, FIRST, SECOND = (RAM + 0x10000 + 0x1000 * n for n in range(5))
POINTER, SUPERVISORS, USERS = 0x01, 0xCF, 0xD7
"""Flags of page table entries: V; all but U; V R W U A D."""
USER_PAGE = 0x1000
LEAF = LEAVES + 8 * (USER_PAGE >> 12)
SUM, MXR = 1 << 18, 1 << 19


def entry(physical: int, flags: int) -> int:
    return physical >> 12 << 10 | flags


def run(rig, program):
    """Run S-mode code under page tables that map RAM for S-mode and one page for U-mode. A load or
    store that faults is passed over: s1 counts those; s0 is the address of the page."""
    hart = load(rig, program, "s")
    hart.registers["priv"] = 1
    hart.run()
    assert hart.waiting
    return hart


def run_as_machine(rig, program):
    """The same in M-mode, whose loads and stores are made as S-mode (mstatus.MPRV)."""
    lend = f"""
        li t0, -1
        csrw pmpaddr0, t0
        li t0, 31
        csrw pmpcfg0, t0
        li t0, {3 << 11}
        csrc mstatus, t0
        li t0, {1 << 17 | 1 << 11}
        csrs mstatus, t0
    """
    hart = load(rig, lend + program, "m")
    hart.registers["priv"] = 3
    hart.run()
    assert hart.waiting
    return hart


def load(rig, program, mode):
    hart = rig.load(f"""
        la t0, handler
        csrw {mode}tvec, t0
        li s0, {USER_PAGE}
        li s1, 0
        li s2, {SUM}
        li s3, {LEAF}
        {program}
        wfi
    .balign 4
    handler:
        addi s1, s1, 1
        csrr t0, {mode}epc
        addi t0, t0, 4
        csrw {mode}epc, t0
        {mode}ret
    """)
    entries = {
        ROOT: entry(MIDDLE, POINTER),
        ROOT + 8 * 2: entry(RAM, SUPERVISORS),
        MIDDLE: entry(LEAVES, POINTER),
        LEAF: entry(FIRST, USERS),
    }
    for at, value in entries.items():
        rig.memory.write(at, struct.pack("<Q", value))
    rig.memory.write(FIRST, struct.pack("<Q", 11))
    rig.memory.write(SECOND, struct.pack("<Q", 22))
    hart.registers["medeleg"] = 0xFFFF if mode == "s" else 0
    hart.registers["satp"] = 8 << 60 | ROOT >> 12
    return hart


LOAD = ".option push\n.option norvc\nld {0}, (s0)\n.option pop"


def test_page_that_was_reached_is_out_of_reach_again(rig):
    hart = run(rig, f"""
        {LOAD.format("a0")}
        csrs sstatus, s2
        {LOAD.format("a1")}
        csrc sstatus, s2
        {LOAD.format("a2")}
        csrs sstatus, s2
        {LOAD.format("a3")}
        csrc sstatus, s2
        {LOAD.format("a4")}
    """)  # fmt: skip

    assert [hart.registers[f"a{n}"] for n in range(5)] == [0, 11, 0, 11, 0]
    assert hart.registers["s1"] == 3


def test_flush_reaches_what_is_set_aside(rig):
    hart = run(rig, f"""
        csrs sstatus, s2
        {LOAD.format("a0")}
        csrc sstatus, s2
        li t1, {entry(SECOND, USERS)}
        sd t1, (s3)
        sfence.vma
        csrs sstatus, s2
        {LOAD.format("a1")}
    """)  # fmt: skip

    assert (hart.registers["a0"], hart.registers["a1"]) == (11, 22)


def test_page_of_supervisor_is_reached_either_way(rig):
    hart = run(rig, f"""
        li t3, {RAM + 0x8000}
        li t4, 5
        sd t4, (t3)
        csrs sstatus, s2
        ld a0, (t3)
        addi t4, a0, 1
        sd t4, (t3)
        csrc sstatus, s2
        ld a1, (t3)
    """)  # fmt: skip

    assert (hart.registers["a0"], hart.registers["a1"]) == (5, 6)
    assert hart.registers["s1"] == 0


@pytest.mark.parametrize("bits", [SUM, SUM | MXR])
def test_write_of_all_of_sstatus_does_the_same(rig, bits):
    hart = run(rig, f"""
        li t5, {bits}
        csrw sstatus, t5
        {LOAD.format("a0")}
        csrw sstatus, zero
        {LOAD.format("a1")}
        csrr a2, sstatus
    """)  # fmt: skip

    assert (hart.registers["a0"], hart.registers["a1"]) == (11, 0)
    assert hart.registers["a2"] & (SUM | MXR) == 0
    assert hart.registers["s1"] == 1


def test_change_by_the_host_counts_as_well(rig):
    hart = run(rig, f"""
        csrs sstatus, s2
        {LOAD.format("a0")}
        wfi
        {LOAD.format("a1")}
    """)  # fmt: skip
    hart.registers["mstatus"] &= ~SUM
    hart.waiting = False
    hart.run()

    assert (hart.registers["a0"], hart.registers["a1"]) == (11, 0)
    assert hart.registers["s1"] == 1


def test_loads_that_machine_mode_makes_as_supervisor_obey_it_too(rig):
    hart = run_as_machine(rig, f"""
        csrs sstatus, s2
        {LOAD.format("a0")}
        csrc sstatus, s2
        {LOAD.format("a1")}
    """)  # fmt: skip

    assert (hart.registers["a0"], hart.registers["a1"]) == (11, 0)
    assert hart.registers["s1"] == 1

"""Every synchronous trap arrives with the cause, pc and value the privileged spec gives."""

from __future__ import annotations

import struct

import pytest

from hypervisor.cpu.cells import Reason
from hypervisor.cpu.stopping import WRITE

RAM = 0x8000_0000
POINTER, EXECUTABLE = 0x01, 0xCB
"""Flags of page table entries."""

HANDLER = """
.balign 4
handler:
    csrr s0, mcause
    csrr s1, mepc
    csrr s2, mtval
    wfi
"""
SUPERVISOR_HANDLER = (
    HANDLER.replace("mcause", "scause").replace("mepc", "sepc").replace("mtval", "stval")
)
ENTER_SUPERVISOR = """
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li t0, {medeleg}
    csrw medeleg, t0
    la t0, handler
    csrw stvec, t0
    la t0, machine_handler
    csrw mtvec, t0
    li t0, {mpp} << 11
    csrs mstatus, t0
    la t0, lower
    csrw mepc, t0
    mret
.balign 4
machine_handler:
    csrr s0, mcause
    csrr s1, mepc
    csrr s2, mtval
    li s3, 77
    wfi
"""


@pytest.mark.parametrize(
    ("instruction", "cause", "value"),
    [
        ("ecall", 11, 0),
        (".word 0xffffffff", 2, 0xFFFFFFFF),
        (".half 0x0000", 2, 0),
        ("ebreak", 3, None),
        ("csrw 0xc00, zero", 2, 0xC0001073),
        ("ld a1, 8(a0)", 5, 0x1008),
        ("sd a1, -8(a0)", 7, 0xFF8),
        ("amoadd.d a1, a1, (a0)", 7, 0x1000),
        ("lr.d a1, (a0)", 5, 0x1000),
        ("fld fa0, 16(a0)", 5, 0x1010),
        ("c.ld a1, 24(a0)", 5, 0x1018),
        ("c.sw a1, 4(a0)", 7, 0x1004),
        ("c.ldsp a1, 32(sp)", 5, 0x2020),
        ("c.sdsp a1, 40(sp)", 7, 0x2028),
        ("c.swsp a1, 44(sp)", 7, 0x202C),
        ("c.lwsp a1, 48(sp)", 5, 0x2030),
    ],
)
def test_trap_in_machine_mode(rig, instruction, cause, value):
    hart = rig.run(f"""
        la t0, handler
        csrw mtvec, t0
        li t0, 0x6000
        csrs mstatus, t0
        li a0, 0x1000
        li sp, 0x2000
        j fault
    .balign 64
    fault:
        {instruction}
    {HANDLER}""")

    pc = hart.registers["s1"]

    assert hart.registers["s0"] == cause
    assert pc % 64 == 0
    assert hart.registers["s2"] == (pc if value is None else value)


def test_fetch_from_nowhere_is_an_access_fault_at_the_target(rig):
    hart = rig.run(f"la t0, handler\n csrw mtvec, t0\n li a0, 0x4000\n jr a0\n{HANDLER}")

    assert [hart.registers[name] for name in ("s0", "s1", "s2")] == [1, 0x4000, 0x4000]


def test_misaligned_load_and_store_are_done(rig):
    hart = rig.run("""
        la a0, data
        ld a1, 1(a0)
        sd a1, 9(a0)
        lwu a2, 9(a0)
        wfi
    .balign 8
    data: .dword 0x1122334455667788, 0x99aabbccddeeff00, 0, 0
    """)

    assert hart.registers["a1"] == 0x0011223344556677
    assert hart.registers["a2"] == 0x44556677


@pytest.mark.parametrize(("mode", "cause"), [(0, 8), (1, 9)])
def test_ecall_without_delegation_goes_to_machine_mode(rig, mode, cause):
    hart = rig.run(
        ENTER_SUPERVISOR.format(medeleg=0, mpp=mode) + f"lower: ecall\n{SUPERVISOR_HANDLER}"
    )

    assert hart.registers["s0"] == cause
    assert hart.registers["s3"] == 77


def test_delegated_trap_goes_to_supervisor_mode(rig):
    hart = rig.run(
        ENTER_SUPERVISOR.format(medeleg=1 << 2, mpp=1)
        + f"lower: .word 0xffffffff\n{SUPERVISOR_HANDLER}"
    )

    assert hart.registers["s0"] == 2
    assert hart.registers["s2"] == 0xFFFFFFFF
    assert hart.registers["s3"] == 0


def test_machine_csr_in_supervisor_mode_is_illegal(rig):
    hart = rig.run(
        ENTER_SUPERVISOR.format(medeleg=0, mpp=1) + f"lower: csrr a0, mhartid\n{SUPERVISOR_HANDLER}"
    )

    assert hart.registers["s0"] == 2


def test_wfi_in_user_mode_is_illegal(rig):
    hart = rig.run(ENTER_SUPERVISOR.format(medeleg=0, mpp=0) + f"lower: wfi\n{SUPERVISOR_HANDLER}")

    assert hart.registers["s0"] == 2


@pytest.mark.parametrize(("instruction", "cause"), [("ecall", 9), ("ld a0, (zero)", 13)])
def test_handler_of_another_mode_may_have_the_address_of_the_trap(rig, instruction, cause):
    """S-mode's page at the handler's address is another one."""
    hart = rig.run(f"""
        j start
    .balign 0x400
    handler:
        csrr s0, mcause
        wfi
    start:
        li t0, -1
        csrw pmpaddr0, t0
        li t0, 0x1f
        csrw pmpcfg0, t0
        li t0, {RAM + 0x80000}
        li t1, {(RAM + 0x81000) >> 12 << 10 | POINTER}
        sd t1, 16(t0)
        li t1, {(RAM + 0x82000) >> 12 << 10 | POINTER}
        li t2, {RAM + 0x81000}
        sd t1, (t2)
        li t1, {(RAM + 0x83000) >> 12 << 10 | EXECUTABLE}
        li t2, {RAM + 0x82000}
        sd t1, (t2)
        la t1, trapping
        lw t1, (t1)
        li t2, {RAM + 0x83400}
        sw t1, (t2)
        srli t0, t0, 12
        li t1, 8 << 60
        or t0, t0, t1
        csrw satp, t0
        li t0, 1 << 11
        csrs mstatus, t0
        la t0, handler
        csrw mtvec, t0
        csrw mepc, t0
        mret
    .option norvc
    trapping:
        {instruction}
    """)

    assert hart.registers["s0"] == cause


def test_trap_with_no_handler_ends_the_run(rig):
    hart = rig.load("li t0, 0x4000\n csrw mtvec, t0\n ecall")

    reasons = [hart.run() for _ in range(3)]

    assert Reason.DOUBLE_FAULT in reasons


def test_fflags_and_rounding_mode(rig):
    hart = rig.run("""
        li t0, 0x6000
        csrs mstatus, t0
        fcvt.d.l fa0, zero
        fdiv.d fa1, fa0, fa0
        csrr a0, fflags
        li t0, 3
        fsrm t0
        csrr a1, frm
        wfi
    """)

    assert hart.registers["a0"] == 0x10
    assert hart.registers["a1"] == 3


def test_compressed_instruction_before_a_fault_is_counted_exactly(rig):
    hart = rig.run(f"""
        la t0, handler
        csrw mtvec, t0
        li a0, 0x1000
        nop
        c.nop
        ld a1, (a0)
        nop
        nop
    {HANDLER}""")

    # auipc, addi, csrw, lui (2 bytes), nop twice (2 bytes each); the handler: four of 4 bytes
    assert rig.clock.cell.units == 3 * 4 + 2 + 2 + 2 + 4 * 4
    assert hart.waiting


@pytest.mark.parametrize("configuration", [0x0F, 0x8F, 0x8000_0000_0000_0080])
def test_reset_forgets_memory_protection_although_it_is_locked(rig, configuration):
    hart = rig.run(f"""
        li t0, 0x20000400
        csrw pmpaddr0, t0
        csrw pmpaddr7, t0
        li t0, {configuration}
        csrw pmpcfg0, t0
        wfi
    """)
    assert hart.registers["pmpcfg0"] == configuration

    hart.reset(firmware=True)

    assert [hart.registers[name] for name in ("pmpcfg0", "pmpaddr0", "pmpaddr7")] == [0, 0, 0]


def test_saved_registers_replace_locked_memory_protection(rig):
    fresh = rig.harts[0].save()
    hart = rig.run("li t0, 0x20000400\n csrw pmpaddr0, t0\n li t0, 0x8f\n csrw pmpcfg0, t0\n wfi")
    locked = hart.save()

    hart.load(fresh)
    unlocked = hart.registers["pmpcfg0"]
    hart.load(locked)

    assert unlocked == 0
    assert (hart.registers["pmpcfg0"], hart.registers["pmpaddr0"]) == (0x8F, 0x2000_0400)


@pytest.mark.parametrize("straddling", ["ld a0, -4(s0)", "sd a0, -4(s0)"])
def test_watched_store_stops_after_an_access_to_two_pages_that_faulted(rig, straddling):
    hart = rig.load(f"""
        la t0, handler
        csrw stvec, t0
        li s0, 0xC0001000       # mapped below, nothing from there on
        {straddling}
    .balign 4
    handler:
        li s1, 0x80020000
        sd a0, (s1)
        wfi
    """)
    tables, everything, pointer = (RAM + 0x10000, RAM + 0x11000, RAM + 0x12000), 0xCF, 1
    entries = {
        tables[0] + 8 * 2: (RAM, everything),
        tables[0] + 8 * 3: (tables[1], pointer),
        tables[1]: (tables[2], pointer),
        tables[2]: (RAM + 0x20000, everything),
    }
    for at, (physical, flags) in entries.items():
        rig.memory.write(at, struct.pack("<Q", physical >> 12 << 10 | flags))
    hart.registers["medeleg"] = 0xFFFF
    hart.registers["priv"] = 1
    hart.registers["satp"] = 8 << 60 | tables[0] >> 12
    hart.stops.place_watchpoint(1, RAM + 0x20000, 8, WRITE)

    reason = hart.run()

    assert reason == Reason.WATCHPOINT

"""Guests that do whatever they like end as guests: nothing of the host raises, hangs or crashes.

Random instructions run with random registers, many of which point at devices, page ends and
holes. Machine and supervisor mode; traps skip an instruction, so that a program goes on.
"""

from __future__ import annotations

import random
import struct

import pytest

from tests.effort import effort

RAM, CODE, DATA = 0x8000_0000, 0x8000_1000, 0x8000_8000
PROGRAMS = effort(100, 5_000)
BUDGET = 10_000
"""Nanoseconds a program runs, at most."""

START = """
    j start
.balign 64
handler:
    csrr t6, {epc}
    addi t6, t6, 4
    csrw {epc}, t6
    {ret}
.balign 64
start:
    la t0, handler
    csrw {tvec}, t0
    li t0, 0x6000
    csrs {status}, t0
    li t1, 0x80001000
    jr t1
"""
MODES = {
    "firmware": START.format(epc="mepc", ret="mret", tvec="mtvec", status="mstatus"),
    "kernel": START.format(epc="sepc", ret="sret", tvec="stvec", status="sstatus"),
}

OPCODES = (
    *(0x03, 0x07, 0x0F, 0x13, 0x17, 0x1B, 0x23, 0x27, 0x2F, 0x33, 0x37, 0x3B),
    *(0x43, 0x47, 0x4B, 0x4F, 0x53, 0x63, 0x67, 0x6F, 0x73, 0x57, 0x0B, 0x5B),
)
MEMORY_OPCODES = (0x03, 0x07, 0x23, 0x27, 0x2F)
PRIVILEGED = (
    *(0x0000_0073, 0x0010_0073, 0x1050_0073, 0x3020_0073, 0x1020_0073),
    *(0x1200_0073, 0x0000_100F, 0x0FF0_000F, 0x7B20_0073, 0x0020_0073),
)
CSRS = (
    *(0x001, 0x002, 0x003, 0x100, 0x104, 0x105, 0x106, 0x140, 0x141, 0x142, 0x143, 0x144),
    *(0x180, 0x300, 0x301, 0x302, 0x303, 0x304, 0x305, 0x306, 0x320, 0x340, 0x341, 0x342),
    *(0x343, 0x344, 0x3A0, 0x3A2, 0x3B0, 0x3B1, 0x3B8, 0xB00, 0xB02, 0xC00, 0xC01, 0xC02),
    *(0xF11, 0xF14, 0x7A0, 0x7A1, 0x600, 0x680, 0x200, 0x280, 0x015, 0x008, 0x040, 0x7B0),
)
POINTERS = (
    *(0, RAM, CODE, DATA, RAM + 0xF_FFF8, RAM + 0xF_FFFD, RAM + 0xF_FFFE, 0x4000_0000),
    *(0x1000_0000, 0x1000_0005, 0x200_0000, 0x200_4000, 0x200_BFF8, 0x200_FFFC),
    *(0xC00_0000, 0xC00_1000, 0xC20_1004, 0xF_FFFC, 0x10_0FF0, (1 << 64) - 8, 1 << 56),
)
EXTENSIONS = (0x10, 0x54494D45, 0x735049, 0x52464E43, 0x48534D, 0x53525354, 0x4442434E)


def random_instruction(choose):
    kind = choose.random()
    if kind < 0.3:
        return choose.getrandbits(32)
    if kind < 0.45:
        operation, operands = choose.choice((1, 2, 3, 5, 6, 7)), choose.getrandbits(5)
        return choose.choice(CSRS) << 20 | operands << 15 | operation << 12 | 10 << 7 | 0x73
    if kind < 0.5:
        return choose.choice(PRIVILEGED)
    return choose.getrandbits(25) << 7 | choose.choice(OPCODES)


def random_access(choose):
    """A load, store or atomic by one of x8 to x15."""
    word = choose.getrandbits(25) << 7 | choose.choice(MEMORY_OPCODES)
    return word & ~(31 << 15) | choose.randrange(8, 16) << 15


def fill(machine, choose):
    """Random code, data and registers."""
    words = [choose.choice((random_instruction, random_access))(choose) for _ in range(64)]
    machine.memory.write(CODE, struct.pack("<64I", *words))
    machine.memory.write(DATA, choose.randbytes(4096))
    registers = machine.cpu[0].registers
    for name in list(registers)[1:32]:
        registers[name] = choose.choice((choose.choice(POINTERS), choose.getrandbits(64)))
    registers["a7"] = choose.choice(EXTENSIONS)


@pytest.mark.fuzz
@pytest.mark.parametrize("harts", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_random_programs_end_as_guests(workshop, mode, harts):
    machine = workshop.build(MODES[mode], mode=mode, harts=harts)
    budget = machine.clock.timer("budget", machine.stop)
    endings = set()
    for seed in range(PROGRAMS // 2):
        machine.reset()
        fill(machine, random.Random(f"{mode} {harts} {seed}"))
        begun = machine.clock.now()
        budget.arm(begun + BUDGET)
        endings.add(machine.run(timeout=60).kind)
        assert begun <= machine.clock.now()

    machine.reset()
    machine.memory.write(CODE, workshop.assemble("li t0, 0x5555\n li t1, 0x100000\n sw t0, (t1)"))

    assert endings <= {"stopped", "failed", "power-off"}
    assert "stopped" in endings
    assert machine.run(timeout=10).kind == "power-off"


def test_ram_with_nothing_in_it_ends_as_a_guest(workshop):
    """Its first 16 bits are no instruction, and their handler is not either."""
    machine = workshop.build(".word 0", mode="firmware")

    assert machine.run(timeout=60).kind == "failed"


ROOT, MIDDLE, LEAVES = RAM + 0x2_0000, RAM + 0x2_1000, RAM + 0x2_2000
PAGED = f"""
    j start
.balign 64
handler:
    csrr t6, sepc
    addi t6, t6, 4
    csrw sepc, t6
    sret
.balign 64
start:
    la t0, handler
    csrw stvec, t0
    li t0, 0x46000
    csrs sstatus, t0
    li t0, {8 << 60 | ROOT >> 12}
    csrw satp, t0
    sfence.vma
    li t1, {CODE}
    csrw sepc, t1
    sret
"""


def page_entry(address, flags):
    return address >> 12 << 10 | flags


def write_page_tables(machine, choose):
    """RAM where it is with any permissions, code executable; the rest points anywhere."""
    anywhere = [page_entry(place, 1) for place in (MIDDLE, 0x1000_0000, 0x4000_0000)]
    root = [choose.choice((*anywhere, choose.getrandbits(64))) for _ in range(512)]
    middle = [choose.choice((0, page_entry(RAM, 0xDF), choose.getrandbits(64))) for _ in root]
    permissions = (0xDF, 0xCF, 0xD7, 0xC7, 0xDB, 0x5F, 0x1F, choose.getrandbits(8))
    leaves = [page_entry(RAM + 4096 * n, choose.choice(permissions)) for n in range(256)]
    leaves += [page_entry(0x1000_0000 + 4096 * n, 0xDF) for n in range(256)]
    root[2], middle[0] = page_entry(MIDDLE, 1), page_entry(LEAVES, 1)
    leaves[0], leaves[1] = page_entry(RAM, 0xCF), page_entry(CODE, 0xDF)
    for address, table in ((ROOT, root), (MIDDLE, middle), (LEAVES, leaves)):
        machine.memory.write(address, struct.pack("<512Q", *table))


@pytest.mark.fuzz
def test_random_user_programs_under_random_page_tables_end_as_guests(workshop):
    machine = workshop.build(PAGED, mode="kernel")
    budget = machine.clock.timer("budget", machine.stop)
    endings = set()
    for seed in range(PROGRAMS // 2):
        choose = random.Random(seed)
        machine.reset()
        write_page_tables(machine, choose)
        fill(machine, choose)
        budget.arm(machine.clock.now() + BUDGET)
        endings.add(machine.run(timeout=60).kind)

    traps = machine.stats()["traps"]

    assert endings <= {"stopped", "failed", "power-off"}
    assert {"load page fault", "store page fault", "instruction page fault"} <= set(traps)
    assert {"environment call", "illegal instruction"} <= set(traps)


def final_state(machine, seed, stops):
    """Run a random program from its reset at time 0; everything that it can have changed.

    `stops` are gaps of virtual time after which the run is stopped and translations dropped.
    """
    machine.reset()
    cell = machine.clock.cell
    cell.units = cell.visible = cell.idle = 0
    machine.firmware.calls.clear()
    for hart in machine.cpu:
        hart.executed = 0
    fill(machine, random.Random(seed))
    gaps = iter(stops)

    def interrupt():
        for hart in machine.cpu:
            hart.flush_translations()
        noise.arm(machine.clock.now() + next(gaps, 2 * BUDGET))

    noise = machine.clock.timer("noise", interrupt)
    budget = machine.clock.timer("budget", machine.power.request_power_off)
    noise.arm(next(gaps, 2 * BUDGET))
    budget.arm(BUDGET)
    machine.run(timeout=60)
    noise.cancel()
    budget.cancel()
    return machine.clock.cell.units, machine.state_sha256()


@pytest.mark.fuzz
@pytest.mark.parametrize(("mode", "harts"), [("firmware", 1), ("kernel", 1), ("firmware", 2)])
def test_random_programs_run_the_same_however_often_they_are_stopped(workshop, mode, harts):
    machine = workshop.build(MODES[mode], mode=mode, harts=harts)

    for seed in range(PROGRAMS // 5):
        choose = random.Random(seed)
        stops = [choose.randrange(1, 300) for _ in range(100)]
        quiet = final_state(machine, seed, [])
        assert final_state(machine, seed, stops) == quiet, f"program {seed}"


JUMPS = {
    "a device": (0x1000_0000, 1),
    "a hole": (0x4000_0000, 1),
    "zero": (0, 1),
    "the end of RAM": (RAM + 0x10_0000, 1),
    "the top": ((1 << 64) - 2, 1),
    "beyond all address bits": (1 << 55, 1),
}


@pytest.mark.parametrize("place", JUMPS)
@pytest.mark.parametrize("mode", ["firmware", "kernel"])
def test_jump_to_where_no_code_is_is_the_guests_access_fault(workshop, place, mode):
    target, cause = JUMPS[place]
    level = {"firmware": "m", "kernel": "s"}[mode]
    machine = workshop.build(
        f"""
        la t0, handler
        csrw {level}tvec, t0
        li a0, {target}
        jr a0
    .balign 4
    handler:
        csrr s2, {level}cause
        csrr s3, {level}epc
        csrr s4, {level}tval
        li t0, 0x5555
        li t1, 0x100000
        sw t0, (t1)
    """,
        mode=mode,
    )

    assert machine.run(timeout=10).kind == "power-off"
    registers = machine.cpu[0].registers
    assert [registers[name] for name in ("s2", "s3", "s4")] == [cause, target, target]


@pytest.mark.parametrize("root", [0x1000_0000, 0x200_0000, 0x4000_0000, 0xFFF_FFFF_FFFF << 12])
def test_page_tables_outside_ram_are_the_guests_fault(workshop, root):
    machine = workshop.build(f"""
        la t0, handler
        csrw mtvec, t0
        li t0, {8 << 60 | root >> 12}
        csrw satp, t0
        li t0, 0x20800
        csrw mstatus, t0
        li a1, 0x1000
        ld a0, (a1)
    .balign 4
    handler:
        csrw satp, zero
        csrr s2, mcause
        csrr s4, mtval
        li t0, 0x22000
        csrc mstatus, t0
        li t0, 0x5555
        li t1, 0x100000
        sw t0, (t1)
    """)

    assert machine.run(timeout=10).kind == "power-off"
    assert machine.cpu[0].registers["s2"] in (5, 13)
    assert machine.cpu[0].registers["s4"] == 0x1000

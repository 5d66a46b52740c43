"""Coverage is exact: known numbers, whatever else happens to the engine meanwhile."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.cpu.cells import NEVER
from hypervisor.profile.coverage import Coverage, Run, Stretch, edges, stretches

RAM = 0x8000_0000

LOOP = """
    li s0, 100
1:  addi s1, s1, 1
    addi s0, s0, -1
    bnez s0, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
2:  j 2b
"""

TRAPS = """
    la t0, handler
    csrw stvec, t0
    li s0, 50
1:  li t0, 0
    ld t0, (t0)             # faults after two instructions of its block
    ebreak
    li a7, 0x10
    li a6, 0
    ecall                   # the built-in firmware answers
    fence.i
    addi s0, s0, -1
    bnez s0, 1b
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
.balign 4
handler:
    csrr a3, sepc
    addi a3, a3, 4
    lhu a4, -4(a3)
    andi a4, a4, 3
    li a5, 3
    beq a4, a5, 2f
    addi a3, a3, -2
2:  csrw sepc, a3
    sret
"""

TIMER = """
    la t0, handler
    csrw mtvec, t0
    li s2, 0x200bff8
    li s3, 0x2004000
    li s0, 0
    ld t0, (s2)
    addi t0, t0, 3
    sd t0, (s3)
    li t0, 128
    csrw mie, t0
    csrsi mstatus, 8
1:  addi s1, s1, 1
    li t1, 20
    blt s0, t1, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
2:  j 2b
.balign 4
handler:
    addi s0, s0, 1
    ld t0, (s2)
    addi t0, t0, 3
    sd t0, (s3)
    mret
"""

TWO_HARTS = """
    csrr t0, mhartid
    li s0, 100
    bnez t0, 1f
    li s0, 5000
1:  addi s1, s1, 1
    addi s0, s0, -1
    bnez s0, 1b
    csrr t0, mhartid
    bnez t0, 3f
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
2:  j 2b
3:  wfi
    j 3b
"""


def covered(machine, **how):
    """Run a machine to its end; what was covered."""
    coverage = Coverage(machine, **how)
    machine.run(timeout=10)
    coverage.look()
    assert coverage.lost == 0
    return list(coverage.runs())


def total(runs):
    return sum((run.end - run.start) * run.times for run in runs)


def test_a_loop_has_its_numbers(workshop):
    runs = covered(workshop.build(LOOP))

    assert [each for each in runs if each.times > 1] == [Run(0, 3, RAM + 4, RAM + 10, RAM + 4, 98)]
    assert edges(runs)[RAM + 10, RAM + 4] == 99
    assert stretches(runs)[:2] == [Stretch(RAM, RAM + 4, 1), Stretch(RAM + 4, RAM + 10, 100)]


@pytest.mark.parametrize(
    ("source", "mode", "harts"),
    [
        (LOOP, "firmware", 1),
        (TRAPS, "kernel", 1),
        (TIMER, "firmware", 1),
        (TWO_HARTS, "firmware", 2),
        (TWO_HARTS, "firmware", 4),
    ],
)
def test_every_byte_is_counted_once(workshop, source, mode, harts):
    machine = workshop.build(source, mode=mode, harts=harts)

    runs = covered(machine)

    assert total(runs) == machine.clock.executed
    for hart in machine.cpu:
        own = [run for run in runs if run.hart == hart.index]
        assert total(own) == hart.executed


@pytest.mark.parametrize("source", [LOOP, TIMER])
def test_counting_changes_nothing_in_the_run(workshop, source):
    plain, counted = workshop.build(source), workshop.build(source)
    plain.run(timeout=10)

    covered(counted)

    assert counted.state_sha256() == plain.state_sha256()


def test_faulting_and_emulated_instructions_are_told_apart(workshop):
    machine = workshop.build(TRAPS, mode="kernel")

    runs = covered(machine)

    times = {each.start: each.times for each in stretches(runs)}
    loop = next(run.start for run in runs if run.times == 49)  # entered by its branch
    fault = loop + 2  # the load is not retired, the ebreak behind it neither
    assert (loop, fault) in {(run.start, run.end) for run in runs}
    assert not any(each.start <= fault < each.end for each in stretches(runs))
    assert 50 in times.values()


def test_code_left_by_stops_is_counted_once(workshop):
    """Breakpoints, steps and flushes cut blocks; what was executed stays the same."""
    plain = covered(workshop.build(TIMER))
    machine = workshop.build(TIMER)
    coverage = Coverage(machine)
    machine.breakpoints.add(RAM + 0x30)
    for _ in range(200):
        machine.step()
    for _ in range(30):
        machine.run(timeout=10)
        machine.cpu[0].flush()
    machine.breakpoints.clear()

    machine.run(timeout=10)

    assert stretches(coverage.runs()) == stretches(plain)
    assert edges(coverage.runs()) == edges(plain)


def test_a_table_grows(workshop):
    lines = "\n".join(f"j {n}f\n nop\n{n}:" for n in range(200))
    machine = workshop.build(lines + LOOP)
    coverage = Coverage(machine, entries=16)

    for _ in range(8):
        for _ in range(40):
            machine.step()
        coverage.look()
    machine.run(timeout=10)

    assert coverage.lost > 0  # a step before it could grow
    assert len(list(coverage.runs())) > 14


def test_what_was_counted_survives_growth(workshop):
    machine = workshop.build(LOOP)
    coverage = Coverage(machine, entries=4)
    machine.run(timeout=10)
    before = sorted(coverage.runs())

    coverage.look()

    assert sorted(coverage.runs()) == before


def test_a_closed_coverage_counts_no_more(workshop):
    machine = workshop.build(LOOP)
    coverage = Coverage(machine)
    machine.breakpoints.add(RAM + 10)
    machine.run(timeout=10)
    coverage.close()
    counted = list(coverage.runs())

    machine.breakpoints.clear()
    machine.run(timeout=10)

    assert list(coverage.runs()) == counted
    assert total(counted) == 4 + 100 * 6


def test_a_run_that_has_not_ended_is_there(workshop):
    machine = workshop.build(LOOP)
    coverage = Coverage(machine)
    machine.breakpoints.add(RAM + 8)

    machine.run(timeout=10)

    assert list(coverage.runs()) == [Run(0, 3, RAM, RAM + 8, NEVER, 1)]


RUNS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(1, 5)).map(
        lambda t: Run(0, 3, t[0], t[0] + t[1], t[0], t[2])
    ),
    max_size=20,
)


@given(RUNS)
def test_stretches_are_what_counting_each_byte_gives(runs):
    expected = [0] * 100
    for run in runs:
        for address in range(run.start, run.end):
            expected[address] += run.times

    found = [0] * 100
    for stretch in stretches(runs):
        for address in range(stretch.start, stretch.end):
            found[address] += stretch.times

    assert found == expected
    assert all(a.end <= b.start for a, b in itertools.pairwise(stretches(runs)))

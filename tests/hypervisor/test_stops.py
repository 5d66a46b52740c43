"""Breakpoints, steps and watchpoints: where they stop, and that they change no run."""

from __future__ import annotations

import itertools

import pytest

from hypervisor.stops import StopError

RAM = 0x8000_0000
DATA = 0x8008_0000

BUSY = """
    la t0, handler
    csrw stvec, t0
    li s2, 0x80080000
    li s3, 0
    li t0, 32
    csrs sie, t0
    call again
    csrsi sstatus, 2
    li s0, 400
    addi s6, s2, 8
1:  rdtime t1
    add s4, s4, t1
2:  lr.d t3, (s2)
    addi t3, t3, 1
    sc.d t4, t3, (s2)
    bnez t4, 2b
    amoadd.w t5, t3, (s6)
    sb t5, 11(s2)
    ld t6, 8(s2)
    xor s4, s4, t6
    addi s0, s0, -1
    bnez s0, 1b
    wfi
    li t0, 0
    ld t0, (t0)
    ebreak
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
again:
    rdtime a0
    addi a0, a0, 3
    li a7, 0x54494D45
    li a6, 0
    ecall
    ret
.balign 4
handler:
    csrr a2, scause
    add s4, s4, a2
    bltz a2, 1f
    csrr a3, sepc
    addi a3, a3, 4
    lhu a4, -4(a3)
    andi a4, a4, 3
    addi a4, a4, -3
    beqz a4, 2f
    addi a3, a3, -2
2:  csrw sepc, a3
    sret
1:  addi s3, s3, 1
    mv s5, ra
    call again
    mv ra, s5
    sret
"""

RACE = """
    csrr s0, mhartid
    li s1, 0x80080000
    li s2, 300
1:  li t0, 1
    amoadd.d t1, t0, (s1)
    rdtime t2
    add s3, s3, t2
    addi s2, s2, -1
    bnez s2, 1b
    addi s4, s1, 8
    amoadd.d t1, t0, (s4)
2:  ld t2, 8(s1)
    li t3, 2
    bne t2, t3, 2b
    bnez s0, 3f
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
3:  j 3b
"""


def end(machine):
    """Run through all stops; how many there were, and the digest at the end."""
    stops = []
    outcome = machine.run(timeout=60)
    while outcome.stop is not None:
        stops.append(outcome.stop)
        outcome = machine.run(timeout=60)
    assert outcome.kind == "power-off"
    return stops, machine.state_sha256()


@pytest.fixture
def busy(workshop):
    """`busy()`: a guest with traps, timer interrupts, reservations, firmware calls and a wait."""
    return lambda: workshop.build(BUSY, mode="kernel")


@pytest.fixture
def plain(busy):
    return end(busy())[1]


def address_of(machine, word):
    """Where the guest's code has a 4-byte instruction."""
    code = machine.memory.read(machine.cpu[0].pc, 512)
    return machine.cpu[0].pc + code.index(word.to_bytes(4, "little"))


RDTIME_T1, SB_T5 = 0xC0102373, 0x01E905A3


def test_breakpoint_stops_before_its_instruction_each_time(busy, plain):
    machine = busy()
    there = address_of(machine, RDTIME_T1)
    point = machine.breakpoints.add(there)

    outcome = machine.run(timeout=60)
    stops, digest = end(machine)

    assert (outcome.kind, outcome.stop.pc, outcome.stop.breakpoint) == ("breakpoint", there, point)
    assert len(stops) == 399
    assert digest == plain


def test_breakpoint_in_a_trap_handler_is_met_by_every_trap(busy, plain):
    machine = busy()
    machine.breakpoints.add(address_of(machine, 0x14202673))

    stops, digest = end(machine)

    assert {hex(stop.pc) for stop in stops} == {hex(stops[0].pc)}
    assert len(stops) == machine.cpu[0].registers["s3"] + 2
    assert digest == plain


def test_removed_breakpoint_is_not_met(busy, plain):
    machine = busy()
    point = machine.breakpoints.add(address_of(machine, RDTIME_T1))
    twin = machine.breakpoints.add(point.address)
    machine.run(timeout=60)

    machine.breakpoints.remove(point)
    again = machine.run(timeout=60)
    machine.breakpoints.remove(twin)
    stops, digest = end(machine)

    assert again.stop.breakpoint == twin
    assert (stops, digest) == ([], plain)
    assert len(machine.breakpoints) == 0


def test_stepping_through_everything_changes_nothing(busy, plain):
    machine = busy()
    places = []
    outcome = machine.step(timeout=60)
    while outcome.kind == "step":
        places.append(outcome.stop.pc)
        outcome = machine.step(timeout=60)

    assert outcome.kind == "power-off"
    assert machine.state_sha256() == plain
    assert len(places) > 4000
    assert all(after != before for before, after in itertools.pairwise(places))


def test_step_inside_a_range_ends_outside_it(busy):
    machine = busy()
    there = address_of(machine, RDTIME_T1)
    machine.breakpoints.add(there)
    machine.run(timeout=60)
    machine.breakpoints.clear()

    outcome = machine.step(inside=(there, there + 14), timeout=60)

    assert outcome.stop.pc == there + 14 or outcome.stop.pc > there + 14


@pytest.mark.parametrize(
    ("kind", "count"), [("write", 3 * 400), ("read", 4 * 400), ("access", 5 * 400)]
)
def test_watchpoint_stops_before_each_access(kind, count, busy, plain):
    machine = busy()
    machine.breakpoints.watch(DATA, 16, kind)

    stops, digest = end(machine)  # a store-conditional reads, to compare

    assert len(stops) == count
    assert digest == plain


def test_watchpoint_tells_address_size_and_value_before_the_store(busy):
    machine = busy()
    point = machine.breakpoints.watch(DATA + 11, 1)

    outcome = machine.run(timeout=60)

    stop = outcome.stop
    assert (outcome.kind, stop.watchpoint) == ("watchpoint", point)
    assert (stop.address, stop.size, stop.is_write) == (DATA + 8, 4, True)
    assert stop.value == 1
    assert machine.memory.read(DATA + 8, 4) == bytes(4)
    assert machine.step(timeout=60).stop.pc == stop.pc + 4
    assert machine.memory.read(DATA + 8, 4) == b"\1\0\0\0"


def test_watchpoint_outside_ram_is_refused(busy):
    machine = busy()

    with pytest.raises(StopError, match="not RAM"):
        machine.breakpoints.watch(0x1000_0000, 1)


def test_breakpoint_and_watchpoint_at_one_instruction_are_both_met(busy, plain):
    machine = busy()
    machine.breakpoints.watch(DATA + 11, 1)
    machine.breakpoints.add(address_of(machine, SB_T5))

    stops, digest = end(machine)

    kinds = [stop.watchpoint is None for stop in stops if stop.pc == stops[1].pc]
    assert digest == plain
    assert kinds.count(True) == 400


@pytest.mark.parametrize("stepped", [0, 1])
def test_stepping_one_of_two_harts_changes_nothing(stepped, workshop):
    plain = end(workshop.build(RACE, harts=2))[1]
    machine = workshop.build(RACE, harts=2)
    outcome = machine.step(stepped, timeout=60)
    count = 0
    while outcome.kind == "step" and count < 2500:
        assert outcome.stop.hart == stepped
        count += 1
        outcome = machine.step(stepped, timeout=60)

    stops, digest = end(machine)

    assert count > 1500
    assert (stops, digest) == ([], plain)


def test_watchpoint_is_met_by_both_harts(workshop):
    plain = end(workshop.build(RACE, harts=2))[1]
    machine = workshop.build(RACE, harts=2)
    machine.breakpoints.watch(DATA, 8, "write")

    stops, digest = end(machine)

    assert [sum(stop.hart == n for stop in stops) for n in (0, 1)] == [300, 300]
    assert digest == plain


def test_snapshot_taken_between_instructions_goes_on_the_same(busy, plain):
    machine = busy()
    machine.breakpoints.add(address_of(machine, SB_T5))
    for _ in range(50):
        machine.run(timeout=60)
    state = machine.snapshot()
    other = busy()

    other.restore(state)

    assert other.cpu[0].pc == machine.cpu[0].pc
    assert end(other)[1] == plain


def test_step_over_the_jump_to_itself_is_one_round(workshop):
    machine = workshop.build("1: j 1b")

    places = [machine.step(timeout=60).stop.pc for _ in range(3)]

    assert places == [RAM] * 3
    assert machine.clock.executed == 3 * 2


def test_time_limit_ends_a_step_that_does_not(workshop):
    machine = workshop.build("csrw mie, zero\n li t0, 128\n csrw mie, t0\n1: wfi\n j 1b")
    machine.step(timeout=60)

    assert machine.run(timeout=0.5).kind in ("timeout", "failed")

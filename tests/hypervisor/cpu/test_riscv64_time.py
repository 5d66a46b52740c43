"""Virtual time is retired bytes, seen at taken transfers, whatever the engine does."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypervisor.cpu import library
from hypervisor.cpu.cells import NEVER, UNITS_PER_TICK, Reason
from tests.effort import effort

LOOP = """
    la t0, handler
    csrw mtvec, t0
    li s0, 2000
    la s2, data
again:
    rdtime s3
    add s4, s4, s3
    ld t1, (s2)
    addi t1, t1, 1
    sd t1, (s2)
    andi t2, s0, 63
    bnez t2, 1f
    ecall
1:  addi s0, s0, -1
    bnez s0, again
    rdinstret s5
    wfi
.balign 4
handler:
    csrr t3, mepc
    addi t3, t3, 4
    csrw mepc, t3
    mret
.balign 8
data: .dword 0
"""


def finish(hart, clock):
    for _ in range(10_000):
        clock.cell.deadline = NEVER
        hart.run()
        if hart.waiting:
            return
    raise AssertionError("the guest does not end")


def digest(rig):
    hart = rig.harts[0]
    return dict(hart.registers.items()), hart.pc, rig.clock.cell.units, rig.memory.digest()


def test_two_runs_are_equal(rig):
    hart = rig.load(LOOP)
    finish(hart, rig.clock)
    first = digest(rig)
    rig.clock.cell.units = rig.clock.cell.visible = 0
    rig.memory.clear()
    hart.reset(firmware=True)
    finish(rig.load(LOOP), rig.clock)

    assert digest(rig) == first


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=effort(20, 500))
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30))
def test_stops_and_flushes_at_any_deadline_change_nothing(rig, gaps):
    hart = rig.harts[0]
    hart.reset(firmware=True)
    rig.clock.cell.units = rig.clock.cell.visible = 0
    rig.memory.clear()
    finish(rig.load(LOOP), rig.clock)
    whole = digest(rig)
    hart.reset(firmware=True)
    rig.clock.cell.units = rig.clock.cell.visible = 0
    rig.memory.clear()
    rig.load(LOOP)
    for gap in gaps:
        rig.clock.cell.deadline = rig.clock.cell.units + gap
        if hart.waiting:
            break
        hart.run()
        hart.flush()
    if not hart.waiting:
        finish(hart, rig.clock)

    assert digest(rig) == whole


def test_a_hook_on_every_instruction_changes_nothing(rig):
    hart = rig.load(LOOP)
    finish(hart, rig.clock)
    plain = digest(rig)
    seen = []
    hook = library.BlockHook(lambda uc, address, size, data: seen.append(size))
    handle = hart.engine.hook(library.HOOK_CODE, library.address_of(hook), 0)
    hart.reset(firmware=True)
    rig.clock.cell.units = rig.clock.cell.visible = 0
    rig.memory.clear()
    finish(rig.load(LOOP), rig.clock)
    hooked = digest(rig)
    hart.engine.unhook(handle)

    assert hooked == plain
    assert sum(seen) >= plain[2]


def test_time_stands_still_between_taken_transfers(rig):
    hart = rig.run("rdtime a0\n" + "nop\n" * 300 + "rdtime a1\n j 1f\n1: rdtime a2\n wfi")

    assert hart.registers["a0"] == hart.registers["a1"]


def test_time_is_units_over_the_timebase(rig):
    hart = rig.run("li s0, 1000\n1: addi s0, s0, -1\n bnez s0, 1b\n j 2f\n2: rdtime a0\n wfi")

    assert hart.registers["a0"] == rig.clock.cell.visible // UNITS_PER_TICK


def test_deadline_stops_a_loop_before_its_next_round(rig):
    hart = rig.load("1: addi a0, a0, 1\n j 1b")
    rig.clock.cell.deadline = 4000

    reason = hart.run()

    assert reason == Reason.DEADLINE
    assert rig.clock.cell.units == 4000 + 4000 % 4
    assert hart.registers["a0"] * 4 == rig.clock.cell.units


def test_wfi_counts_up_to_itself(rig):
    rig.run("nop\n wfi\n nop\n nop")

    assert rig.clock.cell.units == 2 + 4

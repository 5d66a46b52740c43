"""Interrupt lines reach the hart at safe points, under the masks the spec gives."""

from __future__ import annotations

import pytest

from hypervisor.cpu.cells import NEVER
from hypervisor.cpu.riscv64 import MEIP, MSIP, MTIP, SEIP, STIP

SETUP = """
    la t0, handler
    csrw mtvec, t0
    li t0, {mie}
    csrw mie, t0
    csrsi mstatus, {global_enable}
1:  addi s0, s0, 1
    j 1b
.balign 4
handler:
    csrr a0, mcause
    csrr a1, mepc
    wfi
"""


def stretch(rig, units=2000):
    hart = rig.harts[0]
    hart.take_interrupt_lines()
    rig.clock.cell.deadline = rig.clock.cell.units + units
    return hart.run()


@pytest.mark.parametrize("number", [MSIP, MTIP, MEIP, SEIP, STIP])
def test_enabled_interrupt_is_taken_with_its_cause(rig, number):
    hart = rig.load(SETUP.format(mie=1 << number, global_enable=8))
    stretch(rig)
    before = hart.registers["s0"]
    hart.interrupt(number).set(True)
    stretch(rig)

    assert hart.registers["a0"] == 1 << 63 | number
    assert hart.registers["s0"] == before
    assert hart.waiting


@pytest.mark.parametrize(("mie", "enable"), [(0, 8), (1 << MTIP, 0)])
def test_masked_interrupt_waits(rig, mie, enable):
    hart = rig.load(SETUP.format(mie=mie, global_enable=enable))
    hart.interrupt(MTIP).set(True)
    stretch(rig)

    assert hart.registers["a0"] == 0
    assert hart.registers["s0"] > 100


def test_lowered_line_leaves_mip_without_stopping_the_hart(rig):
    hart = rig.load(SETUP.format(mie=0, global_enable=8))
    hart.interrupt(MTIP).set(True)
    stretch(rig)
    rig.clock.cell.deadline = NEVER
    pending = hart.registers["mip"]

    hart.interrupt(MTIP).set(False)

    assert pending == 1 << MTIP
    assert hart.registers["mip"] == 0
    assert rig.clock.cell.deadline == NEVER


def test_lowered_line_is_not_taken(rig):
    hart = rig.load(SETUP.format(mie=1 << MTIP, global_enable=8))
    stretch(rig)
    hart.interrupt(MTIP).set(True)
    hart.interrupt(MTIP).set(False)
    stretch(rig)

    assert hart.registers["a0"] == 0


def test_line_change_stops_a_run_in_progress(rig):
    hart = rig.load(SETUP.format(mie=1 << MTIP, global_enable=8))
    rig.clock.cell.deadline = NEVER

    hart.interrupt(MTIP).set(True)

    assert rig.clock.cell.deadline == 0


def test_wfi_wakes_by_an_enabled_interrupt_even_when_globally_off(rig):
    hart = rig.run(f"li t0, {1 << MTIP}\n csrw mie, t0\n wfi\n li a0, 5\n wfi")
    hart.interrupt(MTIP).set(True)

    assert hart.take_interrupt_lines()
    hart.waiting = False
    stretch(rig)

    assert hart.registers["a0"] == 5


def test_reservation_does_not_survive_another_harts_turn(two_harts):
    rig = two_harts
    hart = rig.run(
        "la t0, data\n lr.d t1, (t0)\n wfi\n sc.d a0, t1, (t0)\n wfi\n.balign 8\ndata: .dword 5"
    )

    hart.drop_reservation()
    hart.waiting = False
    hart.run()

    assert hart.registers["a0"] == 1

"""The GICv2: enables, priorities, preemption, levels and edges, targets, SGIs and both groups."""

from __future__ import annotations

import pytest

from devices.interrupt.gicv2 import NO_INTERRUPT, OTHER_GROUP, Gicv2
from hypervisor.device.testing import Bench

GICD_CTLR, GICD_TYPER, GICD_IIDR = 0x0, 0x4, 0x8
GROUP, ENABLE, DISABLE, PEND, UNPEND, ACTIVATE, DEACTIVATE = range(0x80, 0x400, 0x80)
PRIORITY, TARGETS, CONFIG = 0x400, 0x800, 0xC00
SGIR, CPENDSGIR, SPENDSGIR = 0xF00, 0xF10, 0xF20
GICC = 0x1_0000
GICC_CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR = (GICC + 4 * n for n in range(7))
ABPR, AIAR, AEOIR, AHPPIR = (GICC + 4 * n for n in range(7, 11))
APR, NSAPR, IIDR, DIR = GICC + 0xD0, GICC + 0xE0, GICC + 0xFC, GICC + 0x1000
ACK_CTL, FIQ_EN, CBPR, EOI_MODE = 1 << 2, 1 << 3, 1 << 4, 1 << 9
IDLE = 0xFF
TIMER = 27


class Gic:
    """A GIC of two harts with everything let through, as its driver sees it."""

    def __init__(self, harts: int = 2, **options: int) -> None:
        self.bench = Bench(harts=harts)
        self.device: Gicv2 = self.bench.build(Gicv2, "gic", at=0x0800_0000, **options)
        for hart in reversed(range(harts)):
            self.write(GICC_CTLR, 1, hart)
            self.write(PMR, 0xF0, hart)
        self.write(GICD_CTLR, 1)

    def read(self, offset: int, hart: int = 0, size: int = 4) -> int:
        self.bench.hart = hart
        return self.device.read(offset, size)

    def write(self, offset: int, value: int, hart: int = 0, size: int = 4) -> None:
        self.bench.hart = hart
        self.device.write(offset, size, value)

    def flag(self, register: int, number: int, hart: int = 0) -> None:
        """Write an interrupt's bit of a register with one bit for each."""
        self.write(register + number // 32 * 4, 1 << number % 32, hart)

    def has(self, register: int, number: int, hart: int = 0) -> bool:
        return bool(self.read(register + number // 32 * 4, hart) >> number % 32 & 1)

    def prepare(self, *numbers: int, priority: int = 0xA0, target: int = 0) -> None:
        """Enable interrupts of hart `target`."""
        for number in numbers:
            self.write(PRIORITY + number, priority, target, size=1)
            self.write(TARGETS + number, 1 << target, target, size=1)
            self.flag(ENABLE, number, target)

    def make_edge(self, number: int) -> None:
        self.write(CONFIG + number // 16 * 4, 2 << number % 16 * 2)

    def set(self, number: int, level: bool = True) -> None:
        self.device.input(number).set(level)

    def pulse(self, number: int) -> None:
        self.set(number, True)
        self.set(number, False)

    def send(self, number: int, targets: int, sender: int = 0, how: int = 0) -> None:
        self.write(SGIR, how << 24 | targets << 16 | number, sender)

    @property
    def outputs(self) -> list[tuple[int, int]]:
        """(hart, line) of all that are high."""
        return [(h.index, n) for h in self.bench.harts for n, line in h.lines.items() if line.level]


@pytest.fixture
def gic() -> Gic:
    return Gic()


# -- shared inputs, level-triggered ----------------------------------------------------------


def test_enabled_input_interrupts_its_target_alone(gic: Gic) -> None:
    gic.prepare(40, target=1)

    gic.set(40)

    assert gic.outputs == [(1, 0)]


@pytest.mark.parametrize("register", [GICD_CTLR, GICC_CTLR, PMR])
def test_zeroed_control_register_lets_nothing_through(gic: Gic, register: int) -> None:
    gic.prepare(40)
    gic.set(40)

    gic.write(register, 0)

    assert gic.outputs == []
    assert gic.read(IAR) == NO_INTERRUPT


def test_disabled_input_is_pending_and_interrupts_nobody(gic: Gic) -> None:
    gic.prepare(40)
    gic.flag(DISABLE, 40)

    gic.set(40)

    assert gic.outputs == []
    assert gic.has(PEND, 40)


def test_acknowledging_gives_the_number_and_lowers_the_output(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)

    assert gic.read(IAR) == 40
    assert gic.outputs == []
    assert gic.has(ACTIVATE, 40)


def test_acknowledging_nothing_is_spurious(gic: Gic) -> None:
    gic.prepare(40)

    assert gic.read(IAR) == NO_INTERRUPT
    assert gic.read(RPR) == IDLE


def test_ending_deactivates(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)
    gic.read(IAR)
    gic.set(40, False)

    gic.write(EOIR, 40)

    assert not gic.has(ACTIVATE, 40)
    assert gic.outputs == []
    assert gic.read(RPR) == IDLE


def test_level_still_high_at_the_end_interrupts_again(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)
    gic.read(IAR)

    gic.write(EOIR, 40)

    assert gic.outputs == [(0, 0)]


def test_level_that_falls_before_it_is_acknowledged_is_spurious(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)
    gic.set(40, False)

    assert gic.outputs == []
    assert gic.read(IAR) == NO_INTERRUPT


def test_level_that_is_high_stays_pending_when_software_ends_that(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)

    gic.flag(UNPEND, 40)

    assert gic.has(PEND, 40)


def test_software_makes_a_level_input_pending_until_acknowledged(gic: Gic) -> None:
    gic.prepare(40)
    gic.flag(PEND, 40)

    taken = gic.read(IAR)
    gic.write(EOIR, 40)

    assert (taken, gic.read(IAR)) == (40, NO_INTERRUPT)


def test_software_ends_what_it_made_pending(gic: Gic) -> None:
    gic.prepare(40)
    gic.flag(PEND, 40)

    gic.flag(UNPEND, 40)

    assert gic.outputs == []


def test_software_activates_and_deactivates(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)

    gic.flag(ACTIVATE, 40)
    active = gic.outputs
    gic.flag(DEACTIVATE, 40)

    assert (active, gic.outputs) == ([], [(0, 0)])


# -- edges -------------------------------------------------------------------------------------


def test_edge_stays_pending_after_the_input_fell(gic: Gic) -> None:
    gic.prepare(40)
    gic.make_edge(40)

    gic.pulse(40)

    assert gic.read(IAR) == 40


def test_high_input_is_one_edge(gic: Gic) -> None:
    gic.prepare(40)
    gic.make_edge(40)
    gic.set(40)
    gic.read(IAR)

    gic.write(EOIR, 40)

    assert gic.outputs == []


def test_edge_while_active_interrupts_after_the_end(gic: Gic) -> None:
    gic.prepare(40)
    gic.make_edge(40)
    gic.pulse(40)
    gic.read(IAR)
    gic.pulse(40)
    during = gic.read(IAR), gic.has(PEND, 40)

    gic.write(EOIR, 40)

    assert during == (NO_INTERRUPT, True)
    assert gic.read(IAR) == 40


def test_software_ends_a_pending_edge(gic: Gic) -> None:
    gic.prepare(40)
    gic.make_edge(40)
    gic.set(40)

    gic.flag(UNPEND, 40)

    assert not gic.has(PEND, 40)


def test_configuration_is_programmable_for_shared_inputs_alone(gic: Gic) -> None:
    for index in range(4):
        gic.write(CONFIG + 4 * index, 0xFFFF_FFFF)

    words = [gic.read(CONFIG + 4 * index) for index in range(4)]
    assert words == [0xAAAA_AAAA, 0, 0xAAAA_AAAA, 0xAAAA_AAAA]


# -- priorities --------------------------------------------------------------------------------


def test_more_urgent_one_is_acknowledged_first(gic: Gic) -> None:
    gic.prepare(40, priority=0xA0)
    gic.prepare(50, priority=0x20)
    gic.set(40)
    gic.set(50)

    assert gic.read(IAR) == 50


def test_equal_priorities_are_acknowledged_by_number(gic: Gic) -> None:
    gic.prepare(90, TIMER, 40)
    gic.set(90)
    gic.set(40)
    gic.device.private_input(0, TIMER).set(True)

    order = []
    for _ in range(3):
        order.append(gic.read(IAR))
        gic.flag(DISABLE, order[-1])
        gic.write(EOIR, order[-1])

    assert order == [TIMER, 40, 90]


@pytest.mark.parametrize(("mask", "level"), [(0xA0, False), (0xA8, True), (0xF8, True)])
def test_mask_admits_priorities_below_it(gic: Gic, mask: int, level: bool) -> None:
    gic.prepare(40, priority=0xA0)
    gic.set(40)

    gic.write(PMR, mask)

    assert bool(gic.outputs) is level


def test_five_priority_bits_are_there(gic: Gic) -> None:
    gic.write(PRIORITY + 40, 0xFFFF_FFFF)
    gic.write(PMR, 0xFFFF_FFFF)

    assert (gic.read(PRIORITY + 40), gic.read(PMR)) == (0xF8F8_F8F8, 0xF8)


def test_more_urgent_one_preempts_and_returns(gic: Gic) -> None:
    gic.prepare(40, priority=0xA0)
    gic.prepare(50, priority=0x20)
    gic.set(40)
    gic.read(IAR)
    gic.set(50)
    preempting = gic.outputs, gic.read(IAR), gic.read(RPR)
    gic.set(50, False)
    gic.write(EOIR, 50)

    assert preempting == ([(0, 0)], 50, 0x20)
    assert gic.read(RPR) == 0xA0


@pytest.mark.parametrize("priority", [0xA0, 0xA8])
def test_running_one_is_not_preempted_by_its_like(gic: Gic, priority: int) -> None:
    gic.prepare(40, priority=0xA0)
    gic.prepare(50, priority=priority)
    gic.set(40)
    gic.read(IAR)

    gic.set(50)

    assert gic.outputs == []
    assert gic.read(IAR) == NO_INTERRUPT
    assert gic.read(HPPIR) == 50


@pytest.mark.parametrize(("point", "running", "preempts"), [(2, 0xA8, True), (4, 0xA0, False)])
def test_binary_point_decides_who_preempts(
    gic: Gic, point: int, running: int, preempts: bool
) -> None:
    gic.write(BPR, point)
    gic.prepare(40, priority=0xA8)
    gic.prepare(50, priority=0xA0)
    gic.set(40)
    gic.read(IAR)

    gic.set(50)

    assert gic.read(RPR) == running
    assert bool(gic.outputs) is preempts


def test_binary_points_have_a_smallest_value(gic: Gic) -> None:
    gic.write(BPR, 0)
    gic.write(ABPR, 0)

    assert (gic.read(BPR), gic.read(ABPR)) == (2, 3)


def test_active_priorities_show_and_can_be_restored(gic: Gic) -> None:
    gic.prepare(40, priority=0x20)
    gic.set(40)
    gic.read(IAR)
    saved = gic.read(APR)

    gic.write(APR, 0)
    idle = gic.read(RPR)
    gic.write(APR, saved)

    assert (saved, idle, gic.read(RPR)) == (1 << 4, IDLE, 0x20)


def test_split_end_drops_the_priority_then_deactivates(gic: Gic) -> None:
    gic.write(GICC_CTLR, 1 | EOI_MODE)
    gic.prepare(40)
    gic.set(40)
    gic.read(IAR)

    gic.write(EOIR, 40)
    dropped = gic.read(RPR), gic.has(ACTIVATE, 40), gic.outputs
    gic.write(DIR, 40)

    assert dropped == (IDLE, True, [])
    assert gic.outputs == [(0, 0)]


def test_deactivation_without_split_end_is_ignored(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)
    gic.read(IAR)

    gic.write(DIR, 40)

    assert gic.has(ACTIVATE, 40)


@pytest.mark.parametrize("number", [1020, OTHER_GROUP, NO_INTERRUPT])
def test_ending_a_spurious_interrupt_changes_nothing(gic: Gic, number: int) -> None:
    gic.prepare(40, priority=0x20)
    gic.set(40)
    gic.read(IAR)

    gic.write(EOIR, number)

    assert gic.read(RPR) == 0x20


# -- several harts -----------------------------------------------------------------------------


def test_input_of_two_targets_is_taken_once(gic: Gic) -> None:
    gic.prepare(40)
    gic.write(TARGETS + 40, 3, size=1)
    gic.set(40)
    both = gic.outputs

    taken = [gic.read(IAR, hart) for hart in (1, 0)]

    assert both == [(0, 0), (1, 0)]
    assert taken == [40, NO_INTERRUPT]


def test_pending_input_moves_with_its_target(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)

    gic.write(TARGETS + 40, 2, size=1)

    assert gic.outputs == [(1, 0)]


def test_private_interrupts_have_the_reader_as_target(gic: Gic) -> None:
    gic.write(TARGETS, 0)

    assert [gic.read(TARGETS + 28, hart) for hart in (0, 1)] == [0x0101_0101, 0x0202_0202]


def test_lone_hart_takes_every_input_and_reads_no_targets() -> None:
    gic = Gic(harts=1)
    gic.prepare(40)
    gic.write(TARGETS + 40, 0, size=1)

    gic.set(40)

    assert gic.outputs == [(0, 0)]
    assert gic.read(TARGETS + 40) == 0


def test_private_input_interrupts_its_hart_alone(gic: Gic) -> None:
    gic.prepare(TIMER, target=0)
    gic.prepare(TIMER, target=1)

    gic.device.private_input(1, TIMER).set(True)

    assert gic.outputs == [(1, 0)]
    assert [gic.has(PEND, TIMER, hart) for hart in (0, 1)] == [False, True]
    assert gic.read(IAR, 1) == TIMER


def test_private_settings_are_each_harts_own(gic: Gic) -> None:
    gic.flag(ENABLE, TIMER, hart=1)
    gic.flag(GROUP, TIMER, hart=1)
    gic.write(PRIORITY + TIMER, 0x40, hart=1, size=1)
    gic.write(PMR, 0x80, hart=1)

    first, second = (
        (gic.has(ENABLE, TIMER, h), gic.has(GROUP, TIMER, h), gic.read(PMR, h)) for h in (0, 1)
    )
    assert (first, second) == ((False, False, 0xF0), (True, True, 0x80))
    assert [gic.read(PRIORITY + TIMER, h, size=1) for h in (0, 1)] == [0, 0x40]


# -- software-generated interrupts ------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "targets", "reached"),
    [(0, 0b110, [1, 2]), (0, 0b001, [0]), (1, 0b001, [1, 2, 3]), (2, 0b110, [0]), (3, 0b111, [])],
)
def test_software_interrupt_reaches_whom_the_filter_says(
    how: int, targets: int, reached: list[int]
) -> None:
    gic = Gic(harts=4)

    gic.send(5, targets, how=how)

    assert gic.outputs == [(hart, 0) for hart in reached]


def test_software_interrupt_names_its_sender(gic: Gic) -> None:
    gic.send(5, targets=1, sender=1)

    taken = gic.read(IAR)
    gic.write(EOIR, taken)

    assert taken == 1 << 10 | 5
    assert gic.outputs == []


def test_software_interrupt_of_each_sender_is_taken(gic: Gic) -> None:
    gic.send(5, targets=1, sender=1)
    gic.send(5, targets=1, sender=0)
    gic.send(5, targets=1, sender=0)

    taken = []
    for _ in range(3):
        taken.append(gic.read(IAR))
        gic.write(EOIR, taken[-1])

    assert taken == [5, 1 << 10 | 5, NO_INTERRUPT]


def test_senders_can_be_set_and_cleared(gic: Gic) -> None:
    gic.write(SPENDSGIR + 5, 0xFF, size=1)
    gic.write(CPENDSGIR + 5, 0x01, size=1)

    assert (gic.read(SPENDSGIR + 5, size=1), gic.read(CPENDSGIR + 5, 1, size=1)) == (2, 0)
    assert gic.read(IAR) == 1 << 10 | 5


def test_software_interrupts_are_always_enabled(gic: Gic) -> None:
    gic.write(DISABLE, 0xFFFF_FFFF)

    assert gic.read(ENABLE) == 0xFFFF


def test_pending_register_neither_sends_nor_withdraws_software_interrupts(gic: Gic) -> None:
    gic.send(5, targets=1)

    gic.write(PEND, 1 << 6)
    gic.write(UNPEND, 1 << 5)

    assert gic.read(PEND) == 1 << 5


# -- groups ------------------------------------------------------------------------------------


@pytest.fixture
def grouped(gic: Gic) -> Gic:
    """Both groups enabled; 40 is in group 0, 50 in group 1 and less urgent."""
    gic.prepare(40, priority=0x40)
    gic.prepare(50, priority=0x80)
    gic.flag(GROUP, 50)
    gic.write(GICD_CTLR, 3)
    gic.write(GICC_CTLR, 3)
    return gic


def test_group1_is_acknowledged_by_its_own_register(grouped: Gic) -> None:
    grouped.set(50)

    assert (grouped.read(IAR), grouped.read(HPPIR)) == (OTHER_GROUP, OTHER_GROUP)
    assert (grouped.read(AHPPIR), grouped.read(AIAR), grouped.read(RPR)) == (50, 50, 0x80)
    assert grouped.read(NSAPR) == 1 << 16


def test_group0_is_hidden_from_the_registers_of_group1(grouped: Gic) -> None:
    grouped.set(40)

    assert (grouped.read(AHPPIR), grouped.read(AIAR)) == (NO_INTERRUPT, NO_INTERRUPT)


def test_one_register_acknowledges_both_where_told_to(grouped: Gic) -> None:
    grouped.write(GICC_CTLR, 3 | ACK_CTL)
    grouped.set(50)

    assert grouped.read(IAR) == 50


def test_group1_is_ended_by_its_own_register(grouped: Gic) -> None:
    grouped.set(50)
    grouped.read(AIAR)
    grouped.set(50, False)

    grouped.write(AEOIR, 50)

    assert (grouped.read(RPR), grouped.read(NSAPR)) == (IDLE, 0)


def test_group0_preempts_group1_and_ends_first(grouped: Gic) -> None:
    grouped.set(50)
    grouped.read(AIAR)
    grouped.set(40)
    grouped.read(IAR)
    both = grouped.read(APR), grouped.read(NSAPR)

    grouped.write(EOIR, 40)

    assert both == (1 << 8, 1 << 16)
    assert (grouped.read(APR), grouped.read(NSAPR)) == (0, 1 << 16)


@pytest.mark.parametrize(("number", "line"), [(40, 1), (50, 0)])
def test_group0_takes_the_fast_line_where_told_to(grouped: Gic, number: int, line: int) -> None:
    grouped.write(GICC_CTLR, 3 | FIQ_EN)

    grouped.set(number)

    assert grouped.outputs == [(0, line)]


@pytest.mark.parametrize(("number", "enabled"), [(40, 2), (50, 1)])
@pytest.mark.parametrize("register", [GICD_CTLR, GICC_CTLR])
def test_group_that_is_not_enabled_interrupts_nobody(
    grouped: Gic, number: int, enabled: int, register: int
) -> None:
    grouped.write(register, enabled)

    grouped.set(number)

    assert grouped.outputs == []
    assert grouped.read(HPPIR) == NO_INTERRUPT


@pytest.mark.parametrize(("common", "preempts"), [(0, True), (CBPR, False)])
def test_group1_has_a_binary_point_of_its_own_unless_common(
    grouped: Gic, common: int, preempts: bool
) -> None:
    grouped.write(GICC_CTLR, 3 | common)
    grouped.write(BPR, 7)
    grouped.prepare(60, priority=0x78)
    grouped.write(GROUP + 4, 1 << 50 - 32 | 1 << 60 - 32)
    grouped.set(50)
    grouped.read(AIAR)

    grouped.set(60)

    assert bool(grouped.outputs) is preempts


# -- what there is -----------------------------------------------------------------------------


def test_type_register_tells_harts_and_interrupts() -> None:
    gic = Gic(harts=4, sources=287)

    assert gic.read(GICD_TYPER) == 3 << 5 | 8


def test_identification_is_a_gic400s(gic: Gic) -> None:
    peripheral = [gic.read(0xFD0 + 4 * n) for n in range(12)]

    assert (gic.read(GICD_IIDR), gic.read(IIDR)) == (0x0200_143B, 0x0202_043B)
    assert peripheral == [4, 0, 0, 0, 0x90, 0xB4, 0x2B, 0, 0x0D, 0xF0, 0x05, 0xB1]


def test_interrupts_beyond_the_option_do_not_exist() -> None:
    gic = Gic(sources=70)
    for register in (GROUP, ENABLE, PEND, ACTIVATE):
        gic.write(register + 8, 0xFFFF_FFFF)
    gic.write(PRIORITY + 68, 0xFFFF_FFFF)
    gic.write(TARGETS + 68, 0x0101_0101)
    gic.write(CONFIG + 16, 0xFFFF_FFFF)

    words = {gic.read(register + 8) for register in (GROUP, ENABLE, PEND, ACTIVATE)}
    assert words == {0x7F}
    assert gic.read(PRIORITY + 68) == 0x00F8_F8F8
    assert gic.read(TARGETS + 68) == 0x0001_0101
    assert gic.read(CONFIG + 16) == 0x2AAA


def test_words_of_priorities_and_targets_are_four_interrupts(gic: Gic) -> None:
    gic.write(PRIORITY + 40, 0x1020_3040)
    gic.write(TARGETS + 40, 0x0102_0301)

    assert [gic.read(PRIORITY + n, size=1) for n in range(40, 44)] == [0x40, 0x30, 0x20, 0x10]
    assert gic.read(TARGETS + 40) == 0x0102_0301


def test_holes_read_zero_and_are_said_once(gic: Gic) -> None:
    values = {gic.read(0x4000), gic.read(0x4000), gic.read(GICC + 0x40)}

    assert values == {0}
    assert len(gic.bench.messages) <= 8


@pytest.mark.parametrize("number", [0, 31, 71])
def test_input_outside_the_shared_ones_is_refused(number: int) -> None:
    gic = Gic(sources=70)

    with pytest.raises(ValueError, match=f"gic has inputs 32 to 70, but not {number}"):
        gic.device.input(number)


@pytest.mark.parametrize("number", [15, 32])
def test_private_input_outside_the_private_ones_is_refused(gic: Gic, number: int) -> None:
    with pytest.raises(ValueError, match=f"private inputs 16 to 31, but not {number}"):
        gic.device.private_input(0, number)


def test_more_harts_than_interfaces_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 harts, not 9"):
        Bench(harts=9).build(Gicv2)


def test_eight_harts_are_served() -> None:
    gic = Gic(harts=8)
    gic.prepare(40, target=7)

    gic.set(40)

    assert gic.outputs == [(7, 0)]


@pytest.mark.parametrize(("number", "cells"), [(33, [0, 1, 4]), (TIMER, [1, 11, 0x304])])
def test_interrupt_cells_are_type_number_and_flags(gic: Gic, number: int, cells: list[int]) -> None:
    assert gic.device.interrupt_cells(number) == cells


def test_node_has_both_windows(gic: Gic) -> None:
    node = gic.device.node()

    assert node.name == "interrupt-controller@8000000"
    assert node["#interrupt-cells"] == 3
    assert node["reg"] == [0, 0x0800_0000, 0, 0x1000, 0, 0x0801_0000, 0, 0x2000]


# -- reset and snapshots -----------------------------------------------------------------------


def test_reset_forgets_everything_but_the_inputs(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)
    gic.read(IAR)

    gic.device.reset()

    assert gic.outputs == []
    assert (gic.read(RPR), gic.read(PMR), gic.read(ENABLE + 4)) == (IDLE, 0, 0)
    assert gic.has(PEND, 40)


def test_restored_gic_carries_on_mid_interrupt(gic: Gic) -> None:
    gic.prepare(40, priority=0xA0)
    gic.prepare(50, priority=0x20, target=1)
    gic.set(40)
    gic.set(50)
    gic.read(IAR)
    gic.send(3, targets=1, sender=1)
    other = Gic()

    other.device.load(gic.device.save())

    assert other.outputs == [(0, 0), (1, 0)]
    assert [other.read(IAR, hart) for hart in (0, 1)] == [1 << 10 | 3, 50]


def test_saved_state_does_not_change_with_the_device(gic: Gic) -> None:
    saved = gic.device.save()
    before = repr(saved)

    gic.prepare(40)
    gic.write(PMR, 0x80)

    assert repr(saved) == before


def test_restored_edge_is_not_seen_again_from_a_device_restored_later(gic: Gic) -> None:
    gic.prepare(40)
    gic.make_edge(40)
    gic.set(40)
    gic.read(IAR)
    other = Gic()

    other.device.load(gic.device.save())
    other.set(40)

    assert other.device.save() == gic.device.save()

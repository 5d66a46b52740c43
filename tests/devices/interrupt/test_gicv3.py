"""The GICv3: redistributors, routing, and the CPU interface that is system registers. What it has
in common with version 2 is tested there."""

from __future__ import annotations

from typing import Any

import pytest

from devices.interrupt.gic import NO_INTERRUPT
from devices.interrupt.gicv3 import FRAME, FRAMES, REDISTRIBUTORS, Gicv3
from hypervisor.device.testing import Bench

GICD_CTLR, GICD_TYPER, GICD_PIDR2 = 0x0, 0x4, 0xFFE8
GROUP, ENABLE, DISABLE, PEND, UNPEND, ACTIVE = range(0x80, 0x380, 0x80)
PRIORITY, CONFIG, ROUTER = 0x400, 0xC00, 0x6000
GICR_TYPER, GICR_WAKER, GICR_PIDR2 = 0x8, 0x14, 0xFFE8
PMR, RPR, DIR, CTLR, SRE = (
    *((3, 0, 4, 6, 0), (3, 0, 12, 11, 3), (3, 0, 12, 11, 1)),
    *((3, 0, 12, 12, 4), (3, 0, 12, 12, 5)),
)
IAR0, EOIR0, HPPIR0, BPR0, AP0R0 = ((3, 0, 12, 8, n) for n in range(5))
IAR1, EOIR1, HPPIR1, BPR1 = ((3, 0, 12, 12, n) for n in range(4))
IGRPEN0, IGRPEN1, AP1R0 = (3, 0, 12, 12, 6), (3, 0, 12, 12, 7), (3, 0, 12, 9, 0)
SGI1R, ASGI1R, SGI0R = ((3, 0, 12, 11, n) for n in (5, 6, 7))
IRQ, FIQ = 0, 1
IDLE, TIMER, ALL_OTHERS = 0xFF, 27, 1 << 40


class Gic:
    """A GIC of four harts with both groups let through, as its driver sees it; inputs are of
    group 1 once `prepare` was called."""

    def __init__(self, harts: int = 4) -> None:
        self.bench = Bench(harts=harts)
        self.device: Gicv3 = self.bench.build(Gicv3, "gic", at=0x0800_0000)
        self.registers = self.device.system_registers()
        for hart in range(harts):
            self.set_register(PMR, 0xF0, hart)
            self.set_register(IGRPEN0, 1, hart)
            self.set_register(IGRPEN1, 1, hart)
        self.write(GICD_CTLR, 3)

    def read(self, offset: int, size: int = 4) -> int:
        return self.device.read(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.device.write(offset, size, value)

    def get(self, register: Any, hart: int = 0) -> int:
        self.bench.hart = hart
        load, _ = self.registers[register]
        assert load is not None
        return load()

    def set_register(self, register: Any, value: int, hart: int = 0) -> None:
        self.bench.hart = hart
        _, store = self.registers[register]
        assert store is not None
        store(value)

    def frame(self, number: int, hart: int) -> int:
        """Where the registers about an interrupt are: the distributor, or a hart's own."""
        return 0 if number >= 32 else REDISTRIBUTORS + hart * FRAMES + FRAME

    def flag(self, register: int, number: int, hart: int = 0) -> None:
        """Write an interrupt's bit of a register with one bit for each."""
        at = self.frame(number, hart) + register + number // 32 * 4
        self.write(at, 1 << number % 32)

    def has(self, register: int, number: int, hart: int = 0) -> bool:
        at = self.frame(number, hart) + register + number // 32 * 4
        return bool(self.read(at) >> number % 32 & 1)

    def prepare(self, *numbers: int, priority: int = 0xA0, target: int = 0) -> None:
        """Enable interrupts of hart `target`, in group 1."""
        for number in numbers:
            frame = self.frame(number, target)
            self.write(frame + PRIORITY + number, priority, size=1)
            at = frame + GROUP + number // 32 * 4
            self.write(at, self.read(at) | 1 << number % 32)
            self.write(ROUTER + 8 * max(number, 32), target, size=8)
            self.flag(ENABLE, number, target)

    def set(self, number: int, level: bool = True) -> None:
        self.device.input(number).set(level)

    @property
    def outputs(self) -> list[tuple[int, int]]:
        """(hart, line) of all that are high."""
        return [(h.index, n) for h in self.bench.harts for n, line in h.lines.items() if line.level]


@pytest.fixture
def gic() -> Gic:
    return Gic()


# -- what it says of itself --------------------------------------------------------------------


def test_it_is_version_3_with_one_security_state_and_affinities(gic: Gic) -> None:
    assert gic.read(GICD_PIDR2) >> 4 & 0xF == 3
    assert gic.read(REDISTRIBUTORS + GICR_PIDR2) >> 4 & 0xF == 3
    assert gic.read(GICD_CTLR) == 0x53
    assert gic.read(GICD_TYPER) & 0x1F == 8  # 287 is the last
    assert gic.get(SRE) == 7
    assert gic.get(CTLR) >> 8 & 7 == 4  # five bits of priority


def test_redistributors_say_whose_they_are_and_which_is_the_last(gic: Gic) -> None:
    types = [gic.read(REDISTRIBUTORS + n * FRAMES + GICR_TYPER, size=8) for n in range(4)]

    assert [value >> 32 for value in types] == [0, 1, 2, 3]
    assert [value >> 8 & 0xFFFF for value in types] == [0, 1, 2, 3]
    assert [value >> 4 & 1 for value in types] == [0, 0, 0, 1]


def test_waking_a_redistributor_shows_that_it_is_awake(gic: Gic) -> None:
    at = REDISTRIBUTORS + FRAMES + GICR_WAKER
    assert gic.read(at) == 6

    gic.write(at, 0)

    assert gic.read(at) == 0
    assert gic.read(at - FRAMES) == 6


def test_node_has_the_distributor_and_a_redistributor_for_each_hart(gic: Gic) -> None:
    node = gic.device.node()

    reg = [0, 0x0800_0000, 0, 0x1_0000, 0, 0x080A_0000, 0, 4 * FRAMES]
    assert node.properties["reg"] == reg
    assert gic.device.interrupt_cells(33) == [0, 1, 4]
    assert gic.device.interrupt_cells(TIMER) == [1, 11, 4]


# -- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", range(4))
def test_input_interrupts_the_hart_of_its_route(gic: Gic, target: int) -> None:
    gic.prepare(40, target=target)

    gic.set(40)

    assert gic.outputs == [(target, IRQ)]
    assert gic.read(ROUTER + 8 * 40, size=8) == target


@pytest.mark.parametrize("route", [4, 1 << 8, 1 << 16, 1 << 32])
def test_affinity_that_no_hart_has_is_nobodys(gic: Gic, route: int) -> None:
    gic.prepare(40)

    gic.write(ROUTER + 8 * 40, route, size=8)
    gic.set(40)

    assert gic.outputs == []


def test_private_interrupts_are_their_redistributors_own(gic: Gic) -> None:
    gic.prepare(TIMER, target=2)

    for hart in range(4):
        gic.device.private_input(hart, TIMER).set(True)

    assert gic.outputs == [(2, IRQ)]
    assert gic.has(ENABLE, TIMER, 2)
    assert not gic.has(ENABLE, TIMER, 1)
    assert gic.has(PEND, TIMER, 1)
    assert gic.read(gic.frame(TIMER, 2) + PRIORITY + TIMER, size=1) == 0xA0


@pytest.mark.parametrize("register", [GROUP, ENABLE, DISABLE, PEND, ACTIVE, PRIORITY + 8])
def test_distributor_has_nothing_of_private_interrupts(gic: Gic, register: int) -> None:
    gic.prepare(5, TIMER)

    gic.write(register, 0xFFFF_FFFF)

    assert gic.read(register) == 0
    assert gic.has(ENABLE, TIMER)
    assert not gic.has(PEND, TIMER)


def test_redistributor_that_no_hart_has_is_reported(gic: Gic) -> None:
    assert gic.read(REDISTRIBUTORS + 4 * FRAMES + FRAME + ENABLE) == 0

    assert "unknown register" in gic.bench.messages[-1]


# -- groups ---------------------------------------------------------------------------------------


def test_group_0_is_a_fast_interrupt_and_acknowledged_apart(gic: Gic) -> None:
    gic.prepare(40, 41)
    gic.write(GROUP + 4, 1 << 9)  # 41 alone is in group 1
    gic.set(40)

    assert gic.outputs == [(0, FIQ)]
    assert (gic.get(HPPIR1), gic.get(IAR1)) == (NO_INTERRUPT, NO_INTERRUPT)
    assert (gic.get(HPPIR0), gic.get(IAR0)) == (40, 40)
    assert gic.get(AP0R0) == 1 << 20
    gic.set_register(EOIR0, 40)
    assert gic.get(AP0R0) == 0


@pytest.mark.parametrize("register", [IGRPEN1, PMR])
def test_hart_that_lets_nothing_through_is_not_interrupted(gic: Gic, register: Any) -> None:
    gic.prepare(40)
    gic.set(40)

    gic.set_register(register, 0)

    assert gic.outputs == []
    assert gic.get(IAR1) == NO_INTERRUPT


def test_group_that_the_distributor_holds_back_is_not_pending(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)

    gic.write(GICD_CTLR, 1)

    assert gic.outputs == []
    assert gic.get(HPPIR1) == NO_INTERRUPT


# -- acknowledge and end ---------------------------------------------------------------------------


def test_acknowledged_interrupt_runs_until_its_end(gic: Gic) -> None:
    gic.prepare(40)
    gic.set(40)

    assert gic.get(IAR1) == 40
    assert gic.outputs == []
    assert gic.has(ACTIVE, 40)
    assert (gic.get(RPR), gic.get(AP1R0)) == (0xA0, 1 << 20)
    gic.set(40, False)
    gic.set_register(EOIR1, 40)
    assert not gic.has(ACTIVE, 40)
    assert (gic.get(RPR), gic.get(IAR1)) == (IDLE, NO_INTERRUPT)


def test_more_urgent_interrupt_preempts(gic: Gic) -> None:
    gic.prepare(40, priority=0xA0)
    gic.prepare(41, priority=0x20)
    gic.set(40)
    gic.get(IAR1)

    gic.set(41)

    assert gic.outputs == [(0, IRQ)]
    assert (gic.get(IAR1), gic.get(RPR)) == (41, 0x20)


@pytest.mark.parametrize("common", [False, True])
def test_binary_point_decides_what_preempts(gic: Gic, common: bool) -> None:
    gic.prepare(40, priority=0xA0)
    gic.prepare(41, priority=0x80)
    gic.set_register(CTLR, int(common))
    gic.set_register(BPR1, 7)
    gic.set_register(BPR0, 6)
    gic.set(40)
    gic.get(IAR1)

    gic.set(41)

    assert gic.outputs == []
    assert gic.get(BPR1) == 7


def test_end_of_interrupt_may_leave_deactivation_apart(gic: Gic) -> None:
    gic.prepare(40)
    gic.set_register(CTLR, 2)
    gic.set(40)
    gic.get(IAR1)

    gic.set_register(EOIR1, 40)
    dropped = gic.get(RPR), gic.has(ACTIVE, 40)
    gic.set(40, False)
    gic.set_register(DIR, 40)

    assert dropped == (IDLE, True)
    assert not gic.has(ACTIVE, 40)
    assert gic.get(CTLR) & 3 == 2


@pytest.mark.parametrize("number", [1020, 1023, 8192, 0xFF_FFFF])
def test_end_of_what_there_is_not_is_nothing(gic: Gic, number: int) -> None:
    gic.prepare(40)
    gic.set(40)
    gic.get(IAR1)

    gic.set_register(EOIR1, number)

    assert gic.get(RPR) == 0xA0


# -- software interrupts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sender", "reached"),
    [
        (0b0110, 0, [1, 2]),
        (0b0001, 0, [0]),
        (0xFFF0, 0, []),
        (ALL_OTHERS, 1, [0, 2, 3]),
        (1 << 16 | 0b1111, 0, []),  # of another cluster
        (1 << 32 | 0b1111, 0, []),
    ],
)
@pytest.mark.parametrize("register", [SGI1R, ASGI1R, SGI0R])
def test_software_interrupt_reaches_those_it_names(
    gic: Gic, register: Any, value: int, sender: int, reached: list[int]
) -> None:
    for hart in range(4):
        gic.prepare(5, target=hart)

    gic.set_register(register, 5 << 24 | value, sender)

    assert gic.outputs == [(hart, IRQ) for hart in reached]


def test_software_interrupt_is_acknowledged_by_its_number(gic: Gic) -> None:
    gic.prepare(5, target=3)
    gic.set_register(SGI1R, 5 << 24 | 0b1000, 1)

    assert gic.get(IAR1, 3) == 5
    assert gic.get(IAR1, 3) == NO_INTERRUPT


def test_software_interrupts_can_be_disabled(gic: Gic) -> None:
    gic.prepare(5)
    gic.flag(DISABLE, 5)

    gic.set_register(SGI1R, 5 << 24 | 1)

    assert gic.outputs == []
    assert gic.has(PEND, 5)


# -- state -------------------------------------------------------------------------------------


def test_saved_state_goes_on_elsewhere(gic: Gic) -> None:
    gic.prepare(40, target=1)
    gic.prepare(TIMER, 5, target=2)
    gic.set(40)
    gic.get(IAR1, 1)
    gic.set_register(SGI1R, 5 << 24 | 0b100)
    gic.write(REDISTRIBUTORS + GICR_WAKER, 0)
    other = Gic()

    other.device.load(gic.device.save())

    assert other.device.save() == gic.device.save()
    assert other.outputs == [(2, IRQ)]
    assert (other.get(RPR, 1), other.get(IAR1, 2)) == (0xA0, 5)


def test_reset_forgets_all_but_the_inputs(gic: Gic) -> None:
    gic.prepare(40, 5)
    gic.set(40)
    gic.get(IAR1)

    gic.device.reset()

    assert gic.outputs == []
    assert (gic.get(RPR), gic.get(PMR), gic.get(IGRPEN1)) == (IDLE, 0, 0)
    assert gic.read(GICD_CTLR) == 0x50
    assert not gic.has(ENABLE, 5)
    assert gic.has(PEND, 40)


def test_more_harts_than_it_serves_are_refused() -> None:
    with pytest.raises(ValueError, match=r"arm\.gicv3 serves at most 8 harts, not 9"):
        Gic(harts=9)

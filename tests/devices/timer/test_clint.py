"""The CLINT: software interrupts, and compare interrupts at exactly the right nanosecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.timer.clint import Clint
from hypervisor.device.testing import Bench
from hypervisor.device.tree import Ref

MTIME = 0xBFF8
SOFTWARE, TIMER = 3, 7


def mtimecmp(hart: int) -> int:
    return 0x4000 + 8 * hart


@pytest.fixture
def bench() -> Bench:
    return Bench(harts=2)


@pytest.fixture
def clint(bench: Bench) -> Clint:
    device: Clint = bench.build(Clint, "clint", at=0x200_0000)
    return device


def test_mtime_counts_the_timebase(clint: Clint, bench: Bench) -> None:
    bench.clock.advance(1_000_000_099)

    assert clint.read(MTIME, 8) == 10_000_000


def test_mtime_is_read_in_halves(clint: Clint, bench: Bench) -> None:
    bench.clock.advance((5 << 32 | 6) * 100)

    assert (clint.read(MTIME, 4), clint.read(MTIME + 4, 4)) == (6, 5)


def test_setting_mtime_is_logged_once_and_ignored(clint: Clint, bench: Bench) -> None:
    clint.write(MTIME, 8, 1234)
    clint.write(MTIME, 8, 1234)

    assert clint.read(MTIME, 8) == 0
    assert bench.messages == ["clint: setting mtime is not implemented"]


@pytest.mark.parametrize("hart", [0, 1])
def test_msip_drives_its_hart(clint: Clint, bench: Bench, hart: int) -> None:
    clint.write(4 * hart, 4, 0xFFFF_FFFF)
    levels = [h.interrupt(SOFTWARE).level for h in bench.harts]
    stored = clint.read(4 * hart, 4)
    clint.write(4 * hart, 4, 0)

    assert levels == [hart == 0, hart == 1]
    assert stored == 1
    assert not bench.harts[hart].interrupt(SOFTWARE).level


def test_timer_interrupts_when_mtime_reaches_the_compare(clint: Clint, bench: Bench) -> None:
    clint.write(mtimecmp(1), 8, 50)

    bench.clock.advance(4_999)
    before = bench.harts[1].interrupt(TIMER).level
    bench.clock.advance(1)

    assert (before, bench.harts[1].interrupt(TIMER).level) == (False, True)
    assert bench.harts[0].interrupt(TIMER).level is False


def test_compare_that_has_passed_interrupts_at_once(clint: Clint, bench: Bench) -> None:
    bench.clock.advance(10_000)

    clint.write(mtimecmp(0), 8, 100)

    assert bench.harts[0].interrupt(TIMER).level is True


def test_later_compare_ends_the_interrupt(clint: Clint, bench: Bench) -> None:
    clint.write(mtimecmp(0), 8, 0)

    clint.write(mtimecmp(0), 8, 1000)

    assert bench.harts[0].interrupt(TIMER).level is False


def test_compare_written_in_halves_takes_effect_as_a_whole(clint: Clint, bench: Bench) -> None:
    clint.write(mtimecmp(0), 4, 20)
    clint.write(mtimecmp(0) + 4, 4, 0)

    bench.clock.advance(2_000)

    assert bench.harts[0].interrupt(TIMER).level is True


def test_compare_at_the_end_of_time_arms_no_timer(clint: Clint) -> None:
    clint.write(mtimecmp(0), 8, (1 << 64) - 2)

    assert clint.compares[0].deadline is None


def test_registers_of_absent_harts_interrupt_nobody(clint: Clint, bench: Bench) -> None:
    clint.write(4 * 7, 4, 1)
    clint.write(mtimecmp(7), 8, 0)

    assert not any(line.level for hart in bench.harts for line in hart.lines.values())


@given(
    timebase=st.integers(1, 1_000_000_000),
    compare=st.integers(0, 1 << 48),
)
def test_interrupt_comes_at_the_first_nanosecond_that_reaches_the_compare(
    timebase: int, compare: int
) -> None:
    bench = Bench()
    clint = bench.build(Clint, timebase=timebase)
    deadline = -(-compare * 1_000_000_000 // timebase)
    clint.write(mtimecmp(0), 8, compare)

    bench.clock.advance(max(deadline - 1, 0))
    early = clint.read(MTIME, 8) >= compare, bench.harts[0].interrupt(TIMER).level
    bench.clock.advance(1)
    late = clint.read(MTIME, 8) >= compare, bench.harts[0].interrupt(TIMER).level

    assert early == (compare == 0, compare == 0)
    assert late == (True, deadline < 1 << 63)


def test_more_harts_than_registers_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 16 harts, not 17"):
        Bench(harts=17).build(Clint)


def test_reset_lowers_all_interrupts(clint: Clint, bench: Bench) -> None:
    clint.write(0, 4, 1)
    clint.write(mtimecmp(0), 8, 0)

    clint.reset()

    assert not any(line.level for line in bench.harts[0].lines.values())


def test_restored_clint_raises_what_was_raised_and_fires_what_was_armed(clint: Clint) -> None:
    clint.write(4, 4, 1)
    clint.write(mtimecmp(0), 8, 50)
    bench = Bench(harts=2)
    other = bench.build(Clint, "clint", at=0x200_0000)

    other.load(clint.save())
    bench.clock.advance(5_000)

    assert bench.harts[1].interrupt(SOFTWARE).level is True
    assert bench.harts[0].interrupt(TIMER).level is True


def test_node_names_each_hart(clint: Clint) -> None:
    node = clint.node()

    first, second = Ref("cpu0_intc"), Ref("cpu1_intc")
    assert node is not None
    assert node.name == "clint@2000000"
    assert node["interrupts-extended"] == [first, 3, first, 7, second, 3, second, 7]


def test_supervisor_only_machine_has_no_node() -> None:
    clint = Bench(machine_mode=False).build(Clint)

    assert clint.node() is None

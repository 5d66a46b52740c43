"""The PL031: reading and setting the time, and its alarm."""

from __future__ import annotations

import pytest

from devices.timer.pl031 import Pl031
from hypervisor.device.testing import Bench, BenchClock
from hypervisor.device.tree import Ref

DR, MR, LR, CR, IMSC, RIS, MIS, ICR = range(0, 0x20, 4)
SECOND = 1_000_000_000
EPOCH = BenchClock.epoch // SECOND


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def rtc(bench: Bench) -> Pl031:
    """With its interrupt let through."""
    device: Pl031 = bench.build(Pl031, "rtc", at=0x0901_0000)
    device.write(IMSC, 4, 1)
    return device


def test_time_is_the_epoch_and_whole_seconds_that_have_passed(rtc: Pl031, bench: Bench) -> None:
    bench.clock.advance(5 * SECOND - 1)

    assert rtc.read(DR, 4) == EPOCH + 4


def test_time_that_was_set_goes_on_from_there(rtc: Pl031, bench: Bench) -> None:
    rtc.write(LR, 4, 1_000_000)
    bench.clock.advance(7 * SECOND)

    assert rtc.read(DR, 4) == 1_000_007


def test_time_goes_around_in_32_bits(rtc: Pl031, bench: Bench) -> None:
    rtc.write(LR, 4, 0xFFFF_FFFF)
    bench.clock.advance(2 * SECOND)

    assert rtc.read(DR, 4) == 1


def test_clock_runs_and_cannot_be_stopped(rtc: Pl031) -> None:
    rtc.write(CR, 4, 0)

    assert rtc.read(CR, 4) == 1


def test_alarm_interrupts_when_its_second_begins(rtc: Pl031, bench: Bench) -> None:
    bench.clock.advance(300_000_000)
    rtc.write(MR, 4, EPOCH + 2)

    bench.clock.advance(1_699_999_999)
    before = rtc.irq.level
    bench.clock.advance(1)

    assert (before, rtc.irq.level) == (False, True)
    assert rtc.read(DR, 4) == EPOCH + 2


def test_alarm_of_this_second_interrupts_at_once(rtc: Pl031) -> None:
    rtc.write(MR, 4, EPOCH)

    assert rtc.irq.level is True


def test_alarm_in_the_past_waits_for_the_counter_to_come_around(rtc: Pl031, bench: Bench) -> None:
    rtc.write(MR, 4, EPOCH - 1)
    bench.clock.advance(1_000 * SECOND)

    assert rtc.irq.level is False
    assert rtc.match.deadline == 0xFFFF_FFFF * SECOND


def test_no_alarm_is_waited_for_before_one_is_set(rtc: Pl031) -> None:
    rtc.write(LR, 4, 0xFFFF_FFF0)

    assert rtc.match.deadline is None


def test_setting_the_time_moves_the_alarm(rtc: Pl031, bench: Bench) -> None:
    rtc.write(MR, 4, EPOCH + 100)
    rtc.write(LR, 4, EPOCH + 99)

    bench.clock.advance(SECOND)

    assert rtc.irq.level is True


def test_setting_the_time_to_the_alarms_fires_it(rtc: Pl031) -> None:
    rtc.write(MR, 4, EPOCH + 100)

    rtc.write(LR, 4, EPOCH + 100)

    assert rtc.irq.level is True


def test_alarm_that_came_does_not_come_again_with_the_time(rtc: Pl031) -> None:
    rtc.write(MR, 4, EPOCH)
    rtc.write(ICR, 4, 1)

    rtc.write(LR, 4, EPOCH)

    assert rtc.irq.level is False


def test_masked_alarm_interrupts_once_let_through(rtc: Pl031) -> None:
    rtc.write(IMSC, 4, 0)
    rtc.write(MR, 4, EPOCH)
    masked = rtc.irq.level, rtc.read(RIS, 4), rtc.read(MIS, 4)

    rtc.write(IMSC, 4, 1)

    assert masked == (False, 1, 0)
    assert (rtc.irq.level, rtc.read(MIS, 4)) == (True, 1)


def test_clearing_the_interrupt_lowers_it(rtc: Pl031) -> None:
    rtc.write(MR, 4, EPOCH)

    rtc.write(ICR, 4, 1)

    assert (rtc.irq.level, rtc.read(RIS, 4)) == (False, 0)


def test_identification_is_a_pl031s(rtc: Pl031) -> None:
    identification = bytes(rtc.read(0xFE0 + 4 * n, 4) for n in range(8))

    assert identification == bytes([0x31, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1])


def test_node_names_its_clock(rtc: Pl031) -> None:
    node = rtc.node()

    assert node.name == "rtc@9010000"
    assert node.properties == {"clocks": [Ref("apb_pclk")], "clock-names": ["apb_pclk"]}


def test_reset_returns_to_the_machines_time(rtc: Pl031, bench: Bench) -> None:
    rtc.write(LR, 4, 42)
    rtc.write(MR, 4, 43)

    rtc.reset()
    bench.clock.advance(SECOND)

    assert (rtc.read(DR, 4), rtc.read(RIS, 4)) == (EPOCH + 1, 0)


def test_restored_clock_keeps_its_setting_and_its_alarm(rtc: Pl031) -> None:
    rtc.write(LR, 4, 5_000)
    rtc.write(MR, 4, 5_003)
    bench = Bench()
    other = bench.build(Pl031)

    other.load(rtc.save())
    bench.clock.advance(3 * SECOND)

    assert other.read(DR, 4) == 5_003
    assert other.irq.level is True

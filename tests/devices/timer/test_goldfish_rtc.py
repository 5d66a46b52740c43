"""The Goldfish clock: reading, setting, alarms."""

from __future__ import annotations

import pytest

from devices.timer.goldfish_rtc import GoldfishRtc
from hypervisor.device.testing import Bench, BenchClock

TIME_LOW, TIME_HIGH, ALARM_LOW, ALARM_HIGH = 0x00, 0x04, 0x08, 0x0C
IRQ_ENABLED, CLEAR_ALARM, ALARM_STATUS, CLEAR_INTERRUPT = 0x10, 0x14, 0x18, 0x1C
EPOCH = BenchClock.epoch


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def rtc(bench: Bench) -> GoldfishRtc:
    device: GoldfishRtc = bench.build(GoldfishRtc, "rtc", at=0x10_1000)
    return device


def read_time(rtc: GoldfishRtc) -> int:
    low = rtc.read(TIME_LOW, 4)
    return rtc.read(TIME_HIGH, 4) << 32 | low


def set_time(rtc: GoldfishRtc, time: int) -> None:
    rtc.write(TIME_HIGH, 4, time >> 32)
    rtc.write(TIME_LOW, 4, time & 0xFFFF_FFFF)


def set_alarm(rtc: GoldfishRtc, time: int) -> None:
    rtc.write(ALARM_HIGH, 4, time >> 32)
    rtc.write(ALARM_LOW, 4, time & 0xFFFF_FFFF)
    rtc.write(IRQ_ENABLED, 4, 1)


def test_time_is_the_epoch_and_what_has_passed(rtc: GoldfishRtc, bench: Bench) -> None:
    bench.clock.advance(5_000_000_000)

    assert read_time(rtc) == EPOCH + 5_000_000_000


def test_high_half_belongs_to_the_low_half_read_before(rtc: GoldfishRtc, bench: Bench) -> None:
    set_time(rtc, 0x1_FFFF_FFFF)
    low = rtc.read(TIME_LOW, 4)
    bench.clock.advance(1)

    assert (rtc.read(TIME_HIGH, 4), low) == (1, 0xFFFF_FFFF)


def test_time_that_was_set_goes_on_from_there(rtc: GoldfishRtc, bench: Bench) -> None:
    set_time(rtc, 1_000_000_000_000_000_000)
    bench.clock.advance(7)

    assert read_time(rtc) == 1_000_000_000_000_000_007


def test_alarm_interrupts_at_its_time(rtc: GoldfishRtc, bench: Bench) -> None:
    set_alarm(rtc, EPOCH + 1000)

    bench.clock.advance(999)
    before = rtc.irq.level, rtc.read(ALARM_STATUS, 4)
    bench.clock.advance(1)

    assert before == (False, 1)
    assert (rtc.irq.level, rtc.read(ALARM_STATUS, 4)) == (True, 0)


def test_alarm_in_the_past_interrupts_at_once(rtc: GoldfishRtc) -> None:
    set_alarm(rtc, EPOCH - 1)

    assert rtc.irq.level is True


def test_clearing_the_interrupt_lowers_it(rtc: GoldfishRtc) -> None:
    set_alarm(rtc, EPOCH)

    rtc.write(CLEAR_INTERRUPT, 4, 1)

    assert rtc.irq.level is False


def test_cleared_alarm_does_not_interrupt(rtc: GoldfishRtc, bench: Bench) -> None:
    set_alarm(rtc, EPOCH + 1000)

    rtc.write(CLEAR_ALARM, 4, 1)
    bench.clock.advance(2000)

    assert (rtc.irq.level, rtc.read(ALARM_STATUS, 4)) == (False, 0)


def test_masked_alarm_interrupts_once_enabled(rtc: GoldfishRtc, bench: Bench) -> None:
    set_alarm(rtc, EPOCH + 1000)
    rtc.write(IRQ_ENABLED, 4, 0)
    bench.clock.advance(1000)
    masked = rtc.irq.level

    rtc.write(IRQ_ENABLED, 4, 1)

    assert (masked, rtc.irq.level) == (False, True)


def test_setting_the_time_past_the_alarm_fires_it(rtc: GoldfishRtc) -> None:
    set_alarm(rtc, EPOCH + 1_000_000)

    set_time(rtc, EPOCH + 2_000_000)

    assert rtc.irq.level is True


def test_setting_the_time_back_delays_the_alarm(rtc: GoldfishRtc, bench: Bench) -> None:
    set_alarm(rtc, EPOCH + 1000)
    set_time(rtc, EPOCH - 1000)

    bench.clock.advance(1999)
    before = rtc.irq.level
    bench.clock.advance(1)

    assert (before, rtc.irq.level) == (False, True)


def test_alarm_beyond_all_time_arms_no_timer(rtc: GoldfishRtc) -> None:
    set_alarm(rtc, (1 << 64) - 1)

    assert rtc.read(ALARM_STATUS, 4) == 1
    assert rtc.alarm.deadline is None


def test_reset_returns_to_the_machines_time(rtc: GoldfishRtc) -> None:
    set_time(rtc, 42)

    rtc.reset()

    assert read_time(rtc) == EPOCH


def test_restored_clock_keeps_its_setting_and_its_alarm(rtc: GoldfishRtc) -> None:
    set_time(rtc, 5_000)
    set_alarm(rtc, 6_000)
    bench = Bench()
    other = bench.build(GoldfishRtc)

    other.load(rtc.save())
    bench.clock.advance(1_000)

    assert read_time(other) == 6_000
    assert other.irq.level is True

import pytest
from blinker import Blinker

from hypervisor.device.testing import Bench

CONTROL, PERIOD, COUNT, STATUS = 0x0, 0x4, 0x8, 0xC
MILLISECOND = 1_000_000


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def blinker(bench):
    return bench.build(Blinker, "blinker0")


def test_blinks_once_a_period(bench, blinker):
    blinker.write(PERIOD, 4, 100)
    blinker.write(CONTROL, 4, 1)
    bench.clock.advance(250 * MILLISECOND)
    assert blinker.read(COUNT, 4) == 2


def test_interrupts_until_acknowledged(bench, blinker):
    blinker.write(CONTROL, 4, 1)
    bench.clock.advance(500 * MILLISECOND)
    assert blinker.irq.level
    blinker.write(STATUS, 4, 1)
    assert not blinker.irq.level


def test_does_not_blink_when_off(bench, blinker):
    blinker.write(CONTROL, 4, 1)
    blinker.write(CONTROL, 4, 0)
    bench.clock.advance(1000 * MILLISECOND)
    assert blinker.read(COUNT, 4) == 0


def test_goes_on_after_a_snapshot(bench, blinker):
    blinker.write(CONTROL, 4, 1)
    bench.clock.advance(750 * MILLISECOND)
    restored = bench.build(Blinker, "blinker1")
    restored.load(blinker.save())
    bench.clock.advance(250 * MILLISECOND)
    assert restored.read(COUNT, 4) == 2

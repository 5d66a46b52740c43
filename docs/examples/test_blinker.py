import pytest
from blinker import Blinker

from hypervisor.device.testing import MILLISECOND, SECOND, Kit
from hypervisor.device.testing.conformance import CHECKS, Subject


@pytest.fixture
def kit():
    with Kit() as kit:
        kit.add("blinker0", Blinker)
        yield kit


def test_blinks_once_a_period(kit):
    kit.write("blinker0.PERIOD", 100)
    kit.write("blinker0.CONTROL.ENABLE", 1)
    kit.advance(250 * MILLISECOND)
    assert kit.read("blinker0.COUNT") == 2


def test_interrupts_until_acknowledged(kit):
    kit.write("blinker0.CONTROL.ENABLE", 1)
    assert kit.await_interrupt("blinker0", within=SECOND) == 500 * MILLISECOND
    kit.write("blinker0.STATUS", 1)
    assert not kit.level("blinker0")


def test_does_not_blink_when_off(kit):
    kit.write("blinker0.CONTROL.ENABLE", 1)
    kit.write("blinker0.CONTROL.ENABLE", 0)
    kit.advance(SECOND)
    assert kit.read("blinker0.COUNT") == 0


def test_goes_on_after_a_snapshot(kit):
    kit.write("blinker0.CONTROL.ENABLE", 1)
    kit.advance(750 * MILLISECOND)
    with Kit() as other:
        other.add("blinker0", Blinker)
        other.restore(kit.snapshot())
        other.advance(250 * MILLISECOND)
        assert other.read("blinker0.COUNT") == 2


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_holds_to_its_register_table(check):
    with Subject(Blinker) as subject:
        check(subject)

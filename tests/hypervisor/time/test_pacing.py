"""Idle and busy time against a wall clock moved by hand."""

from __future__ import annotations

import pytest

from hypervisor.time.clock import VirtualClock
from hypervisor.time.pacing import LONGEST_WAIT, Pacer

MILLISECOND = 1_000_000


class Wall:
    """A wall clock and a mailbox: sleeping moves the clock; mail comes after `mail_in` seconds."""

    def __init__(self):
        self.now = 5_000_000_000
        self.mail_in = None
        self.slept = []

    def __call__(self):
        return self.now

    def wait(self, seconds):
        arrived = self.mail_in is not None and self.mail_in < seconds
        taken = self.mail_in if arrived else seconds
        self.slept.append(taken)
        self.now += round(taken * 1e9)
        return arrived


@pytest.fixture
def wall():
    return Wall()


def pacer(pace, wall, live=()):
    clock = VirtualClock(0)
    one = Pacer(pace, clock, wall, set(live), wall)
    one.begin()
    return one, clock


@pytest.mark.parametrize(("pace", "live"), [("auto", ()), ("free", ("net0",)), ("free", ())])
def test_idle_time_is_skipped(wall, pace, live):
    one, clock = pacer(pace, wall, live)

    one.idle(80 * MILLISECOND)

    assert clock.now() == 80 * MILLISECOND
    assert wall.slept == []


def test_short_latency_of_a_disk_is_not_slept(wall):
    one, clock = pacer("auto", wall, ["net0"])

    one.idle(100_000, modelled=True)

    assert clock.now() == 100_000
    assert wall.slept == []


@pytest.mark.parametrize(("pace", "latency"), [("auto", 8 * MILLISECOND), ("realtime", 100_000)])
def test_latency_of_a_disk_is_slept_where_time_must_hold(wall, pace, latency):
    one, clock = pacer(pace, wall, ["net0"])

    one.idle(latency, modelled=True)

    assert clock.now() == latency
    assert wall.slept == [latency / 1e9]


@pytest.mark.parametrize(("pace", "live"), [("auto", ("net0",)), ("realtime", ())])
def test_idle_time_passes_at_the_walls_rate(wall, pace, live):
    one, clock = pacer(pace, wall, live)

    one.idle(80 * MILLISECOND)

    assert clock.now() == 80 * MILLISECOND
    assert wall.slept == [0.08]


def test_mail_ends_idle_time_early(wall):
    one, clock = pacer("auto", wall, ["net0"])
    wall.mail_in = 0.03

    one.idle(80 * MILLISECOND)

    assert clock.now() == 30 * MILLISECOND


@pytest.mark.parametrize("due", [None, 900 * MILLISECOND])
def test_long_idle_time_is_slept_in_parts(wall, due):
    one, clock = pacer("auto", wall, ["net0"])

    one.idle(due)

    assert wall.slept == [LONGEST_WAIT]
    assert clock.now() == 250 * MILLISECOND


def test_busy_time_ahead_of_the_wall_is_held(wall):
    one, clock = pacer("realtime", wall)
    clock.pass_idle(20 * MILLISECOND)

    one.hold()

    assert wall.slept == [0.02]


@pytest.mark.parametrize("pace", ["auto", "free"])
def test_busy_time_is_not_held_at_other_paces(wall, pace):
    one, clock = pacer(pace, wall, ["net0"])
    clock.pass_idle(20 * MILLISECOND)

    one.hold()

    assert wall.slept == []


def test_busy_time_behind_the_wall_goes_on(wall):
    one, _ = pacer("realtime", wall)
    wall.now += 50 * MILLISECOND

    one.hold()

    assert wall.slept == []

"""Timers fire once, in order of time and arming; units and nanoseconds never disagree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hypervisor.cpu.cells import NEVER
from hypervisor.time.clock import VirtualClock, to_nanoseconds, to_units

NAMES = ["a", "b", "c", "d"]


@given(st.integers(0, 1 << 62))
def test_first_unit_of_a_time_is_the_first(nanoseconds):
    units = to_units(nanoseconds)

    assert to_nanoseconds(units) >= nanoseconds
    assert units == 0 or to_nanoseconds(units - 1) < nanoseconds


@given(st.integers(0, 1 << 62))
def test_units_survive_the_way_to_nanoseconds_within_one_nanosecond(units):
    assert units - 1 <= to_units(to_nanoseconds(units)) <= units


def test_a_tick_of_the_timebase_is_a_hundred_nanoseconds():
    assert to_units(100) == 128
    assert to_nanoseconds(128) == 100


class Timers(RuleBasedStateMachine):
    """The clock against a list that is sorted anew each time."""

    def __init__(self):
        super().__init__()
        self.clock = VirtualClock(0)
        self.fired = []
        self.armed = {}
        self.order = 0
        for name in NAMES:
            self.clock.timer(name, lambda name=name: self.fired.append(name))

    @rule(name=st.sampled_from(NAMES), delay=st.integers(-50, 200))
    def arm(self, name, delay):
        self.order += 1
        deadline = self.clock.now() + delay
        self.clock.timers[name].arm(deadline)
        self.armed[name] = (deadline, self.order)

    @rule(name=st.sampled_from(NAMES))
    def cancel(self, name):
        self.clock.timers[name].cancel()
        self.armed.pop(name, None)

    @rule(gap=st.integers(0, 150))
    def advance(self, gap):
        self.clock.pass_idle(self.clock.now() + gap)
        now = self.clock.now()
        due = sorted((entry, name) for name, entry in self.armed.items() if entry[0] <= now)
        self.fired.clear()

        self.clock.run_due()

        assert self.fired == [name for _, name in due]
        for _, name in due:
            del self.armed[name]

    @rule()
    def save_and_load(self):
        state = self.clock.save()
        assert [name for name, _ in state["timers"]] == sorted(self.armed, key=self.armed.get)
        self.clock.load(state)

    @invariant()
    def next_deadline_is_the_earliest(self):
        earliest = min(self.armed.values(), default=(None, 0))[0]
        assert self.clock.next_deadline() == earliest

    @invariant()
    def deadlines_are_those_armed(self):
        shown = {name: t.deadline for name, t in self.clock.timers.items() if t.deadline}
        assert shown == {name: at for name, (at, _) in self.armed.items() if at}


TestTimers = Timers.TestCase


@pytest.fixture
def clock():
    return VirtualClock(0)


def test_timer_armed_again_in_its_callback_fires_again(clock):
    times = []

    def tick():
        times.append(clock.now())
        timer.arm(clock.now() + 100)

    timer = clock.timer("tick", tick)
    timer.arm(100)
    for _ in range(3):
        clock.pass_idle(clock.next_deadline())
        clock.run_due()

    assert times == [100, 200, 300]


def test_timer_cancelled_by_another_due_at_the_same_time_does_not_fire(clock):
    fired = []
    victim = clock.timer("victim", lambda: fired.append("victim"))
    killer = clock.timer("killer", victim.cancel)
    killer.arm(10)
    victim.arm(10)
    clock.pass_idle(10)

    clock.run_due()

    assert fired == []
    assert clock.next_deadline() is None


def test_arming_during_a_run_brings_its_stop_nearer_and_never_further(clock):
    clock.cell.deadline = NEVER
    timer = clock.timer("t", lambda: None)

    timer.arm(1000)
    near = clock.cell.deadline
    timer.arm(2000)

    assert near == to_units(1000)
    assert clock.cell.deadline == near


@pytest.mark.parametrize("deadline", [-1, -(1 << 70)])
def test_arming_for_before_the_start_means_at_once(clock, deadline):
    timer = clock.timer("t", lambda: None)

    timer.arm(deadline)

    assert clock.cell.deadline == 0


def test_arming_beyond_the_end_of_time_stops_no_run(clock):
    timer = clock.timer("t", lambda: None)

    timer.arm(1 << 80)

    assert clock.cell.deadline == NEVER


def test_time_does_not_pass_beyond_its_end(clock):
    clock.pass_idle(1000)

    clock.pass_idle(1 << 80)

    assert clock.now() > 1 << 62
    clock.pass_idle(clock.now() + 1000)
    assert clock.now() > 1 << 62


def test_idle_time_is_not_executed_code(clock):
    clock.cell.units += 640
    clock.pass_idle(to_nanoseconds(640) + 1000)

    assert clock.executed == 640
    assert clock.now() == 1500


def test_time_never_passes_backwards(clock):
    clock.pass_idle(1000)
    clock.pass_idle(500)

    assert clock.now() == 1000


def test_arming_anew_for_ever_needs_no_more_memory(clock):
    far = clock.timer("far", lambda: None)
    other = clock.timer("other", lambda: None)
    other.arm(5)

    for number in range(10_000):
        far.arm(1_000_000 + number)

    assert len(clock._queue) < 1000
    assert clock.next_deadline() == 5


def test_callbacks_failure_leaves_the_other_timers(clock):
    fired = []

    def fail():
        raise RuntimeError("broken device")

    clock.timer("bad", fail).arm(10)
    clock.timer("good", lambda: fired.append(1)).arm(10)
    clock.pass_idle(10)

    with pytest.raises(RuntimeError):
        clock.run_due()
    clock.run_due()

    assert fired == [1]


def test_saved_time_is_another_clocks_time(clock):
    clock.cell.units = clock.cell.visible = 6400
    clock.pass_idle(9000)
    clock.timer("x", lambda: None).arm(9500)
    other = VirtualClock(0)
    other.timer("x", lambda: None)
    other.timer("armed before", lambda: None).arm(3)

    other.load(clock.save())

    assert (other.now(), other.executed, other.next_deadline()) == (9000, 6400, 9500)
    assert other.timers["armed before"].deadline is None


def test_unknown_timer_in_a_saved_clock_is_refused(clock):
    clock.timer("x", lambda: None).arm(9500)

    with pytest.raises(ValueError, match="timer x"):
        VirtualClock(0).load(clock.save())

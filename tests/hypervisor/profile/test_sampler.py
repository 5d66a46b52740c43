"""Samples: when they are taken, what they weigh, and the stacks that they show."""

from __future__ import annotations

import pytest

from hypervisor.profile.profile import Profile
from hypervisor.profile.stack import DEPTH

UNITS = 2_560
"""Bytes of code in 2 us."""

SPIN = "1: addi s1, s1, 1\n j 1b"
WAITS = """
    la t0, handler
    csrw mtvec, t0
    li s2, 0x200bff8
    li s3, 0x2004000
    li s0, 40
    li t0, 128
    csrw mie, t0
1:  ld t0, (s2)
    addi t0, t0, 1000
    sd t0, (s3)
    wfi
    addi s0, s0, -1
    bnez s0, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
2:  j 2b
.balign 4
handler: j handler
"""
"""Waits 40 times for 100 us, with interrupts off."""


def profiled(machine, period=2_000, **how):
    profile = Profile(machine, period, **how)
    machine.run(timeout=20)
    profile.close()
    return profile


def stacks(profile):
    """Weights of stacks, written from the outermost function on."""
    found = {}
    for sample, weight in profile.sampler.samples.items():
        names = " ".join(profile.names(sample)[::-1])
        found[names] = found.get(names, 0) + weight
    return found


def test_sampling_changes_nothing_in_the_run(guest, guest_file, workshop):
    plain = workshop.build(guest_file.read_bytes())
    plain.run(timeout=10)

    profiled(guest)

    assert guest.state_sha256() == plain.state_sha256()


@pytest.mark.parametrize("period", [1_000, 3_333, 50_000])
def test_samples_stand_for_all_executed_code(guest, period):
    profile = profiled(guest, period)

    taken = profile.samples * period
    executed = guest.clock.executed * 25 // 32
    assert executed - period <= taken <= executed


def test_samples_are_the_same_in_every_run(guest, guest_file, workshop):
    again = workshop.build(guest_file.read_bytes())

    first, second = profiled(guest), profiled(again)

    assert first.sampler.order == second.sampler.order


def test_stacks_lead_from_the_outermost_function(guest):
    found = stacks(profiled(guest))

    assert set(found) == {
        "_start guest middle innermost",
        "_start guest other",
        "_start guest " + "recurse " * 6 + "innermost",
    }


def test_weights_are_near_what_was_executed(guest):
    profile = profiled(guest, 1_000, exact=True)

    for row in profile.functions()[:2]:
        assert abs(row.own - row.exact * 25 // 32) < 3_000


def test_totals_contain_what_was_called(guest):
    rows = {row.name: row for row in profiled(guest).functions()}

    assert rows["guest"].own == 0
    assert rows["guest"].total == rows["_start"].total == sum(row.own for row in rows.values())
    assert rows["innermost"].total == rows["middle"].total + rows["recurse"].total


def test_exact_figures_are_bytes_of_code(guest):
    profile = profiled(guest, exact=True)

    exact = {row.name: row.exact for row in profile.functions()}

    assert sum(exact.values()) == guest.clock.executed
    assert profile.modes() == {"machine": guest.clock.executed}


def test_figures_of_the_same_guest_are_known(guest):
    """A loop of innermost is 16 bytes of code, and it turns 13,000 times."""
    profile = profiled(guest, exact=True)

    innermost = next(row for row in profile.functions() if row.name == "innermost")

    assert 16 * 13_000 <= innermost.exact < 16 * 13_000 + 60 * 11


def test_waiting_is_not_sampled(workshop):
    machine = workshop.build(WAITS)
    profile = profiled(machine)

    assert profile.samples == machine.clock.executed // UNITS
    assert profile.account.idle * 25 // 32 > 3_000_000
    assert profile.account.executed == machine.clock.executed


def test_code_without_a_name_has_its_page(workshop):
    machine = workshop.build(SPIN)
    profile = Profile(machine, 1_000)

    machine.run(timeout=0.2)
    profile.close()

    assert set(stacks(profile)) == {"[0x80000000]"}


@pytest.mark.parametrize(
    "frame",
    [
        "li s0, -1",
        "li s0, 0x80080001",
        "li s0, 0x80080010\n sd s0, -16(s0)\n sd s0, -8(s0)",
        "li s0, 0x7ffffff0",
        "li s0, 0x800fffff8",
        "li s0, 0",
        "li s0, 8",
    ],
)
def test_frame_pointers_are_not_believed(workshop, frame):
    machine = workshop.build(f"li sp, 0x80080000\n {frame}\n 1: addi s1, s1, 1\n j 1b")
    profile = Profile(machine, 1_000)

    machine.run(timeout=0.2)
    profile.close()

    assert all(len(sample.stack.addresses) <= 2 for sample in profile.sampler.samples)


def test_a_chain_without_end_is_cut(workshop):
    links = """
    li sp, 0x80080000
    li t0, 0x80080010
    li t2, 1000
1:  addi t1, t0, 16
    sd t1, -16(t0)
    sd t0, -8(t0)
    mv t0, t1
    addi t2, t2, -1
    bnez t2, 1b
    li s0, 0x80080010
2:  addi s1, s1, 1
    j 2b
"""
    machine = workshop.build(links)
    profile = Profile(machine, 10_000)

    machine.run(timeout=0.2)
    profile.close()

    assert max(len(sample.stack.addresses) for sample in profile.sampler.samples) == DEPTH


def test_harts_have_samples_of_their_own(workshop):
    machine = workshop.build(SPIN, harts=3)
    profile = Profile(machine, 10_000)

    machine.run(timeout=0.3)
    profile.close()

    assert {sample.hart for sample in profile.sampler.samples} == {0, 1, 2}


def test_samples_go_on_where_a_machine_is_restored(guest):
    snapshot = guest.snapshot()
    profile = Profile(guest, 2_000)
    guest.run(timeout=10)
    first = profile.samples

    guest.restore(snapshot)
    guest.run(timeout=10)
    profile.close()

    assert first <= profile.samples - first + 1 <= first + 1


def test_a_machine_has_one_sampler(guest):
    profile = Profile(guest)

    with pytest.raises(ValueError, match="sampled already"):
        Profile(guest)
    profile.close()
    Profile(guest).close()


def test_too_short_a_period_is_refused(guest):
    with pytest.raises(ValueError, match="at least 1000 ns, not 999"):
        Profile(guest, 999)


def test_devices_and_interrupts_are_accounted(workshop):
    say = """
    li s1, 0x10000000
    li a0, 'x'
    sb a0, (s1)
    lbu a0, 5(s1)
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
1:  j 1b
"""
    machine = workshop.build(say)
    profile = Profile(machine)
    machine.devices["uart0"].irq.set(True)
    machine.clock.pass_idle(5_000)
    machine.devices["uart0"].irq.set(False)
    machine.run(timeout=10)
    profile.close()

    devices = {each.name: each for each in profile.account.devices()}
    assert (devices["uart0"].reads, devices["uart0"].writes) == (1, 1)
    assert devices["uart0"].host_ns > 0
    line = profile.account.interrupts["uart0"]
    assert (line.raised, line.high.count, line.high.mean) == (1, 1, 5_000)
    assert machine.bus.windows[0].nanoseconds is None

"""The PLIC: gateways, enables, priorities, thresholds, claims and completions."""

from __future__ import annotations

import pytest

from devices.interrupt.plic import Plic
from hypervisor.device.testing import Bench
from hypervisor.device.tree import Ref

PENDING = 0x1000
M0, S0, M1, S1 = 0, 1, 2, 3


def priority(source: int) -> int:
    return 4 * source


def enable(context: int, word: int = 0) -> int:
    return 0x2000 + 0x80 * context + 4 * word


def threshold(context: int) -> int:
    return 0x20_0000 + 0x1000 * context


def claim(context: int) -> int:
    return threshold(context) + 4


@pytest.fixture
def bench() -> Bench:
    return Bench(harts=2)


@pytest.fixture
def plic(bench: Bench) -> Plic:
    device: Plic = bench.build(Plic, "plic", at=0x0C00_0000)
    return device


def prepare(plic: Plic, context: int, *sources: int, urgency: int = 1) -> None:
    """Enable sources for a context at a priority."""
    for source in sources:
        plic.write(priority(source), 4, urgency)
        offset = enable(context, source // 32)
        plic.write(offset, 4, plic.read(offset, 4) | 1 << source % 32)


@pytest.mark.parametrize(
    ("context", "hart", "number"), [(M0, 0, 11), (S0, 0, 9), (M1, 1, 11), (S1, 1, 9)]
)
def test_context_drives_its_hart_alone(
    plic: Plic, bench: Bench, context: int, hart: int, number: int
) -> None:
    prepare(plic, context, 10)

    plic.input(10).set(True)

    high = [(h.index, n) for h in bench.harts for n, line in h.lines.items() if line.level]
    assert high == [(hart, number)]


def test_claim_takes_the_source_and_lowers_the_output(plic: Plic, bench: Bench) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)

    assert plic.read(claim(S0), 4) == 10
    assert bench.harts[0].interrupt(9).level is False


def test_claim_of_nothing_gives_zero(plic: Plic) -> None:
    prepare(plic, S0, 10)

    assert plic.read(claim(S0), 4) == 0


def test_claimed_source_is_given_once(plic: Plic) -> None:
    prepare(plic, S0, 10)
    prepare(plic, S1, 10)
    plic.input(10).set(True)

    assert [plic.read(claim(context), 4) for context in (S0, S1)] == [10, 0]


def test_input_still_high_at_completion_interrupts_again(plic: Plic, bench: Bench) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)
    plic.write(claim(S0), 4, plic.read(claim(S0), 4))

    assert bench.harts[0].interrupt(9).level is True


def test_input_low_at_completion_does_not_interrupt(plic: Plic, bench: Bench) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)
    plic.read(claim(S0), 4)
    plic.input(10).set(False)
    plic.write(claim(S0), 4, 10)

    assert bench.harts[0].interrupt(9).level is False


def test_edges_between_claim_and_completion_are_one_interrupt(plic: Plic) -> None:
    prepare(plic, S0, 10)
    line = plic.input(10)
    line.set(True)
    plic.read(claim(S0), 4)
    line.set(False)
    line.set(True)
    during = plic.read(claim(S0), 4)
    plic.write(claim(S0), 4, 10)

    assert (during, plic.read(claim(S0), 4), plic.read(claim(S0), 4)) == (0, 10, 0)


def test_accepted_request_stays_pending_when_the_input_falls(plic: Plic) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)

    plic.input(10).set(False)

    assert plic.read(claim(S0), 4) == 10


def test_completion_by_a_context_without_the_enable_is_ignored(plic: Plic) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)
    plic.read(claim(S0), 4)

    plic.write(claim(S1), 4, 10)

    assert plic.read(claim(S0), 4) == 0


@pytest.mark.parametrize("source", [0, 11, 96, 1023, 0xFFFF_FFFF])
def test_completion_of_a_source_not_claimed_is_ignored(plic: Plic, source: int) -> None:
    prepare(plic, S0, 10, 11)
    plic.input(10).set(True)
    plic.read(claim(S0), 4)

    plic.write(claim(S0), 4, source)

    assert (plic.claimed, plic.pending) == (1 << 10, 0)


def test_higher_priority_is_claimed_first(plic: Plic) -> None:
    prepare(plic, S0, 3, urgency=1)
    prepare(plic, S0, 40, urgency=7)
    plic.input(3).set(True)
    plic.input(40).set(True)

    assert [plic.read(claim(S0), 4) for _ in range(3)] == [40, 3, 0]


def test_equal_priorities_are_claimed_by_number(plic: Plic) -> None:
    prepare(plic, S0, 95, 64, 2)
    for source in (95, 2, 64):
        plic.input(source).set(True)

    assert [plic.read(claim(S0), 4) for _ in range(4)] == [2, 64, 95, 0]


def test_priority_zero_never_interrupts(plic: Plic, bench: Bench) -> None:
    prepare(plic, S0, 10, urgency=0)
    plic.input(10).set(True)

    assert bench.harts[0].interrupt(9).level is False
    assert plic.read(claim(S0), 4) == 0


def test_raising_the_priority_of_a_pending_source_interrupts(plic: Plic, bench: Bench) -> None:
    prepare(plic, S0, 10, urgency=0)
    plic.input(10).set(True)

    plic.write(priority(10), 4, 1)

    assert bench.harts[0].interrupt(9).level is True


@pytest.mark.parametrize(("limit", "level"), [(2, True), (3, False), (7, False)])
def test_threshold_masks_priorities_up_to_its_own(
    plic: Plic, bench: Bench, limit: int, level: bool
) -> None:
    prepare(plic, S0, 10, urgency=3)
    plic.input(10).set(True)

    plic.write(threshold(S0), 4, limit)

    assert bench.harts[0].interrupt(9).level is level


def test_threshold_has_no_say_in_claims(plic: Plic) -> None:
    prepare(plic, S0, 10)
    plic.write(threshold(S0), 4, 7)
    plic.input(10).set(True)

    assert plic.read(claim(S0), 4) == 10


def test_disabled_source_is_pending_but_interrupts_nobody(plic: Plic, bench: Bench) -> None:
    plic.write(priority(10), 4, 1)
    plic.input(10).set(True)

    assert plic.read(PENDING, 4) == 1 << 10
    assert not any(line.level for hart in bench.harts for line in hart.lines.values())


def test_pending_bits_are_read_only(plic: Plic) -> None:
    plic.write(PENDING, 4, 0xFFFF_FFFF)

    assert plic.read(PENDING, 4) == 0


def test_pending_words_show_their_sources(plic: Plic) -> None:
    for source in (1, 33, 95):
        plic.input(source).set(True)

    assert [plic.read(PENDING + 4 * word, 4) for word in range(3)] == [2, 2, 1 << 31]


def test_source_zero_and_sources_beyond_the_option_do_not_exist(bench: Bench) -> None:
    plic = bench.build(Plic, sources=40)
    plic.write(enable(S0), 4, 0xFFFF_FFFF)
    plic.write(enable(S0, 1), 4, 0xFFFF_FFFF)
    plic.write(priority(0), 4, 7)
    plic.write(priority(41), 4, 7)

    words = plic.read(enable(S0), 4), plic.read(enable(S0, 1), 4)
    assert words == (0xFFFF_FFFE, 0x1FF)
    assert (plic.read(priority(0), 4), plic.read(priority(41), 4)) == (0, 0)


def test_contexts_of_absent_harts_hold_nothing(plic: Plic) -> None:
    plic.write(priority(10), 4, 1)
    plic.write(enable(4), 4, 0xFFFF_FFFF)
    plic.input(10).set(True)

    assert (plic.read(enable(4), 4), plic.read(claim(4), 4)) == (0, 0)


@pytest.mark.parametrize("number", [0, 41])
def test_input_outside_the_sources_is_refused(bench: Bench, number: int) -> None:
    plic = bench.build(Plic, "plic", sources=40)

    with pytest.raises(ValueError, match=f"plic has inputs 1 to 40, but not {number}"):
        plic.input(number)


def test_more_harts_than_contexts_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 16 harts, not 17"):
        Bench(harts=17).build(Plic)


def test_reset_forgets_requests_and_enables(plic: Plic, bench: Bench) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)

    plic.reset()

    assert (plic.pending, plic.enabled) == (0, [0, 0, 0, 0])
    assert bench.harts[0].interrupt(9).level is False


def test_restored_plic_raises_its_outputs_and_honours_enables(plic: Plic) -> None:
    prepare(plic, S0, 10, 33)
    plic.input(10).set(True)
    bench = Bench(harts=2)
    other = bench.build(Plic, "plic", at=0x0C00_0000)

    other.load(plic.save())
    other.input(33).set(True)

    assert bench.harts[0].interrupt(9).level is True
    assert [other.read(claim(S0), 4) for _ in range(3)] == [10, 33, 0]


def test_restored_claim_is_not_requested_again_by_a_device_restored_later(plic: Plic) -> None:
    prepare(plic, S0, 10)
    plic.input(10).set(True)
    plic.read(claim(S0), 4)
    other = Bench(harts=2).build(Plic, "plic", at=0x0C00_0000)

    other.load(plic.save())
    other.input(10).set(True)

    assert other.save() == plic.save()


@pytest.mark.parametrize(("machine_mode", "machine"), [(True, 11), (False, 0xFFFF_FFFF)])
def test_node_names_each_context(machine_mode: bool, machine: int) -> None:
    plic = Bench(harts=2, machine_mode=machine_mode).build(Plic, at=0x0C00_0000, sources=40)

    node = plic.node()

    first, second = Ref("cpu0_intc"), Ref("cpu1_intc")
    assert node.name == "interrupt-controller@c000000"
    assert node["riscv,ndev"] == 40
    assert node["interrupts-extended"] == [first, machine, first, 9, second, machine, second, 9]

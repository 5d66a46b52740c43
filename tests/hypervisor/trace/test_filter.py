"""Filters of events."""

import pytest

from hypervisor.events import InterruptChange, MmioAccess
from hypervisor.trace import Filter, FilterError

READ = MmioAccess(5, "uart0", "LSR", 5, 1, 0x60, False)
RAISED = InterruptChange(6, "uart0", True, "plic.10")


@pytest.mark.parametrize(
    ("text", "mmio", "irq"),
    [
        ("mmio", True, False),
        ("irq", False, True),
        ("all", True, True),
        ("all,!mmio", False, True),
        ("mmio:uart0", True, False),
        ("mmio:uart0.LSR", True, False),
        ("mmio:uart0.THR", False, False),
        ("mmio:uart", False, False),
        ("mmio:uart*,irq:plic", True, False),
        ("interrupts:uart0", False, True),
        ("mmio,!mmio:uart0.LSR", False, False),
        ("mmio,!mmio:uart0,mmio:*.LSR", True, False),
        ("all:uart0, !irq", True, False),
    ],
)
def test_filter_chooses(text, mmio, irq):
    choice = Filter.parse(text)

    assert choice.chooses("mmio", READ.subject) is mmio
    assert choice.chooses("irq", RAISED.subject) is irq


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "chooses nothing"),
        (" , ", "chooses nothing"),
        ("!mmio", "chooses nothing"),
        ("mimo", "no events of kind 'mimo'; did you mean 'mmio'?"),
        ("xyz123:uart0", "there are ack,"),
    ],
)
def test_bad_filter_is_a_sentence(text, sentence):
    with pytest.raises(FilterError) as caught:
        Filter.parse(text)

    assert sentence in str(caught.value)


def test_all_leaves_out_what_hooks_every_block():
    assert not {"trap", "taken"} & set(Filter.parse("all").kinds)
    assert {"trap", "taken"} <= set(Filter.parse("all,trap,taken").kinds)


def test_whole_kind_needs_no_condition():
    assert Filter.parse("mmio").where("mmio") is None
    assert Filter.parse("mmio,!mmio:uart0").where("mmio") is not None

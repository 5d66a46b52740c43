"""Faults in a description: what they become, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hypervisor.config.faults import (
    FAULTS,
    DelayedInterrupt,
    DiskError,
    LostInterrupt,
    RegisterFault,
    register_named,
)
from hypervisor.device import Device, Register

from .conftest import DESCRIPTION, FAKES

Load = Callable[..., Any]
Problems = Callable[..., list[str]]


class Timer(Device):
    type = "fake.timer"
    address_size = 0x100
    fault_points = frozenset({"requests"})
    CTRL = Register(0x0, size=1)
    ALARM = Register(0x8, size=8, count=4)
    KICK = Register(0x40, access="wo")


@pytest.fixture(autouse=True)
def timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAKES, Timer.type, Timer)


def text(*faults: str) -> str:
    """The description with a timer, and `faults` each on a line, from line 11 on."""
    timer = "  timer0: {type: fake.timer, at: 0x2000_0000}\n"
    return DESCRIPTION + timer + "faults:\n" + "".join(f"  - {{{fault}}}\n" for fault in faults)


def test_description_without_faults_has_none(load: Load) -> None:
    assert load().faults == ()


def test_faults_are_kept_in_their_order(load: Load) -> None:
    found = load(
        text=text(
            "kind: interrupt.lost, device: disk0, nth: 5",
            "kind: interrupt.delayed, device: disk0, delay: 2ms, at: 1s, count: all",
            "kind: register, device: timer0, name: CTRL, value: 0x80, mask: 0xF0",
            "kind: disk.error, device: timer0, operation: write, probability: 0.5, seed: 7",
        )
    ).faults

    assert found == (
        LostInterrupt(device="disk0", nth=5),
        DelayedInterrupt(device="disk0", delay=2_000_000, at=1_000_000_000, count="all"),
        RegisterFault(device="timer0", name="CTRL", value=0x80, mask=0xF0),
        DiskError(device="timer0", operation="write", probability=0.5, seed=7),
    )


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("", 1),
        (", count: 3", 3),
        (", count: all", None),
        (", probability: 0.5", None),
        (", probability: 0.5, count: 2", 2),
    ],
)
def test_a_fault_happens_once_unless_told_otherwise(load: Load, said: str, limit: object) -> None:
    fault = load(text=text(f"kind: interrupt.lost, device: disk0{said}")).faults[0]

    assert fault.limit == limit


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("device: disk0", f"11:5: faults.0.kind: is missing; valid are {', '.join(FAULTS)}"),
        (
            "kind: interrupt.lots, device: disk0",
            "11:12: faults.0.kind: no fault 'interrupt.lots'; did you mean 'interrupt.lost'?",
        ),
        (
            "kind: 7, device: disk0",
            f"11:12: faults.0.kind: no fault '7'; valid are {', '.join(FAULTS)}",
        ),
        (
            "kind: interrupt.lost, device: disk1",
            "11:36: faults.0.device: no device named 'disk1'; did you mean 'disk0'?",
        ),
        (
            "kind: interrupt.lost",
            "11:5: faults.0.device: is missing (name of the device that it happens to)",
        ),
        (
            "kind: interrupt.lost, device: timer0",
            "11:36: faults.0.device: 'timer0' has no interrupt (irq), "
            "which interrupt.lost is about",
        ),
        (
            "kind: disk.error, device: uart0",
            "11:32: faults.0.device: 'uart0' is no disk, which disk.error is about",
        ),
        (
            "kind: packet.lost, device: uart0",
            "11:33: faults.0.device: 'uart0' is no network interface, which packet.lost is about",
        ),
        (
            "kind: register, device: timer0, name: CTLR, value: 0",
            "11:44: faults.0.name: fake.timer has no register 'CTLR'; did you mean 'CTRL'?",
        ),
        (
            "kind: register, device: timer0, name: 'ALARM[4]', value: 0",
            "11:44: faults.0.name: fake.timer has no register 'ALARM[4]'; did you mean 'ALARM[0]'?",
        ),
        (
            "kind: register, device: timer0, name: KICK, value: 0",
            "11:44: faults.0.name: fake.timer's KICK cannot be read",
        ),
        (
            "kind: register, device: timer0, name: CTRL, value: 0x100",
            "11:57: faults.0.value: must fit CTRL's 8 bits, not 0x100",
        ),
        (
            "kind: interrupt.delayed, device: disk0, delay: soon",
            "11:53: faults.0.delay: 'soon' is not a time such as 100us, 2ms or 5s",
        ),
        (
            "kind: interrupt.lost, device: disk0, nth: 0",
            "11:48: faults.0.nth: must be at least 1, not 0",
        ),
        (
            "kind: interrupt.lost, device: disk0, count: no",
            "11:50: faults.0.count: must be a whole number or 'all', not 'no'",
        ),
        (
            "kind: interrupt.lost, device: disk0, probability: 0",
            "11:56: faults.0.probability: must be more than 0.0, not 0",
        ),
        (
            "kind: interrupt.lost, device: disk0, nht: 1",
            "11:43: faults.0.nht: no such key; did you mean 'nth'?",
        ),
        (
            "kind: interrupt.spurious, device: disk0, nth: 2",
            "11:52: faults.0.nth: needs 'every', as 'at' is one occasion",
        ),
        (
            "kind: interrupt.spurious, device: disk0, every: 5us",
            "11:54: faults.0.every: must be longer than 'width', or the line would never fall",
        ),
    ],
)
def test_what_is_wrong_with_a_fault_is_said_at_its_place(
    problems: Problems, fault: str, problem: str
) -> None:
    assert problems(text=text(fault)) == [f"machine.yaml:{problem}"]


def test_all_faults_are_checked_at_once(problems: Problems) -> None:
    found = problems(text=text("kind: packet.lost, device: disk0", "kind: nothing", "7"))

    assert [each.split(": ")[0] for each in found] == [
        *("machine.yaml:11:33", "machine.yaml:12:12", "machine.yaml:13:5")
    ]


def test_faults_of_a_broken_device_are_not_complained_of(problems: Problems) -> None:
    wrong = text("kind: interrupt.lost, device: disk0").replace("irq: plic.1}", "irq: plic.99}")

    assert len(problems(text=wrong)) == 1


def test_faults_that_are_no_list_are_refused(problems: Problems) -> None:
    found = problems(text=DESCRIPTION + "faults: {kind: packet.lost}\n")

    assert found == ["machine.yaml:9:9: faults: must be a list, not a mapping"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CTRL", ("CTRL", 0)),
        ("ALARM[0]", ("ALARM", 0)),
        ("ALARM[3]", ("ALARM", 3)),
        *((wrong, None) for wrong in ("ALARM", "ALARM[4]", "ALARM[-1]", "ALARM[", "ALARM[1]]")),
        *((wrong, None) for wrong in ("CTRL[0]", "ctrl", "", "[", "ALARM[1][2]", "ALARM[٣]")),
    ],
)
def test_registers_are_named_as_in_the_table(name: str, found: tuple[str, int] | None) -> None:
    register = register_named(Timer, name)

    assert (register and (register[0].name, register[1])) == found

"""Watching a machine: who asked is told, who failed is dropped, and the run stays the same."""

from __future__ import annotations

import pytest

from hypervisor.events import Events, FirmwareCall, InterruptChange, MmioAccess, Reset
from hypervisor.machine import Machine

HELLO = "configs/riscv64-hello.yaml"


@pytest.fixture
def events():
    reports = []
    hub = Events(reports.append)
    hub.reports = reports
    return hub


def test_only_the_kind_asked_for_arrives(events):
    seen = []
    events.subscribe(Reset, seen.append)

    events.publish(Reset(5))
    events.publish(FirmwareCall(6, 0, "sbi", "time", 2))

    assert seen == [Reset(5)]


def test_filter_decides(events):
    seen = []
    events.subscribe(FirmwareCall, seen.append, lambda event: event.hart == 1)

    events.publish(FirmwareCall(1, 0, "psci", "cpu_on", 3))
    events.publish(FirmwareCall(1, 1, "psci", "cpu_on", 3))

    assert [event.hart for event in seen] == [1]


def test_cancelled_subscription_is_told_nothing(events):
    seen = []
    subscription = events.subscribe(Reset, seen.append)
    subscription.cancel()
    events.publish(Reset(1))

    assert seen == []
    assert not events.wants(Reset)


def test_failing_watcher_is_dropped_and_reported_and_others_go_on(events):
    seen = []
    events.subscribe(Reset, lambda event: 1 / 0)
    events.subscribe(Reset, seen.append)

    events.publish(Reset(1))
    events.publish(Reset(2))

    assert len(seen) == 2
    assert len(events.reports) == 1
    assert "division by zero" in events.reports[0]


def run_hello(watch):
    with Machine.load(HELLO) as machine:
        seen = []
        if watch:
            machine.events.subscribe(MmioAccess, seen.append)
            machine.events.subscribe(InterruptChange, seen.append)
        machine.console.expect("> ")
        machine.console.send("primes 100\n")
        machine.console.expect("> ")
        return seen, machine.stats(), machine.state_sha256()


def test_watching_a_machine_names_registers_and_changes_nothing():
    plain = run_hello(watch=False)
    watched = run_hello(watch=True)

    assert watched[1:] == plain[1:]
    assert any(str(event).startswith("mmio uart0.THR <- ") for event in watched[0])
    assert len(watched[0]) > 100

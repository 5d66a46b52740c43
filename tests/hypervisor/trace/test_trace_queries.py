"""Traces compared with each other, and asked in SQL."""

from dataclasses import replace

import pytest

from hypervisor.events import InterruptAcknowledge
from hypervisor.trace.database import database, tables_of
from hypervisor.trace.diff import first_difference


def test_equal_traces_have_no_difference(events):
    assert first_difference(events, list(events)) is None


def test_first_difference_is_found_with_what_came_before(events):
    other = list(events)
    other[4] = replace(events[4], address=0x9000_0000)
    other[6] = replace(events[6], level=False)

    found = first_difference(events, other)

    assert (found.index, found.first, found.second) == (4, events[4], other[4])
    assert found.before == events[1:4]


def test_shorter_trace_differs_at_its_end(events):
    found = first_difference(events, events[:3])

    assert (found.index, found.first, found.second) == (3, events[3], None)


def test_times_can_be_ignored(events):
    later = [replace(event, time=event.time + 5) for event in events]

    assert first_difference(events, later).index == 0
    assert first_difference(events, later, times=False) is None


def test_every_kind_is_a_table(events):
    tables = dict(tables_of(database(events)))

    assert tables["mmio"] == "n, time, device, register, offset, size, value, is_write, hart"
    assert tables["test_blink"] == "n, time, device, count"
    assert "latency" in tables


def test_worst_latency_of_each_line_is_found(events):
    acks = [
        InterruptAcknowledge(100 + latency, "plic", number, 0, line, latency)
        for line, number, latency in (("uart0", 10, 40), ("uart0", 10, 90), ("disk0", 1, 5))
    ]

    rows = database([*events, *acks]).execute("SELECT line, count, worst FROM latency").fetchall()

    assert rows == [("uart0", 2, 90), ("disk0", 2, 9)]


def test_values_of_64_bits_are_kept(events):
    rows = database(events).execute("SELECT value FROM trap").fetchall()

    assert rows == [("0xfffffffffffffff8",)]


@pytest.mark.parametrize("subject", ["uart0.LSR", "disk0.requestq", "hart0"])
def test_events_of_all_kinds_are_in_one_table(events, subject):
    rows = database(events).execute("SELECT text FROM events WHERE subject = ?", (subject,))

    assert rows.fetchall()

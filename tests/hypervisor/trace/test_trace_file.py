"""Trace files: what goes in comes out, and what is no trace is refused."""

import random

import pytest

from hypervisor.device import BackendError
from hypervisor.events import KINDS, MmioAccess
from hypervisor.trace import TraceError, TraceReader, TraceWriter
from hypervisor.trace.file import MAGIC, StoredEvent


def write(path, events):
    writer = TraceWriter(path, {"machine": "board"})
    for event in events:
        writer.write(event)
    writer.close()
    return path


@pytest.fixture
def trace(tmp_path, events):
    return write(tmp_path / "a.hvt", events)


def test_events_come_back_as_they_were(trace, events):
    with TraceReader(trace) as reader:
        found = list(reader)

    assert found == events
    assert [str(event) for event in found] == [str(event) for event in events]
    assert reader.about == {"machine": "board"}


def test_register_fields_are_decoded_from_the_file(trace):
    with TraceReader(trace) as reader:
        access = next(event for event in reader if isinstance(event, MmioAccess))

    assert access.decoded == "DR MODE=0x3"


def test_unknown_kind_is_kept(trace, events, tmp_path, monkeypatch):
    monkeypatch.delitem(KINDS, "test-blink")
    with TraceReader(trace) as reader:
        last = list(reader)[-1]

    again = write(tmp_path / "b.hvt", [last, last])

    with TraceReader(again) as reader:
        assert list(reader) == [last, last]
    assert isinstance(last, StoredEvent)
    assert (last.subject, str(last)) == ("blinker0", "test-blink device=blinker0 count=7")


def test_many_events_are_compact(tmp_path, events):
    trace = write(tmp_path / "many.hvt", events[1:2] * 20_000)

    with TraceReader(trace) as reader:
        assert sum(1 for _ in reader) == 20_000
    assert trace.stat().st_size < 20_000


def test_truncated_trace_gives_what_is_whole_and_says_so(tmp_path, events):
    trace = write(tmp_path / "many.hvt", events * 1000)
    trace.write_bytes(trace.read_bytes()[:-20])
    seen = []

    with (
        TraceReader(trace) as reader,
        pytest.raises(TraceError, match=r"ends too early, after \d+ events that are whole"),
    ):
        seen.extend(reader)

    assert len(seen) == 0 or seen[0] == events[0]


def test_trace_of_a_killed_run_ends_too_early(tmp_path, events):
    writer = TraceWriter(tmp_path / "a.hvt", {})
    writer.write(events[0])
    writer.flush()
    seen = []

    with TraceReader(tmp_path / "a.hvt") as reader, pytest.raises(TraceError, match="too early"):
        seen.extend(reader)

    assert seen == events[:1]
    writer.close()


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", MAGIC[:5], MAGIC[:7] + b"\x63"])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)

    with pytest.raises(TraceError, match="is not a trace of this program's"):
        TraceReader(path)


def test_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        TraceReader(tmp_path / "nothing")


def test_place_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(BackendError, match="cannot be written: No such file"):
        TraceWriter(tmp_path / "no" / "a.hvt", {})


def test_random_damage_is_an_error_or_nothing(trace, tmp_path):
    """Fuzz: whatever is wrong with a file, reading it ends in events or in TraceError."""
    whole = trace.read_bytes()
    noise = random.Random(1)
    damaged = tmp_path / "damaged.hvt"
    ended = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(noise.randrange(1, 4)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        damaged.write_bytes(data[: noise.randrange(1, len(data) + 1)])
        try:
            with TraceReader(damaged) as reader:
                list(reader)
        except TraceError:
            ended += 1

    assert ended > 250

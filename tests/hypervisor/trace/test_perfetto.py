"""Perfetto traces, read with the perfetto package's own classes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from hypervisor.trace.perfetto import PerfettoWriter


@dataclass
class Parsed:
    """Tracks by path, and what is on them: (type, time, name)."""

    tracks: dict[str, list] = field(default_factory=lambda: defaultdict(list))
    flows: dict[int, list] = field(default_factory=lambda: defaultdict(list))


def parse(path):
    trace = Trace.FromString(path.read_bytes())
    names, parents, parsed = {}, {}, Parsed()
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            parent = names.get(track.parent_uuid, "")
            names[track.uuid] = f"{parent}/{track.name}" if parent else track.name
            parents[track.uuid] = track.parent_uuid
        else:
            event = packet.track_event
            where = names[event.track_uuid]
            parsed.tracks[where].append((event.type, packet.timestamp, event.name))
            for flow in event.flow_ids:
                parsed.flows[flow].append(("begins", where, packet.timestamp))
            for flow in event.terminating_flow_ids:
                parsed.flows[flow].append(("ends", where, packet.timestamp))
    return parsed


BEGIN, END, INSTANT = (
    TrackEvent.TYPE_SLICE_BEGIN,
    TrackEvent.TYPE_SLICE_END,
    TrackEvent.TYPE_INSTANT,
)


@pytest.fixture
def parsed(tmp_path, events):
    writer = PerfettoWriter(tmp_path / "a.pftrace", {"machine": "board"})
    for event in events:
        writer.write(event)
    writer.close()
    return parse(tmp_path / "a.pftrace")


def test_every_hart_device_line_and_queue_has_a_track(parsed):
    assert set(parsed.tracks) == {
        "Machine/board",
        "Devices/uart0",
        "Devices/disk0",
        "Devices/blinker0",
        "Interrupt lines/disk0 (plic.1)",
        "Harts/hart 0",
        "Harts/hart 1",
        "Virtqueues/disk0.requestq/#0",
        "Virtqueues/disk0.requestq/#1",
        "GPU queues/gpu0.3d/#0",
        "Timers/timers",
    }


def test_line_is_a_slice_from_raise_to_lower(parsed):
    line = parsed.tracks["Interrupt lines/disk0 (plic.1)"]

    assert line == [(BEGIN, 41, "raised"), (END, 55, "")]


def test_interrupt_is_a_slice_from_the_handlers_start_to_its_end(parsed):
    slices = [event for event in parsed.tracks["Harts/hart 0"] if event[0] != INSTANT]

    assert slices == [(BEGIN, 45, "disk0 (plic.1)"), (END, 60, "")]


def test_flow_leads_from_the_raise_to_the_hart(parsed):
    assert list(parsed.flows.values()) == [
        [("begins", "Interrupt lines/disk0 (plic.1)", 41), ("ends", "Harts/hart 0", 45)]
    ]


def test_requests_in_flight_at_a_time_have_tracks_of_their_own(parsed):
    first = parsed.tracks["Virtqueues/disk0.requestq/#0"]
    second = parsed.tracks["Virtqueues/disk0.requestq/#1"]

    assert first == [(BEGIN, 20, "request 3"), (END, 40, "")]
    assert second == [(BEGIN, 25, "request 4"), (END, 65, "")]


def test_register_accesses_are_named_on_their_devices_track(parsed):
    assert parsed.tracks["Devices/uart0"] == [(INSTANT, 10, "LSR -> 0x61")]


def test_gpu_command_is_a_slice(parsed):
    assert parsed.tracks["GPU queues/gpu0.3d/#0"] == [(BEGIN, 95, "launch"), (END, 99, "")]


def test_what_is_open_at_the_end_is_closed(tmp_path, events):
    writer = PerfettoWriter(tmp_path / "b.pftrace", {})
    for event in events[:9]:
        writer.write(event)
    writer.close()

    tracks = parse(tmp_path / "b.pftrace").tracks

    assert tracks["Harts/hart 0"][-1] == (END, 50, "")
    assert tracks["Interrupt lines/disk0 (plic.1)"][-1] == (END, 50, "")

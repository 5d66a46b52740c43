"""Recorded frames, read with a parser of our own."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.net import Hubs, NetOptions, NoLink, PcapLink, open_net
from hypervisor.device import BackendError

FRAME = bytes(range(60))


def records(path):
    """The file header's fields, and (ns, frame) of each record."""
    data = path.read_bytes()
    header = struct.unpack_from("<IHHiIII", data)
    found, at = [], 24
    while at < len(data):
        seconds, rest, kept, length = struct.unpack_from("<IIII", data, at)
        assert kept == length
        found.append((seconds * 1_000_000_000 + rest, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return header, found


def recorded_pair(path, clock):
    hubs = Hubs()
    options = NetOptions(backend="hub")
    recorded = open_net(options.model_copy(update={"pcap": str(path)}), clock, hubs=hubs)
    return recorded, open_net(options, clock, hubs=hubs)


def test_both_directions_are_recorded_in_virtual_time(bench, tmp_path):
    now = [0]
    recorded, other = map(bench, recorded_pair(tmp_path / "x.pcap", lambda: now[0]))

    now[0] = 5
    recorded.link.send(FRAME)
    now[0] = 3_000_000_007
    other.link.send(FRAME[::-1])
    now[0] = 4_000_000_000
    recorded.pump()

    header, frames = records(tmp_path / "x.pcap")
    assert header == (0xA1B23C4D, 2, 4, 0, 0, 65550, 1)
    assert frames == [(5, FRAME), (4_000_000_000, FRAME[::-1])]
    assert recorded.received == [FRAME[::-1]]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 60), st.binary(min_size=14, max_size=99))))
def test_file_has_every_frame_with_its_time(tmp_path_factory, sent):
    path = tmp_path_factory.mktemp("pcap") / "x.pcap"
    times = iter([time % (1 << 32) * 1_000_000_000 + time % 1_000_000_000 for time, _ in sent])
    link = PcapLink(NoLink(), str(path), lambda: next(times))
    link.open(lambda work: None, lambda frame: None)

    for _, frame in sent:
        link.send(frame)
    link.close()

    assert [frame for _, frame in records(path)[1]] == [frame for _, frame in sent]
    assert [time % 1_000_000_000 for time, _ in records(path)[1]] == [
        time % 1_000_000_000 for time, _ in sent
    ]


def test_frames_are_in_the_file_before_the_link_closes(bench, tmp_path):
    link = bench(PcapLink(NoLink(), str(tmp_path / "x.pcap"), lambda: 1)).link

    link.send(FRAME)

    assert records(tmp_path / "x.pcap")[1] == [(1, FRAME)]


def test_file_that_cannot_be_made_is_refused(bench, tmp_path):
    with pytest.raises(BackendError, match=r"no/x\.pcap: cannot write frames there: No such file"):
        bench(PcapLink(NoLink(), str(tmp_path / "no" / "x.pcap"), lambda: 0))


def test_full_file_system_ends_the_recording_only(bench, caplog):
    recorded, other = map(bench, recorded_pair("/dev/full", lambda: 0))

    recorded.link.send(FRAME)
    recorded.link.send(FRAME)
    other.wait(lambda: len(other.received) == 2)

    assert [r.getMessage() for r in caplog.records] == [
        "/dev/full: recording of frames ends: No space left on device"
    ]


def test_link_that_does_not_open_leaves_no_open_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    link = open_net(NetOptions(backend="passt", pcap=str(tmp_path / "x.pcap")), lambda: 0)
    before = set(os.listdir("/proc/self/fd"))

    with pytest.raises(BackendError):
        link.open(lambda work: None, lambda frame: None)

    assert set(os.listdir("/proc/self/fd")) == before


def test_recorded_link_is_live_as_the_one_inside(tmp_path):
    recorded, inner = recorded_pair(tmp_path / "x.pcap", lambda: 0)

    assert (recorded.live, recorded.stats.tx_frames, recorded.problem) == (True, 0, None)
    assert PcapLink(NoLink(), "x", lambda: 0).live is False
    assert inner.live is True

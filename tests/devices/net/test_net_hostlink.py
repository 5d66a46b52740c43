"""The thread between a machine and the host, over a socket of the test's own."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from devices.net.frames import Decoder, encode
from devices.net.hostlink import HostLink, WireGone
from devices.net.link import Inbox, NetStats


class PairWire:
    """One end of a socket pair; `peer` is the other."""

    name = "pair"
    max_frame = 2000

    def __init__(self):
        self._socket, self.peer = socket.socketpair()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self._socket.setblocking(False)
        self.peer.settimeout(10)
        self._decoder = Decoder()
        self.closed = 0

    @property
    def invalid(self):
        return self._decoder.invalid

    def fileno(self):
        return self._socket.fileno()

    def read(self):
        data = self._socket.recv(65536)
        if not data:
            raise WireGone("the pair is gone")
        return self._decoder.feed(data)

    def encode(self, frame):
        return encode(frame)

    def write(self, data):
        return self._socket.send(data)

    def close(self):
        self.closed += 1
        self._socket.close()


@pytest.fixture
def wire():
    wire = PairWire()
    yield wire
    wire.peer.close()


def numbered(count, length=500):
    return [number.to_bytes(4, "big") * (length // 4) for number in range(count)]


def read_frames(peer, count):
    decoder, frames = Decoder(), []
    while len(frames) < count:
        frames += decoder.feed(peer.recv(777))
    return frames


def test_frames_sent_into_a_full_socket_arrive_whole_and_in_order(bench, wire):
    link = bench(HostLink(lambda: wire)).link

    for frame in numbered(1000):
        link.send(frame)
    arrived = read_frames(wire.peer, 1000)

    assert arrived == numbered(1000)
    assert (link.stats.tx_frames, link.stats.tx_dropped) == (1000, 0)


def test_backlog_is_bounded_and_what_was_taken_arrives(bench, wire):
    link = bench(HostLink(lambda: wire)).link

    for frame in numbered(5000):
        link.send(frame)
    taken = link.stats.tx_frames
    arrived = read_frames(wire.peer, taken)

    assert link.stats.tx_dropped == 5000 - taken > 0
    assert arrived == numbered(5000)[:taken]


def test_host_that_sends_too_fast_is_held_back_and_nothing_is_lost(bench, wire):
    bench = bench(HostLink(lambda: wire))
    stream = b"".join(map(encode, numbered(20_000)))
    sender = threading.Thread(target=wire.peer.sendall, args=(stream,), daemon=True)

    sender.start()
    time.sleep(0.2)
    blocked = sender.is_alive()
    bench.wait(lambda: len(bench.received) == 20_000)
    sender.join(10)

    assert blocked
    assert bench.received == numbered(20_000)
    assert bench.link.stats.rx_dropped == 0


def test_who_was_held_back_while_frames_were_taken_is_told_of_room():
    posted, held, told = [], [], []
    more = [[b"later"] * 2500]

    def receive(_):
        if more:  # the wire's thread reads on while the machine's takes the first frame
            inbox.put(more.pop())
            held.append(inbox.holds_back())

    inbox = Inbox(posted.append, receive, NetStats(), drained=lambda: told.append(len(posted)))
    inbox.put([b"first"] * 1000)

    while posted:
        posted.pop()()

    assert held == [True]
    assert told == [0]
    assert not inbox.holds_back()


def test_end_of_the_wire_is_seen_while_the_machine_does_not_run(bench, wire):
    bench = bench(HostLink(lambda: wire))
    wire.peer.setblocking(False)
    stream = memoryview(b"".join(map(encode, numbered(2000))))
    time.sleep(0.05)

    wire.peer.send(stream)
    wire.peer.close()
    deadline = time.monotonic() + 10
    while bench.link.problem is None and time.monotonic() < deadline:
        time.sleep(0.01)

    assert bench.link.problem == "the pair is gone; the machine goes on without this link"


def test_wrong_frames_of_the_host_are_counted(bench, wire):
    bench = bench(HostLink(lambda: wire))

    wire.peer.sendall((13).to_bytes(4, "big") + bytes(13) + encode(bytes(14)))
    bench.wait(lambda: bench.received)

    assert bench.received == [bytes(14)]
    assert bench.link.stats.rx_invalid == 1


def test_close_with_a_full_backlog_is_prompt_and_happens_once(bench, wire):
    link = bench(HostLink(lambda: wire)).link
    for frame in numbered(1000):
        link.send(frame)
    before = threading.active_count()

    link.close()
    link.close()
    link.send(bytes(60))

    assert wire.closed == 1
    assert threading.active_count() == before - 1
    assert link.stats.tx_dropped == 1


def test_link_that_was_never_opened_drops_and_closes():
    link = HostLink(PairWire)

    link.send(bytes(60))
    link.close()

    assert link.stats.tx_dropped == 1


def test_opening_twice_is_a_mistake_of_the_caller(bench, wire):
    link = bench(HostLink(lambda: wire)).link

    with pytest.raises(RuntimeError, match="open already"):
        link.open(lambda work: None, lambda frame: None)

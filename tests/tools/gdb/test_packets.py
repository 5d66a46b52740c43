"""Framing of GDB's packets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import effort
from tools.gdb.packets import PACKET_SIZE, Decoder, Signal, encode, escape, unescape


def take(data):
    return list(Decoder().feed(data))


@given(st.binary(max_size=300))
def test_any_contents_come_back(contents):
    assert take(encode(contents)) == [contents]


@given(st.binary(max_size=100))
def test_escaped_bytes_contain_no_frame(contents):
    assert not set(escape(contents)) & set(b"$#*")
    assert unescape(escape(contents)) == contents


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 7))
def test_packets_arrive_in_pieces(packets, size):
    decoder = Decoder()
    stream = b"".join(map(encode, packets))

    found = [
        item for at in range(0, len(stream), size) for item in decoder.feed(stream[at:][:size])
    ]

    assert found == packets


@settings(max_examples=effort(60, 100_000))
@given(st.binary(max_size=2000))
def test_random_bytes_leave_a_decoder_that_works(noise):
    decoder = Decoder()
    list(decoder.feed(noise))

    assert list(decoder.feed(b"#00" + encode(b"g")))[-1] == b"g"


def test_wrong_checksum_is_damaged():
    assert take(b"$g#00") == [Signal.DAMAGED]
    assert take(b"$g#zz") == [Signal.DAMAGED]


def test_too_long_a_packet_is_damaged_and_bounded():
    decoder = Decoder()
    body = b"a" * (4 * PACKET_SIZE)

    assert list(decoder.feed(b"$" + body)) == []
    assert list(decoder.feed(b"#%02x" % (sum(body) & 0xFF))) == [Signal.DAMAGED]
    assert list(decoder.feed(encode(b"?"))) == [b"?"]


def test_packet_cut_short_gives_way_to_the_next():
    assert take(b"$m1234" + encode(b"?")) == [b"?"]


def test_signals_between_packets():
    assert take(b"+-\x03") == [Signal.ACK, Signal.NAK, Signal.INTERRUPT]

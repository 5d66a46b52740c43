"""Frames over a stream, and the bounded queue."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.net.frames import MAX_FRAME, Decoder, FrameQueue, encode, is_frame
from tests.effort import effort

FRAMES = st.lists(st.binary(min_size=14, max_size=200), max_size=8)


def pieces(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@settings(deadline=None)
@given(FRAMES, st.lists(st.integers(0, 2000), max_size=20))
def test_stream_cut_anywhere_gives_the_same_frames(frames, cuts):
    stream = b"".join(map(encode, frames))
    decoder = Decoder()

    found = [frame for piece in pieces(stream, cuts) for frame in decoder.feed(piece)]

    assert found == frames
    assert decoder.invalid == 0


@settings(deadline=None)
@given(
    FRAMES,
    st.one_of(st.integers(0, 13), st.integers(MAX_FRAME + 1, MAX_FRAME + 500)),
    FRAMES,
    st.lists(st.integers(0, 70_000), max_size=20),
)
def test_frame_of_wrong_length_is_passed_over(before, length, after, cuts):
    bad = length.to_bytes(4, "big") + bytes(length)
    stream = b"".join([*map(encode, before), bad, *map(encode, after)])
    decoder = Decoder()

    found = [frame for piece in pieces(stream, cuts) for frame in decoder.feed(piece)]

    assert found == before + after
    assert decoder.invalid == 1


@settings(max_examples=effort(60, 50_000))
@given(st.lists(st.binary(max_size=3000), max_size=50))
def test_any_bytes_give_frames_only_and_bounded_memory(chunks):
    decoder = Decoder()

    found = [frame for chunk in chunks for frame in decoder.feed(chunk)]

    assert all(is_frame(frame) for frame in found)
    assert len(decoder._pending) <= MAX_FRAME + 4


def test_huge_length_collects_nothing():
    decoder = Decoder()

    decoder.feed(b"\xff\xff\xff\xff")
    for _ in range(100):
        decoder.feed(bytes(65536))

    assert len(decoder._pending) == 0


def test_queue_is_bounded_by_frames():
    queue = FrameQueue(frames=2, size=1000)

    taken = [queue.push(b"x") for _ in range(3)]

    assert taken == [True, True, False]


def test_queue_is_bounded_by_bytes():
    queue = FrameQueue(frames=10, size=100)

    taken = [queue.push(bytes(60)), queue.push(bytes(60)), queue.push(bytes(40))]

    assert taken == [True, False, True]


@pytest.mark.parametrize(("frames", "size", "half"), [(20, 1 << 20, 10), (4096, 2000, 10)])
def test_queue_is_half_full_by_frames_or_by_bytes(frames, size, half):
    queue = FrameQueue(frames, size)

    states = []
    for _ in range(half + 1):
        states.append(queue.is_half_full)
        queue.push(bytes(100))

    assert states == [*[False] * half, True]


def test_queue_has_its_room_back_when_emptied_in_parts():
    queue = FrameQueue(frames=2, size=100)
    queue.push(bytes(range(100)))

    queue.take(30)
    rest = bytes(queue.head())
    queue.pop()

    assert rest == bytes(range(30, 100))
    assert queue.push(bytes(100))


@pytest.mark.parametrize(
    ("length", "valid"), [(13, False), (14, True), (65550, True), (65551, False)]
)
def test_lengths_of_frames(length, valid):
    assert is_frame(bytes(length)) is valid

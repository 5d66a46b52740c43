"""JSON out of a stream: whatever comes, in whatever pieces."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import effort
from tools.monitor.json_stream import LARGEST, Garbage, JsonStream

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(objects=st.lists(st.dictionaries(st.text(), values), max_size=5), size=st.integers(1, 20))
def test_objects_come_out_however_they_are_cut(objects, size):
    stream = JsonStream()
    data = b"\n".join(json.dumps(each).encode() for each in objects)

    found = [each for at in range(0, len(data), size) for each in stream.feed(data[at : at + size])]

    assert found == objects


@settings(max_examples=effort(60, 100_000))
@given(noise=st.binary(max_size=200))
def test_random_bytes_are_garbage_and_a_reset_recovers(noise):
    stream = JsonStream()
    list(stream.feed(noise))

    found = list(stream.feed(b'\xff{"execute": "stop"}'))

    assert found == [{"execute": "stop"}]


@pytest.mark.parametrize(
    "data", [b"stop\n", b"[1]\n", b'{"a": }', b'{"a": 1, "a"}', b"{" * 3000 + b"}" * 3000]
)
def test_what_is_no_object_is_garbage_once(data):
    stream = JsonStream()

    found = list(stream.feed(data))

    assert [type(each) for each in found] == [Garbage]
    assert list(stream.feed(b"{}")) == [{}]


def test_endless_object_is_cut_off():
    stream = JsonStream()

    found = list(stream.feed(b'{"a": "' + b"x" * LARGEST))

    assert len(found) == 1
    assert "more than" in found[0].reason
    assert list(stream.feed(b'"}\n{}')) == [{}]

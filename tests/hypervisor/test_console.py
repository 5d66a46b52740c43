"""The console matches what the guest prints, and types, in the order of its script."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor import console as module
from hypervisor.console import Console, NullChannel, Step


@pytest.fixture
def stops():
    return []


@pytest.fixture
def console(stops):
    return Console(lambda: stops.append(1))


def until(text):
    return Step("until", text)


def send(text):
    return Step("send", text)


def test_output_is_kept_and_digested(console):
    console.write(b"one ")
    console.write(b"two")

    assert console.text == "one two"
    assert console.written == 7
    assert console.sha256 == hashlib.sha256(b"one two").hexdigest()


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=40), st.data())
def test_text_is_found_however_its_writes_are_cut(text, before, data):
    console = Console(lambda: None)
    console.script([until(text)])
    whole = before + text
    first = whole.find(text) + len(text)

    position = 0
    while position < first:
        assert not console.run_script()
        size = data.draw(st.integers(1, first - position))
        console.write(whole[position : position + size])
        position += size

    assert console.run_script()
    assert console.script_pending is None


def test_stop_is_asked_for_when_the_awaited_text_is_complete(console, stops):
    console.script([until(b"login:")])

    console.write(b"log")
    console.write(b"in")
    assert stops == []
    console.write(b":")

    assert stops == [1]


def test_second_until_does_not_match_what_the_first_consumed(console):
    console.script([until(b"# "), until(b"# ")])

    console.write(b"one # two")
    assert not console.run_script()
    console.write(b" # ")

    assert console.run_script()


def test_overlapping_texts_are_matched_once_each(console):
    console.script([until(b"aba"), until(b"aba")])

    console.write(b"ababa")
    assert not console.run_script()
    console.write(b"ba")

    assert console.run_script()


def test_second_text_already_printed_after_the_first_is_found_at_once(console):
    console.script([until(b"a"), until(b"b")])

    console.write(b"a b")

    assert console.run_script()


def test_empty_text_is_met_at_once(console):
    console.script([until(b"")])

    assert console.run_script()


def test_sends_are_typed_after_what_they_wait_for(console):
    console.script([send(b"x"), until(b"? "), send(b"yes\n")])

    assert not console.run_script()
    assert console.read(10) == b"x"
    console.write(b"sure? ")
    ended = console.run_script()

    assert console.read(10) == b"yes\n"
    assert not ended
    assert console.script_pending is None


def test_script_that_is_done_ends_nothing_again(console):
    console.script([until(b"a")])
    console.write(b"a")

    assert console.run_script()
    assert not console.run_script()


def test_dropped_script_waits_for_nothing(console):
    console.script([until(b"a"), send(b"b")])
    console.drop_script()
    console.write(b"a")

    assert not console.run_script()
    assert console.read(1) == b""


def test_withdrawn_step_is_not_waited_for_and_its_equal_is(console):
    step = until(b"a")
    console.script([step, until(b"a")])

    console.withdraw(step)
    console.write(b"a")

    assert console.run_script()
    assert console.script_pending is None


def test_input_is_read_in_pieces_and_announced(console):
    calls = []
    console.on_readable(lambda: calls.append(console.read(2)))

    console.send("h\N{SNOWMAN}")

    assert calls == [b"h\xe2"]
    assert console.read(100) == b"\x98\x83"


def test_character_split_over_writes_is_one_character(console):
    for byte in "\N{SNOWMAN}".encode():
        console.write(bytes([byte]))

    assert console.text == "\N{SNOWMAN}"


def test_bytes_that_are_no_text_are_shown_as_replaced(console):
    console.write(b"\xff\xfeok")

    assert console.text == "\N{REPLACEMENT CHARACTER}" * 2 + "ok"


def test_sinks_see_each_write(console):
    seen = []
    console.sinks.append(seen.append)

    console.write(b"a")
    console.write(b"bc")

    assert seen == [b"a", b"bc"]


def test_watched_text_is_reported_once_however_it_is_cut(console):
    found = []
    console.watch(b"panic", lambda: found.append(1))

    for byte in b"a panic! and pan":
        console.write(bytes([byte]))

    assert found == [1]


def test_kept_output_is_bounded_and_the_digest_is_of_all(console, monkeypatch):
    monkeypatch.setattr(module, "KEPT_OUTPUT", 100)
    digest = hashlib.sha256()

    for number in range(50):
        line = b"line %d\n" % number
        digest.update(line)
        console.write(line)

    assert len(console.output) == 100
    assert console.output.endswith(b"line 49\n")
    assert console.sha256 == digest.hexdigest()
    assert console.written == 10 * 7 + 40 * 8


def test_text_is_found_after_older_output_was_dropped(console, monkeypatch):
    monkeypatch.setattr(module, "KEPT_OUTPUT", 100)
    console.script([until(b"start"), until(b"# ")])
    console.write(b"start")
    console.run_script()

    console.write(b"x" * 250 + b"#")
    assert not console.run_script()
    console.write(b" ")

    assert console.run_script()


def test_what_was_consumed_is_told_although_older_output_was_dropped(console, monkeypatch):
    monkeypatch.setattr(module, "KEPT_OUTPUT", 100)
    console.script([until(b"start"), until(b"end")])
    console.write(b"start")
    console.run_script()
    before = console.consumed

    console.write(b"x" * 70)
    console.write(b"y" * 60 + b"end, and more")
    console.run_script()

    assert before == 5
    assert console.consumed == 5 + 70 + 60 + 3
    assert console.consumed_since(before) == b"x" * 27 + b"y" * 60 + b"end"


class CountedSearches(bytearray):
    """Bytes that know how many of them were searched."""

    searched = 0

    def find(self, text, start=0):
        self.searched += max(0, len(self) - start)
        return super().find(text, start)


def test_output_is_searched_once_for_a_text(console):
    console.output = CountedSearches()
    console.script([until(b"never")])

    console.write(b"." * 10_000)
    for _ in range(1000):
        console.write(b".")
        console.run_script()

    assert console.output.searched < 10_000 + 2 * 1000 * len(b"never")


def test_saved_console_goes_on_in_another(console, stops):
    console.send(b"typed")
    console.script([until(b"a")])
    console.write(b"a and")
    console.run_script()
    other = Console(lambda: None)
    other.script([until(b"old")])

    other.load(console.save())

    assert other.script_pending is None
    other.script([until(b"a")])
    assert other.run_script()  # the a of "and", not the consumed one
    assert other.read(10) == b"typed"
    assert (other.written, other.sha256) == (console.written, console.sha256)


def test_null_channel_takes_everything_and_gives_nothing():
    channel = NullChannel()

    channel.write(b"lost")
    channel.on_readable(lambda: None)

    assert channel.read(5) == b""

"""A moment of asking again, and when it is left out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from gpu.worker import spin
from gpu.worker.spin import Spin


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return float(self.looks)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(spin, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(spin, "_HAS_PROCESSORS", True)
    return clock


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_what_is_there_is_found_at_once(clock, ends):
    here, there = ends
    there.send(b"x")

    assert Spin(here.fileno(), 10).wait()
    assert clock.looks == 1


def test_a_moment_ends_where_nothing_comes(clock, ends):
    assert not Spin(ends[0].fileno(), 10).wait()
    assert clock.looks == 11


def test_moments_for_nothing_become_rare(clock, ends):
    moments = Spin(ends[0].fileno(), 10)

    for _ in range(1000):
        moments.wait()

    assert clock.looks == 11 * 20


def test_after_one_that_was_not_for_nothing_they_are_as_before(clock, ends):
    here, there = ends
    moments = Spin(here.fileno(), 10)
    for _ in range(1000):
        moments.wait()
    there.send(b"x")
    while not clock.looks % 11:
        assert moments.wait()
    here.recv(1)
    before = clock.looks

    moments.wait()
    moments.wait()

    assert clock.looks == before + 22


def test_a_host_of_one_processor_has_none(clock, ends, monkeypatch):
    monkeypatch.setattr(spin, "_HAS_PROCESSORS", False)

    assert not Spin(ends[0].fileno(), 10).wait()
    assert clock.looks == 2

"""What a user does before a machine reaches its devices, by a way that can be recorded."""

import pytest

from hypervisor.device import Seat


@pytest.fixture
def heard():
    return []


@pytest.fixture
def seat(heard):
    seat = Seat()
    seat.keyboards.append(lambda *key: heard.append(("key", *key)))
    seat.pointers.append(lambda *place: heard.append(("point", *place)))
    seat.screens.append(lambda *size: heard.append(("resize", *size)))
    return seat


def act(seat):
    seat.key(30, True)
    seat.key(30, False)
    seat.point(0x7FFF, 0, 0b10101)
    seat.resize(640, 480)


DONE = [
    ("key", 30, True),
    ("key", 30, False),
    ("point", 0x7FFF, 0, 0b10101),
    ("resize", 640, 480),
]


def test_devices_hear_what_the_user_does(seat, heard):
    act(seat)

    assert heard == DONE


def test_what_was_recorded_on_the_way_in_does_the_same(seat, heard):
    recorded = []
    seat.enter = recorded.append
    act(seat)
    before = list(heard)

    for data in recorded:
        seat.take(data)

    assert (before, heard) == ([], DONE)

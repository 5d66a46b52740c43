"""The VNC server against RFC 6143, by a client of the tests' own."""

import struct

import numpy as np
import pytest
from Cryptodome.Cipher import DES

from gpu.display.scanout import Rect

RAW, ZLIB, ZRLE = 0, 6, 16
DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE = -223, -308


def scaled(pixels, form):
    """The picture's colors in a pixel format, rounded to the nearest."""
    red, green, blue = form[4:7]
    largest = np.array([blue, green, red, 0], np.uint32)
    return (pixels * largest + 127) // 255


def encrypted(password, challenge):
    """A challenge as RFC 6143 has it: each byte of the key mirrored."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.ljust(8, b"\0"))
    return DES.new(key, DES.MODE_ECB).encrypt(challenge)


# -- greeting -------------------------------------------------------------------------------------


def test_client_is_told_of_the_picture(server, connect):
    client = connect(server)

    assert client.greeting == b"RFB 003.008\n"
    assert (client.size, client.name) == ((150, 70), b"gpu0")
    assert client.format == (32, 24, 0, 1, 255, 255, 255, 16, 8, 0)


def test_client_of_version_3_7_gets_no_security_result(server, greet):
    client = greet(server, b"RFB 003.007\n")

    assert client.choose() == b"\x01"
    client.begin()
    assert client.size == (150, 70)


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.005\n"])
def test_client_of_version_3_3_is_told_the_security_type(server, greet, version):
    client = greet(server, version)

    assert client.unpack(">I") == (1,)
    client.begin()
    assert client.size == (150, 70)


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n"])
def test_password_lets_in_who_knows_it(serve, greet, version):
    client = greet(serve("secret"), version)
    if version == b"RFB 003.003\n":
        assert client.unpack(">I") == (2,)
    else:
        assert client.choose(2) == b"\x02"

    client.send(encrypted(b"secret", client.take(16)))

    assert client.unpack(">I") == (0,)
    client.begin()
    assert client.size == (150, 70)


def test_wrong_password_is_refused_with_a_reason(serve, greet):
    client = greet(serve("secret"))
    client.choose(2)

    client.send(encrypted(b"Secret", client.take(16)))

    assert client.unpack(">I") == (1,)
    assert client.take(client.unpack(">I")[0]) == b"the password is wrong"
    assert client.is_cut_off()


def test_challenges_differ(serve, greet):
    server = serve("secret")
    challenges = set()
    for _ in range(4):
        client = greet(server)
        client.choose(2)
        challenges.add(client.take(16))

    assert len(challenges) == 4


def test_password_cannot_be_chosen_away(serve, greet):
    client = greet(serve("secret"))

    client.choose(1)

    assert client.is_cut_off()


# -- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [RAW, ZLIB, ZRLE])
def test_picture_arrives_bit_for_bit(server, connect, shown, encoding):
    client = connect(server, 99, encoding)

    client.ask()
    first = client.update()
    shown.show(150, 70, seed=2)
    client.ask(incremental=True)
    client.update()

    assert first == [(0, 0, 150, 70, encoding)]
    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


FORMATS = [
    (32, 24, 0, 1, 255, 255, 255, 0, 8, 16),
    (32, 24, 1, 1, 255, 255, 255, 16, 8, 0),
    (32, 24, 0, 1, 255, 255, 255, 24, 16, 8),
    (32, 24, 1, 1, 255, 255, 255, 24, 16, 8),
    (32, 30, 0, 1, 1023, 1023, 1023, 20, 10, 0),
    (16, 16, 0, 1, 31, 63, 31, 11, 5, 0),
    (16, 15, 1, 1, 31, 31, 31, 10, 5, 0),
    (8, 8, 0, 1, 7, 7, 3, 0, 3, 6),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("encoding", [RAW, ZRLE])
def test_client_gets_the_pixel_format_it_asks_for(server, connect, shown, encoding, form):
    client = connect(server, encoding)
    client.set_format(*form)

    client.ask()
    client.update()

    assert (client.screen == scaled(shown.pixels, form)).all()


def test_only_what_changed_is_sent(server, connect, shown):
    client = connect(server, RAW)
    client.ask()
    client.update()
    shown.pixels[10:14, 20:50] = 77
    shown.pixels[60:62, 100:101] = 78

    shown.scanout.flush(Rect(20, 10, 30, 4))
    shown.scanout.flush(Rect(100, 60, 1, 2))
    client.ask(incremental=True)

    sent = client.update()
    while len(sent) < 2:  # the first may have been sent when the second came
        client.ask(incremental=True)
        sent += client.update()
    assert sent == [(20, 10, 30, 4, RAW), (100, 60, 1, 2, RAW)]
    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


def test_update_that_was_asked_for_before_comes_when_there_is_one(server, connect, shown):
    client = connect(server, RAW)
    client.ask()
    client.update()
    client.ask(incremental=True)

    shown.pixels[0, 0] = 99
    shown.scanout.flush(Rect(0, 0, 1, 1))

    assert client.update() == [(0, 0, 1, 1, RAW)]


def test_parts_that_are_not_asked_for_wait(server, connect, shown):
    client = connect(server, RAW)
    client.ask(incremental=True, area=(50, 20, 10, 10))
    first = client.update()

    client.ask(incremental=True)
    rest = client.update()

    assert first == [(50, 20, 10, 10, RAW)]
    assert sum(width * height for _, _, width, height, _ in rest) == 150 * 70 - 100
    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


@pytest.mark.parametrize("kind", [DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE])
def test_client_follows_the_pictures_size(server, connect, shown, kind):
    client = connect(server, ZRLE, kind)
    client.ask()
    client.update()

    shown.show(200, 90, seed=3)
    client.ask(incremental=True)
    sent = client.update()

    assert sent[0][2:] == (200, 90, kind)
    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


def test_client_with_one_size_sees_what_fits(server, connect, shown):
    client = connect(server, RAW)
    client.ask()
    client.update()

    shown.show(100, 200, seed=3)
    client.ask()
    client.update()

    assert (client.screen[:, :100, :3] == shown.pixels[:70, :, :3]).all()
    assert not client.screen[:, 100:, :3].any()


def test_client_may_ask_for_another_size(server, connect, bench):
    client = connect(server, RAW, EXTENDED_DESKTOP_SIZE)
    client.ask()
    client.update()

    sizes = []
    bench.seat.screens.append(lambda *size: sizes.append(size))
    client.send(struct.pack(">Bx2HBxI4HI", 251, 640, 480, 1, 1, 0, 0, 640, 480, 0))
    client.ask(incremental=True)

    answer = client.update()
    bench.run_posted()
    assert answer[0] == (1, 0, 150, 70, EXTENDED_DESKTOP_SIZE)
    assert sizes == [(640, 480)]


def test_several_clients_see_the_same(server, connect, shown):
    clients = [connect(server, encoding) for encoding in (RAW, ZLIB, ZRLE)]

    for client in clients:
        client.ask()
        client.update()

    for client in clients:
        assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


def test_nothing_is_asked_of_the_machine_by_a_viewer(server, connect, shown, bench):
    client = connect(server, ZRLE, DESKTOP_SIZE)

    for seed in range(5):
        shown.show(150 + seed, 70, seed)
        client.ask()
        client.update()
    client.close()

    assert bench.posted == []

"""The VNC server with hands on the keyboard, hostile clients, and real ones."""

import asyncio
import random
import socket
import struct
import subprocess
import sys
import time
import warnings
from contextlib import suppress

import asyncvnc
import numpy as np
import pytest

from gpu.display.vnc import VncServer, session
from gpu.display.vnc.keys import KEYS, Keyboard
from gpu.display.vnc.server import MAX_CLIENTS, MAX_POSTED
from hypervisor.device import BackendError

SHIFT, A, ONE = 42, 30, 2
PROMPT_ENOUGH = 20


def settle(bench, count):
    """Wait until so many callables were posted."""
    end = time.monotonic() + PROMPT_ENOUGH
    while len(bench.posted) < count and time.monotonic() < end:
        time.sleep(0.002)


@pytest.fixture
def typed(bench):
    """What reaches the machine's input devices."""
    events = []
    bench.seat.keyboards.append(lambda code, down: events.append((code, down)))
    bench.seat.pointers.append(lambda x, y, buttons: events.append((x, y, buttons)))
    return events


# -- input ----------------------------------------------------------------------------------------


def test_keys_and_pointer_reach_the_machine_at_a_safe_point(server, connect, bench, typed):
    client = connect(server)
    client.key(ord("a"), True)
    client.key(ord("a"), False)
    client.point(149, 0, 1)
    client.point(0, 400, 0)

    settle(bench, 4)
    before = list(typed)
    bench.run_posted()

    assert before == []
    assert typed == [(A, True), (A, False), (0x7FFF, 0, 1), (0, 0x7FFF, 0)]


def test_keys_of_a_client_that_vanishes_come_up(server, connect, bench, typed):
    client = connect(server)
    client.key(ord("A"), True)
    settle(bench, 2)

    client.close()
    settle(bench, 4)
    bench.run_posted()

    assert typed == [(SHIFT, True), (A, True), (A, False), (SHIFT, False)]


def test_flood_of_keys_to_a_machine_that_stands_still_is_bounded(server, connect, bench, typed):
    client = connect(server)
    for _ in range(1000):
        client.point(1, 1, 0)
    for _ in range(1000):
        client.key(ord("a"), True)
        client.key(ord("a"), False)
    client.ask()
    client.update()

    client.close()

    assert len(bench.posted) == MAX_POSTED


def test_key_that_is_down_comes_up_however_many_wait(server, connect, bench, typed):
    client = connect(server)
    client.key(ord("a"), True)
    for _ in range(1000):
        client.point(1, 1, 0)
    client.key(ord("a"), False)
    settle(bench, MAX_POSTED + 1)
    bench.run_posted()

    assert (typed[0], typed[-1]) == ((A, True), (A, False))


def test_capital_takes_shift_only_where_none_is_held():
    keyboard = Keyboard()

    alone = keyboard.event(ord("A"), True) + keyboard.event(ord("A"), False)
    shift = keyboard.event(0xFFE1, True)
    held = keyboard.event(ord("!"), True) + keyboard.event(ord("!"), False)

    assert alone == [(SHIFT, True), (A, True), (A, False), (SHIFT, False)]
    assert (shift, held) == ([(SHIFT, True)], [(ONE, True), (ONE, False)])


def test_key_that_nobody_pressed_comes_not_up():
    keyboard = Keyboard()

    assert keyboard.event(ord("a"), False) == []
    assert keyboard.event(0x1234567, True) == []


def test_every_printable_character_has_a_key():
    assert [chr(code) for code in range(32, 127) if code not in KEYS] == []


# -- bad clients ----------------------------------------------------------------------------------

BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"RFB 003.008\n" + b"\x07",
    b"RFB 003.008\n\x01\x01" + b"\xff" * 100,
    b"RFB 003.008\n\x01\x01"
    + struct.pack(">B3x4B3H3B3x", 0, 24, 24, 0, 1, 255, 255, 255, 0, 8, 16),
    b"RFB 003.008\n\x01\x01" + struct.pack(">B3x4B3H3B3x", 0, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0),
    b"RFB 003.008\n\x01\x01" + struct.pack(">B3x4B3H3B3x", 0, 8, 8, 0, 1, 255, 255, 255, 0, 8, 16),
    b"RFB 003.008\n\x01\x01" + struct.pack(">B3x4B3H3B3x", 0, 32, 8, 0, 1, 5, 5, 5, 0, 8, 255),
    b"RFB 003.008\n\x01\x01" + struct.pack(">B3xI", 6, 0xFFFF_FFFF),
]


def say(server, data, to_the_end=False):
    """Send bytes, perhaps that there will be no more, and wait to be cut off."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=PROMPT_ENOUGH) as bad,
        suppress(ConnectionError),
    ):
        bad.sendall(data)
        for _ in range(to_the_end):
            bad.shutdown(socket.SHUT_WR)
        while bad.recv(1 << 16):
            pass


@pytest.mark.parametrize("data", BAD)
def test_client_that_talks_nonsense_is_cut_off(server, connect, shown, data):
    say(server, data)

    client = connect(server)
    client.ask()
    client.update()
    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


def test_random_bytes_are_survived(server, connect, shown, bench):
    noise = random.Random(5)
    for _ in range(200):
        kinds = noise.choices(b"\x00\x02\x03\x04\x05\x06\xfb", k=20)
        data = b"RFB 003.008\n\x01\x01"[: noise.choice((0, 12, 13, 14, 14, 14, 14))]
        data += b"".join(bytes((k,)) + noise.randbytes(noise.randrange(24)) for k in kinds)
        say(server, data, to_the_end=True)
    bench.run_posted()

    client = connect(server, 16)
    client.ask()
    client.update()
    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


def test_client_that_reads_nothing_does_not_hold_up_the_others(server, connect, shown):
    shown.show(1000, 1000)
    deaf, client = connect(server, 0), connect(server, 0)
    for _ in range(50):
        deaf.ask()

    client.ask()
    client.update()

    assert (client.screen[..., :3] == shown.pixels[..., :3]).all()


def test_client_that_reads_nothing_leaves_its_place(server, connect, greet, shown, monkeypatch):
    monkeypatch.setattr(session, "STALLED_SECONDS", 0.1)
    shown.show(1000, 1000)
    deaf = [connect(server, 0) for _ in range(MAX_CLIENTS)]

    for client in deaf:
        client.ask()

    wait_until(lambda: is_let_in(server, greet))


def test_client_that_sends_no_more_leaves_its_place(server, connect, greet, shown):
    shown.show(1000, 1000)
    deaf = [connect(server, 0) for _ in range(MAX_CLIENTS)]

    for client in deaf:
        client.ask()
        client.socket.shutdown(socket.SHUT_WR)

    wait_until(lambda: is_let_in(server, greet))


def wait_until(condition):
    """For what happens on another thread; fails where it does not."""
    end = time.monotonic() + PROMPT_ENOUGH
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_let_in(server, greet):
    try:
        greet(server)
    except (EOFError, ConnectionError):
        return False
    return True


def test_more_clients_than_there_may_be_are_cut_off(server, connect, greet):
    clients = [connect(server) for _ in range(MAX_CLIENTS)]

    with pytest.raises((EOFError, ConnectionError)):
        greet(server)

    clients[0].ask()
    clients[0].update()


def test_port_in_use_is_said(server, bench, shown):
    with pytest.raises(BackendError, match=f"VNC cannot listen on 127.0.0.1:{server.port}"):
        VncServer("gpu1", bench, shown.scanout, ("127.0.0.1", server.port), None)


def test_port_that_was_picked_is_said(server, bench):
    assert bench.messages == [f"gpu0: VNC listens on 127.0.0.1:{server.port}"]


# -- real clients ---------------------------------------------------------------------------------


def rgb_of(png):
    """The pixels of a PNG file of 8-bit RGB or RGBA whose rows have any filter."""
    from PIL import Image

    with Image.open(png) as picture:
        return np.asarray(picture.convert("RGB"))


def test_vncdotool_sees_the_picture_and_types(serve, shown, bench, typed, tmp_path):
    server = serve("secret")
    address = f"127.0.0.1::{server.port}"
    acts = ("capture", str(tmp_path / "out.png"), "type", "aA1", "move", "10", "20", "click", "1")

    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "vncdotool.command"),
            *("-s", address, "-p", "secret", *acts),
        ],
        check=True,
        timeout=100,
    )
    bench.run_posted()

    assert (rgb_of(tmp_path / "out.png") == shown.pixels[..., 2::-1]).all()
    keys = [(A, True), (A, False), (SHIFT, True), (A, True), (A, False), (SHIFT, False)]
    place = (10 * 0x7FFF // 149, 20 * 0x7FFF // 69)
    assert typed == [*keys, (ONE, True), (ONE, False), *((*place, b) for b in (0, 1, 0))]


def test_asyncvnc_sees_the_picture(serve, shown):
    server = serve("secret")

    async def look():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            async with asyncvnc.connect("127.0.0.1", server.port, password="secret") as client:
                return await client.screenshot()

    picture = asyncio.run(look())

    assert (picture[..., :3] == shown.pixels[..., 2::-1]).all()

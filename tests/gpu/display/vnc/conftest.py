"""A VNC server for a picture, and a client of the tests' own."""

from __future__ import annotations

import socket
import struct
import zlib

import numpy as np
import pytest

from gpu.display.scanout import Format, Picture, Scanout
from gpu.display.vnc import VncServer
from hypervisor.device.testing import Bench

RAW, ZLIB, ZRLE = 0, 6, 16
NATIVE = (32, 24, 0, 1, 255, 255, 255, 16, 8, 0)


class Shown:
    """What the scanout shows: `pixels` may be changed, and is seen after a flush."""

    def __init__(self, scanout):
        self.scanout = scanout
        self.pixels = np.zeros((0, 0, 4), np.uint8)

    def show(self, width, height, seed=1):
        """Show noise, with a patch of one color."""
        noise = np.random.default_rng(seed)
        self.pixels = noise.integers(0, 256, (height, width, 4), np.uint8)
        self.pixels[: height // 2, : width // 2] = (1, 2, 3, 0)
        self.scanout.show(Picture(width, height, 4 * width, 0, Format.B8G8R8X8, self))

    def read(self, offset, size):
        return self.pixels.tobytes()[offset : offset + size]


class Client:
    """A client that is done with its greeting. Answers are read to their last byte."""

    def __init__(self, port, version=b"RFB 003.008\n"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=90)
        self.form = NATIVE
        self.size = (0, 0)
        self.name = b""
        self.screen = np.zeros((0, 0, 4), np.uint16)
        self.streams = {ZLIB: zlib.decompressobj(), ZRLE: zlib.decompressobj()}
        self.greeting = self.take(12)
        self.send(version)

    def send(self, data):
        self.socket.sendall(data)

    def take(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def unpack(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def choose(self, kind=1):
        """Take a security type of those that are offered (3.7 and later)."""
        kinds = self.take(self.take(1)[0])
        self.send(bytes((kind,)))
        return kinds

    def begin(self):
        """Be let in: ClientInit, ServerInit."""
        self.send(b"\x01")
        width, height = self.unpack(">2H")
        self.format = self.unpack(">4B3H3B3x")
        self.name = self.take(self.unpack(">I")[0])
        self.resize(width, height)

    def resize(self, width, height):
        self.size = (width, height)
        self.screen = np.zeros((height, width, 4), np.uint16)

    def set_format(self, *form):
        self.form = form
        self.send(struct.pack(">B3x4B3H3B3x", 0, *form))

    def set_encodings(self, *numbers):
        self.send(struct.pack(f">BxH{len(numbers)}i", 2, len(numbers), *numbers))

    def ask(self, incremental=False, area=None):
        self.send(struct.pack(">BB4H", 3, incremental, *(area or (0, 0, *self.size))))

    def update(self):
        """Take an update and apply it: [(x, y, width, height, encoding)]."""
        kind, count = self.unpack(">BxH")
        assert kind == 0
        return [self._rectangle() for _ in range(count)]

    def _rectangle(self):
        x, y, width, height, encoding = self.unpack(">4Hi")
        if encoding in (-223, -308):
            if encoding == -308:
                assert self.unpack(">B3xI4HI")[2:] == (0, 0, width, height, 0)
            self.resize(width, height)
        else:
            bytes_per_pixel = self.form[0] // 8
            if encoding == RAW:
                data = self.take(width * height * bytes_per_pixel)
            else:
                packed = self.take(self.unpack(">I")[0])
                data = self.streams[encoding].decompress(packed)
            if encoding == ZRLE:
                pixels = self._tiles(data, width, height)
            else:
                pixels = self._pixels(data, bytes_per_pixel).reshape(height, width)
            self.screen[y : y + height, x : x + width] = self._colors(pixels)
        return x, y, width, height, encoding

    def _tiles(self, data, width, height):
        size, shift = self.compact()
        pixels = np.zeros((height, width), np.uint32)
        at = 0
        for y in range(0, height, 64):
            for x in range(0, width, 64):
                rows, columns = min(64, height - y), min(64, width - x)
                count = {0: rows * columns, 1: 1}[data[at]]
                tile = self._pixels(data[at + 1 : at + 1 + count * size], size) << shift
                shape = (rows, columns) if count > 1 else (1, 1)
                pixels[y : y + rows, x : x + columns] = tile.reshape(shape)
                at += 1 + count * size
        assert at == len(data)
        return pixels

    def compact(self):
        """ZRLE's bytes of a pixel, and how far they are shifted (RFC 6143, 7.7.5)."""
        bits, depth, _, _, *rest = self.form
        used = sum(largest << shift for largest, shift in zip(rest[:3], rest[3:], strict=True))
        if bits == 32 and depth <= 24 and not used >> 24:
            return 3, 0
        if bits == 32 and depth <= 24 and not used & 0xFF:
            return 3, 8
        return bits // 8, 0

    def _pixels(self, data, size):
        parts = np.frombuffer(data, np.uint8).reshape(-1, size).astype(np.uint32)
        order = range(size) if not self.form[2] else range(size - 1, -1, -1)
        return sum(parts[:, at] << np.uint32(8 * place) for place, at in enumerate(order))

    def _colors(self, pixels):
        """B, G, R, 0, each from 0 to its largest value."""
        _, _, _, _, red, green, blue, red_shift, green_shift, blue_shift = self.form
        channels = ((blue, blue_shift), (green, green_shift), (red, red_shift), (0, 0))
        return np.stack([pixels >> shift & largest for largest, shift in channels], axis=-1)

    def key(self, keysym, down):
        self.send(struct.pack(">BB2xI", 4, down, keysym))

    def point(self, x, y, buttons):
        self.send(struct.pack(">BB2H", 5, buttons, x, y))

    def is_cut_off(self):
        """Whether the server ended it, whatever it said before."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        self.socket.close()


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def shown():
    shown = Shown(Scanout(100, 80))
    shown.show(150, 70)
    return shown


@pytest.fixture
def serve(bench, shown):
    """serve(password): a server for the picture."""
    servers = []

    def make(password=None):
        server = VncServer(
            "gpu0",
            bench,
            shown.scanout,
            ("127.0.0.1", 0),
            password,
        )
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def connect(request):
    """connect(server): a client at its work."""
    clients = []

    def make(server, *encodings):
        client = Client(server.port)
        clients.append(client)
        client.choose()
        assert client.take(4) == bytes(4)
        client.begin()
        if encodings:
            client.set_encodings(*encodings)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def greet():
    """greet(server, version): a client that said its version."""
    clients = []

    def make(server, version=b"RFB 003.008\n"):
        clients.append(Client(server.port, version))
        return clients[-1]

    yield make
    for client in clients:
        client.close()

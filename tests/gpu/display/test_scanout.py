"""What a display shows, whoever fills it."""

import struct
import zlib

import numpy as np
import pytest

from gpu.display.png import png
from gpu.display.scanout import Format, GuestPixels, Picture, Rect, Scanout
from hypervisor.device.testing import BenchMemory


class Bytes:
    """Pixels in memory of the test's."""

    def __init__(self, data):
        self.data = data

    def read(self, offset, size):
        assert 0 <= offset <= offset + size <= len(self.data)
        return self.data[offset : offset + size]


def decode(data):
    """The (width, height, RGB bytes) of a PNG file whose rows have no filter."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks = {}
    at = 8
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    width, height, *how = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert how == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return width, height, rows[:, 1:].tobytes()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (640, 3)])
def test_png_holds_the_pixels(width, height):
    rgb = bytes(range(256)) * (width * height * 3 // 256 + 1)

    assert decode(png(width, height, rgb[: 3 * width * height]))[2] == rgb[: 3 * width * height]


@pytest.mark.parametrize("form", list(Format))
def test_every_format_shows_its_colors(form):
    letters = form.name[::2]
    pixel = bytes({"R": 1, "G": 2, "B": 3, "A": 255, "X": 9}[letter] for letter in letters)
    scanout = Scanout(64, 64)

    scanout.show(Picture(1, 1, 4, 0, form, Bytes(pixel)))

    assert scanout.rgb() == (1, 1, b"\x01\x02\x03")


def test_rows_may_lie_apart():
    data = bytes(range(64))
    picture = Picture(2, 2, 24, 8, Format.B8G8R8X8, Bytes(data))

    pixels = picture.read(Rect(0, 0, 2, 2))

    assert pixels[1].tobytes() == data[32:40]
    assert picture.end == 40


def test_part_of_a_picture_is_read_alone():
    data = bytes(range(64))
    picture = Picture(4, 4, 16, 0, Format.B8G8R8X8, Bytes(data))

    assert picture.read(Rect(1, 2, 2, 1)).tobytes() == data[36:44]


@pytest.mark.parametrize(
    "shape", [(0, 1, 4), (1, 0, 4), (2, 1, 4), (16385, 1, 1 << 20), (1, 16385, 4)]
)
def test_picture_that_cannot_be_is_refused(shape):
    with pytest.raises(ValueError, match=r"pixels"):
        Picture(*shape, 0, Format.B8G8R8X8, Bytes(b""))


def test_guest_pixels_are_one_run_over_pieces():
    memory = BenchMemory()
    memory.write(memory.base, bytes(range(200)))
    pixels = GuestPixels(
        memory, [(memory.base + 100, 10), (memory.base, 20), (memory.base + 50, 5)]
    )
    run = bytes([*range(100, 110), *range(20), *range(50, 55)])

    parts = [(0, 35), (0, 10), (9, 2), (10, 20), (29, 6), (34, 1)]

    assert [pixels.read(at, size) for at, size in parts] == [run[a : a + s] for a, s in parts]


def test_nothing_shown_is_black():
    scanout = Scanout(4, 2)

    assert decode(scanout.screenshot()) == (4, 2, bytes(24))


def test_screenshot_is_written_to_its_file(tmp_path):
    scanout = Scanout(4, 2)

    data = scanout.screenshot(tmp_path / "out.png")

    assert (tmp_path / "out.png").read_bytes() == data


def test_watchers_hear_of_changes_inside_the_picture_only():
    scanout = Scanout(10, 10)
    seen = []
    scanout.watchers.append(seen.append)

    scanout.flush(Rect(8, 8, 5, 5))
    scanout.flush(Rect(10, 0, 5, 5))
    scanout.flush()

    assert seen == [(8, 8, 2, 2), (0, 0, 10, 10)]


def test_cursor_is_blended_and_moves_are_flushed():
    scanout = Scanout(64, 64)
    scanout.show(Picture(4, 1, 16, 0, Format.B8G8R8X8, Bytes(b"\x64" * 16)))
    seen = []
    scanout.watchers.append(seen.append)
    half = np.array([[[40, 50, 60, 128], [0, 0, 0, 0]]], np.uint8)

    scanout.set_cursor(half)
    scanout.move_cursor(1, 0)

    assert seen == [(0, 0, 2, 1), (0, 0, 2, 1), (1, 0, 2, 1)]
    assert scanout.read()[0, :, :3].tolist() == [[100] * 3, [90, 100, 110], [100] * 3, [100] * 3]


def test_cursor_beyond_the_borders_is_cut():
    scanout = Scanout(3, 3)
    scanout.set_cursor(np.full((2, 2, 4), 255, np.uint8))

    scanout.move_cursor(-1, 2)
    corner = scanout.read()
    scanout.move_cursor(-5, 9)

    assert np.argwhere(corner[..., 0]).tolist() == [[2, 0]]
    assert not scanout.read().any()


def test_state_is_taken_over():
    scanout = Scanout(3, 3)
    scanout.set_cursor(np.full((2, 2, 4), 255, np.uint8))
    scanout.move_cursor(1, 1)
    other = Scanout(9, 9)

    other.load(scanout.save(), None)

    assert (other.read() == scanout.read()).all()
    assert other.save() == scanout.save()


def test_rectangles_unite():
    assert Rect(1, 1, 2, 2).union(Rect(5, 0, 1, 1)) == (1, 0, 5, 3)
    assert Rect(0, 0, 0, 0).union(Rect(5, 4, 1, 1)) == (5, 4, 1, 1)
    assert Rect(5, 4, 1, 1).union(Rect(0, 0, 0, 9)) == (5, 4, 1, 1)

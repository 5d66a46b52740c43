"""Crashes of a kept overlay: after any of them every flushed byte is there.

The overlay runs on a file that logs writes, holes and syncs. A crash leaves what was synced, and of
what was not any part, sector by sector, in any order. The overlay must open on every such file, and
each sector must hold what it held at the last acknowledged flush or something written since.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devices.disk.hostfile import HostFile
from devices.disk.opening import open_image
from devices.disk.overlay import Overlay
from devices.disk.overlay_file import over, read_header, write_header

SECTORS = 8 * 5 + 3
SECTOR = 512
BASE = b"".join(bytes([200 + n % 50]) * SECTOR for n in range(SECTORS))


@dataclass
class Crashable:
    """A file in memory that remembers every change and sync since it was made."""

    start: bytes = b""
    log: list[tuple[int, bytes] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.content = bytearray(self.start)

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.content[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes | memoryview) -> None:
        data = bytes(data)
        self.log.append((offset, data))
        put(self.content, offset, data)

    def sync(self) -> None:
        self.log.append(None)

    def punch(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        yield start, end

    def close(self) -> None: ...


def put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


@dataclass
class History:
    """What each sector may hold after a crash at each point of the log."""

    durable: list[bytes]
    since: list[set[bytes]]
    points: list[tuple[int, list[set[bytes]]]] = field(default_factory=list)

    def allowed(self) -> list[set[bytes]]:
        return [{old} | new for old, new in zip(self.durable, self.since, strict=True)]


def cut(content: bytes) -> list[bytes]:
    return [content[at : at + SECTOR] for at in range(0, len(content), SECTOR)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(BASE)
    return path


def work(overlay: Overlay, file: Crashable, source: random.Random, steps: int) -> History:
    """Random writes, discards and flushes, with what a crash may leave after each log entry."""
    model = cut(overlay.read(0, overlay.size))
    history = History(list(model), [set() for _ in range(SECTORS)])
    for step in range(steps):
        kind = source.choice(["write", "write", "write", "discard", "flush"])
        if kind == "flush":
            before = history.allowed()
            entries = len(file.log)
            overlay.flush()
            history.points += [(at, before) for at in range(entries, len(file.log))]
            history.durable = list(model)
            history.since = [set() for _ in range(SECTORS)]
        else:
            first = source.randrange(SECTORS)
            end = min(SECTORS, first + source.choice([1, 2, 7, 8, 9, 20]))
            entries = len(file.log)
            if kind == "write":
                value = bytes([step % 190 + 1]) * SECTOR
                overlay.write(first * SECTOR, value * (end - first))
            else:
                value = bytes(SECTOR)
                overlay.discard(first * SECTOR, (end - first) * SECTOR)
            for sector in range(first, end):
                history.since[sector].add(value)
                model[sector] = value
            history.points += [(at, history.allowed()) for at in range(entries, len(file.log))]
    history.points.append((len(file.log), history.allowed()))
    return history


def crash(file: Crashable, at: int, source: random.Random, how: str) -> bytes:
    """The file after a crash when `at` entries of the log were done."""
    log = file.log
    last_sync = max((n for n in range(at) if log[n] is None), default=0)
    content = bytearray(file.start)
    for entry in log[:last_sync]:
        if entry:
            put(content, *entry)
    pieces = [
        (offset + within, data[within : within + SECTOR])
        for offset, data in filter(None, log[last_sync:at])
        for within in range(0, len(data), SECTOR)
    ]
    keep = {"dropped": 0.0, "whole": 1.0, "half": 0.5, "few": 0.1, "most": 0.9}[how]
    pieces = [piece for piece in pieces if source.random() < keep]
    if how not in ("whole", "dropped"):
        source.shuffle(pieces)
    for offset, data in pieces:
        put(content, offset, data)
    return bytes(content)


@pytest.mark.parametrize("seed", range(8))
def test_flushed_data_survives_every_crash(base: Path, seed: int) -> None:
    source = random.Random(seed)
    image = open_image(str(base), "raw", writable=False)
    file = Crashable()
    header = write_header(file, image)
    crashes = 0

    for _life in range(3):
        file = Crashable(bytes(file.content))
        overlay = over(image, file, header, read_only=False)
        history = work(overlay, file, source, 40)
        for at, allowed in history.points:
            for how in ("dropped", "whole", "few", "half", "half", "most"):
                left = Crashable(crash(file, at, source, how))
                again = over(image, left, read_header(left, "overlay"), read_only=False)
                for sector, value in enumerate(cut(again.read(0, again.size))):
                    assert value in allowed[sector], (seed, at, how, sector, value[:1])
                crashes += 1
        assert at == len(file.log)
        file = Crashable(crash(file, source.randrange(at), source, "half"))

    assert crashes > 3 * 40 * 6


def test_crash_while_recovering_from_a_crash_loses_nothing(base: Path) -> None:
    """Blocks left behind by a crash, present in the file but not in the map, do not come back."""
    image = open_image(str(base), "raw", writable=False)
    file = Crashable()
    header = write_header(file, image)
    first = over(image, file, header, read_only=False)
    first.write(0, b"\1" * 12288)  # reaches the file, but is never flushed

    left = Crashable(bytes(file.content))
    again = over(image, left, read_header(left, "overlay"), read_only=False)
    again.write(512, b"\2" * 512)
    again.discard(8192, 4096)
    again.flush()
    last = over(image, Crashable(bytes(left.content)), header, read_only=False)

    assert last.read(0, 4096) == BASE[:512] + b"\2" * 512 + BASE[1024:4096]
    assert last.read(8192, 4096) == bytes(4096)


def test_overlay_appears_whole_or_not_at_all(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from devices.disk import open_disk

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(HostFile, "write", fail)
        with pytest.raises(Exception, match="no space left"):
            open_disk(base, overlay="keep", read_only=False)

    assert os.listdir(base.parent) == ["base.raw"]
    open_disk(base, overlay="keep", read_only=False).close()

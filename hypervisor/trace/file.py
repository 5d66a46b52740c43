"""Trace files: every event with its fields, compressed, in a format of our own.

    magic, then blocks: u32 length, u32 CRC-32, that many bytes of zstandard-compressed CBOR.

The first block is a header, the last (length 0) says that the trace is whole. Each other block is
a list of records: `["kind", name, fields]` numbers a kind of events, `["register", device,
register, [[field, least bit, width], ...]]` tells how to decode one, and `[number, ns since the
event before, values...]` is an event.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import cbor2
import zstandard

from hypervisor.device import BackendError
from hypervisor.device.registers import Field
from hypervisor.events import KINDS, Event, MmioAccess, plain_fields

MAGIC = b"HVTRACE\x01"
_BLOCK = struct.Struct("<II")
_RECORDS = 4096
_LARGEST = 64 << 20
"""Bytes of a block, uncompressed; more is no trace of ours."""


class TraceError(Exception):
    """A trace file cannot be used: one sentence."""


@dataclass(frozen=True, slots=True)
class StoredEvent(Event):
    """An event whose type this program does not have: a device's of the user's own."""

    stored_kind: str
    names: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def subject(self) -> str:
        return str(dict(zip(self.names, self.values, strict=True)).get("device", ""))

    def __str__(self) -> str:
        pairs = zip(self.names, self.values, strict=True)
        return f"{self.stored_kind} " + " ".join(f"{name}={value}" for name, value in pairs)


def kind_of(event: Event) -> str:
    return event.stored_kind if isinstance(event, StoredEvent) else event.kind


def fields_of(event: Event) -> dict[str, Any]:
    """An event's plain fields by name, without its time."""
    if isinstance(event, StoredEvent):
        return dict(zip(event.names, event.values, strict=True))
    names = plain_fields(type(event))[1:]
    return {name: getattr(event, name) for name in names}


class TraceWriter:
    """Writes events to a file as they come. `about`: plain data for the header."""

    def __init__(self, path: str | os.PathLike[str], about: dict[str, Any]) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("wb")
        except OSError as error:
            raise BackendError(
                f"the trace {self.path} cannot be written: {error.strerror}"
            ) from None
        self._compressor = zstandard.ZstdCompressor(level=3)
        self._records: list[Any] = []
        self._kinds: dict[type[Event] | str, tuple[int, Callable[[Event], Any]]] = {}
        self._registers: set[tuple[str, str]] = set()
        self._time = 0
        self._file.write(MAGIC)
        self._block(about)

    def write(self, event: Event) -> None:
        number, values = self._kinds.get(type(event)) or self._learn(event)
        if isinstance(event, MmioAccess) and event.fields:
            self._learn_register(event)
        self._records.append((number, event.time - self._time, *values(event)))
        self._time = event.time
        if len(self._records) >= _RECORDS:
            self.flush()

    def flush(self) -> None:
        """Have all events so far in the file."""
        records, self._records = self._records, []
        if records:
            self._block(records)
        self._file.flush()

    def close(self) -> None:
        """Make the trace whole."""
        if self._file.closed:
            return
        with self._file:
            self.flush()
            self._file.write(_BLOCK.pack(0, 0))

    def _block(self, data: Any) -> None:
        packed = self._compressor.compress(cbor2.dumps(data))
        self._file.write(_BLOCK.pack(len(packed), zlib.crc32(packed)) + packed)

    def _learn(self, event: Event) -> tuple[int, Callable[[Event], Any]]:
        if isinstance(event, StoredEvent):
            return self._learn_stored(event)
        names = plain_fields(type(event))[1:]
        self._records.append(("kind", event.kind, names))
        found = self._kinds[type(event)] = (len(self._kinds), _getter(names))
        return found

    def _learn_stored(self, event: StoredEvent) -> tuple[int, Callable[[Event], Any]]:
        key = f"{event.stored_kind} {event.names}"
        if key not in self._kinds:
            self._records.append(("kind", event.stored_kind, event.names))
            self._kinds[key] = (len(self._kinds), attrgetter("values"))
        return self._kinds[key]

    def _learn_register(self, event: MmioAccess) -> None:
        key = (event.device, event.register)
        if key not in self._registers:
            self._registers.add(key)
            table = [(each.name, each.lsb, each.width) for each in event.fields]
            self._records.append(("register", *key, table))


def _getter(names: tuple[str, ...]) -> Callable[[Event], Any]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda event: tuple(getattr(event, name) for name in names)


class TraceReader:
    """Events of a trace file, in order. `about` is its header, `count` how many were read.

    Raises TraceError for what is no trace; while iterating, also where a trace ends too early,
    after the events that are whole.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0
        self._kinds: list[tuple[str, tuple[str, ...]]] = []
        self._registers: dict[tuple[str, str], list[Field]] = {}
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise TraceError(f"the trace {path} cannot be read: {error.strerror}") from None
        if self._file.read(len(MAGIC)) != MAGIC:
            self._file.close()
            raise TraceError(f"{path} is not a trace of this program's (version {MAGIC[-1]})")
        about = self._block()
        if not isinstance(about, dict):
            raise self._broken("has no header")
        self.about: dict[str, Any] = about

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Event]:
        time = 0
        while (records := self._block()) is not None:
            if not isinstance(records, list):
                raise self._broken("has a block that is no list of events")
            for record in records:
                try:
                    event = self._event(record, time)
                except (TypeError, ValueError, IndexError, KeyError, AttributeError):
                    raise self._broken("has a record that makes no sense") from None
                if event is not None:
                    time = event.time
                    self.count += 1
                    yield event

    def _block(self) -> Any:
        """The next block's data, None at the end of a whole trace."""
        head = self._file.read(_BLOCK.size)
        if len(head) < _BLOCK.size:
            raise self._broken("ends too early")
        length, checksum = _BLOCK.unpack(head)
        if not length:
            return None
        packed = self._file.read(length)
        if len(packed) < length:
            raise self._broken("ends too early")
        if zlib.crc32(packed) != checksum:
            raise self._broken("is damaged")
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= _LARGEST:
                raise self._broken("is damaged")
            return cbor2.loads(zstandard.ZstdDecompressor().decompress(packed))
        except (zstandard.ZstdError, cbor2.CBORDecodeError, RecursionError):
            raise self._broken("is damaged") from None

    def _event(self, record: list[Any], time: int) -> Event | None:
        head = record[0]
        if head == "kind":
            self._kinds.append((record[1], tuple(record[2])))
            return None
        if head == "register":
            fields = [Field(name, (lsb + width - 1, lsb)) for name, lsb, width in record[3]]
            self._registers[record[1], record[2]] = fields
            return None
        kind, names = self._kinds[head]
        at, values = time + record[1], record[2:]
        known = KINDS.get(kind)
        if known is None or plain_fields(known)[1:] != names:
            if len(values) != len(names):
                raise ValueError
            return StoredEvent(at, kind, names, tuple(values))
        if known is MmioAccess:
            table = self._registers.get((values[0], values[1]), ())
            return MmioAccess(*(at, *values, table))
        return known(at, *values)

    def _broken(self, what: str) -> TraceError:
        after = f", after {self.count} events that are whole" if self.count else ""
        return TraceError(f"the trace {self.path} {what}{after}")

"""Packets: how a command and its answer look as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, dataclass_transform

from gpu.opencl import Status
from gpu.protocol.fields import Layout, MalformedError, Number, fields_of
from gpu.protocol.limits import FLAG_ANSWER, MAX_COMMANDS

HEADER = struct.Struct("<HHI")
ANSWER_PLACE = struct.Struct("<QII")
ANSWER_HEADER = struct.Struct("<iI")

COMMANDS: dict[int, type[Command]] = {}
"""Every command by its opcode."""


@dataclass(frozen=True)
class AnswerPlace:
    """Where an answer goes: `size` bytes, its header included, at `offset` of `blob`."""

    blob: int
    offset: int
    size: int


@dataclass_transform(kw_only_default=True)
class Record:
    """Fields on the wire. Subclasses declare them by annotation."""

    layout: ClassVar[Layout]

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True)(cls)
        cls.layout = Layout(fields_of(cls))

    @classmethod
    def unpack(cls, data: bytes | memoryview, at: int, end: int) -> Any:
        """The record between `at` and `end`; MalformedError where there is none."""
        layout = cls.layout
        record = cls.__new__(cls)
        record.__dict__.update(zip(layout.names, layout.unpack(data, at, end), strict=True))
        return record

    def pack(self) -> bytes:
        return self.layout.pack(self.__dict__)


class Answer(Record):
    """What a command is answered besides its status."""


class NoAnswer(Answer):
    """Only the status."""


class Command(Record):
    """A command. `function` is what it serves, `cost` what it costs on a timeline."""

    opcode: ClassVar[int] = 0
    name: ClassVar[str] = ""
    function: ClassVar[str] = ""
    answer_type: ClassVar[type[Answer]] = NoAnswer
    must_answer: ClassVar[bool] = False
    front_end: ClassVar[bool] = False
    """The front end's own, not the core's: only the MMIO ring has them."""

    def __init_subclass__(
        cls,
        opcode: int = 0,
        function: str = "",
        answer: type[Answer] | None = None,
        front_end: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.opcode, cls.function, cls.front_end = opcode, function, front_end
        cls.name = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__)[1:]
        cls.answer_type = answer or NoAnswer
        cls.must_answer = answer is not None
        if opcode:
            assert opcode not in COMMANDS, f"two commands have the opcode {opcode:#x}"
            COMMANDS[opcode] = cls

    def encode(self, answer: AnswerPlace | None = None) -> bytes:
        """The packet."""
        body = self.pack()
        place = b""
        if answer is not None:
            place = ANSWER_PLACE.pack(answer.offset, answer.blob, answer.size)
        flags = FLAG_ANSWER if answer is not None else 0
        size = HEADER.size + len(place) + len(body)
        return HEADER.pack(self.opcode, flags, size) + place + body

    def check(self) -> Status:
        """The error of the first number that its declaration forbids, or SUCCESS."""
        for name, number in _limits(type(self)):
            if not number.allows(getattr(self, name)):
                return number.error
        return Status.SUCCESS


@dataclass(slots=True)
class Packet:
    """One decoded packet: `command` is None where `status` says what is wrong with it."""

    start: int
    end: int
    opcode: int
    command: Command | None
    answer: AnswerPlace | None
    status: Status = Status.SUCCESS
    reason: str = ""


Known = dict[bytes, Packet]
"""Packets by their bytes: programs repeat themselves, and finding one is faster than reading it."""
_MOST_KNOWN = 4096
_LONGEST_KNOWN = 256


def decode(stream: bytes | memoryview, known: Known | None = None) -> Iterator[Packet]:
    """The packets of a stream in order. A packet that is wrong in itself is passed over; one
    whose size cannot be believed ends the stream. Short ones are kept in `known` and found there
    again, with the places that they were first read from."""
    at, total = 0, len(stream)
    count = 0
    while at < total:
        count += 1
        opcode = flags = size = 0
        if total - at >= HEADER.size:
            opcode, flags, size = HEADER.unpack_from(stream, at)
        if size < HEADER.size or size % 8 or size > total - at or count > MAX_COMMANDS:
            reason = f"the stream breaks off at byte {at}"
            yield Packet(at, total, opcode, None, None, Status.INVALID_VALUE, reason)
            return
        if known is None or size > _LONGEST_KNOWN:
            yield _decode_packet(stream, at, at + size, opcode, flags)
        else:
            key = bytes(stream[at : at + size])
            packet = known.get(key)
            if packet is None:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                packet = known[key] = _decode_packet(stream, at, at + size, opcode, flags)
            yield packet
        at += size


def _decode_packet(
    stream: bytes | memoryview, start: int, end: int, opcode: int, flags: int
) -> Packet:
    place = None
    at = start + HEADER.size
    kind = COMMANDS.get(opcode)
    try:
        if flags & ~FLAG_ANSWER:
            raise MalformedError(Status.INVALID_VALUE, f"it has unknown flags {flags:#x}")
        if flags & FLAG_ANSWER:
            if end - at < ANSWER_PLACE.size:
                raise MalformedError(Status.INVALID_VALUE, "it has no place for its answer")
            offset, blob, size = ANSWER_PLACE.unpack_from(stream, at)
            place = AnswerPlace(blob, offset, size)
            at += ANSWER_PLACE.size
        if kind is None:
            raise MalformedError(Status.INVALID_OPERATION, f"there is no command {opcode:#06x}")
        if place is None and kind.must_answer:
            raise MalformedError(Status.INVALID_VALUE, "it names no place for its answer")
        command = kind.unpack(stream, at, end)
        status = command.check()
        if status:
            return Packet(start, end, opcode, None, place, status, f"{kind.name}: a bad number")
    except MalformedError as error:
        name = kind.name if kind is not None else "packet"
        return Packet(start, end, opcode, None, place, error.status, f"{name}: {error}")
    return Packet(start, end, opcode, command, place)


_LIMITS: dict[type[Command], list[tuple[str, Number]]] = {}


def _limits(kind: type[Command]) -> list[tuple[str, Number]]:
    found = _LIMITS.get(kind)
    if found is None:
        found = [
            (field.name, field.spec)
            for field in kind.layout.fields
            if isinstance(field.spec, Number) and not field.spec.is_free
        ]
        _LIMITS[kind] = found
    return found

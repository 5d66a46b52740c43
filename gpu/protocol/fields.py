"""How the fields of a command look on the wire, and what may stand in them.

A packet is little-endian and 8-byte aligned: u16 opcode, u16 flags, u32 size of the whole packet
in bytes, the place of its answer where FLAG_ANSWER is set, then the command's fields. Numbers
stand in the order of their declaration, each aligned to its size; a list or byte string stands
there as a u32 count, and its contents follow all numbers in order, each padded to 8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from gpu.opencl import Status


class Kind(Enum):
    """Types of objects in a context's table of handles. The value is the error for a handle
    that is not of this type."""

    CONTEXT = "context", Status.INVALID_CONTEXT
    QUEUE = "queue", Status.INVALID_COMMAND_QUEUE
    BUFFER = "buffer", Status.INVALID_MEM_OBJECT
    IMAGE = "image", Status.INVALID_MEM_OBJECT
    SAMPLER = "sampler", Status.INVALID_SAMPLER
    PROGRAM = "program", Status.INVALID_PROGRAM
    KERNEL = "kernel", Status.INVALID_KERNEL
    EVENT = "event", Status.INVALID_EVENT
    MAPPING = "mapping", Status.INVALID_VALUE

    @property
    def label(self) -> str:
        return str(self.value[0])

    @property
    def error(self) -> Status:
        return self.value[1]


class MalformedError(Exception):
    """Bytes that are no packet of this protocol."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class New:
    """The id of an object that this command makes: not zero, not in use."""

    kind: Kind
    optional: bool = False


@dataclass(frozen=True)
class Ref:
    """The id of an object that is there. 0 where `optional`."""

    kinds: tuple[Kind, ...]
    optional: bool = False
    error: Status | None = None

    @property
    def status(self) -> Status:
        return self.error or self.kinds[0].error


@dataclass(frozen=True)
class Blob:
    """The id of a blob that is granted to the context; 0 where `optional`."""

    optional: bool = False


@dataclass(frozen=True)
class Number:
    """A number: `code` is struct's (I, i, Q); `mask`, `values`, `least` and `most` limit it."""

    code: str
    error: Status = Status.INVALID_VALUE
    mask: int | None = None
    values: tuple[int, ...] | None = None
    least: int | None = None
    most: int | None = None

    def allows(self, value: int) -> bool:
        return not (
            (self.mask is not None and value & ~self.mask)
            or (self.values is not None and value not in self.values)
            or (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
        )

    @property
    def is_free(self) -> bool:
        return self == Number(self.code, self.error)


@dataclass(frozen=True)
class Fixed:
    """`count` numbers side by side."""

    code: str
    count: int


@dataclass(frozen=True)
class Counted:
    """A list of at most `most` numbers, or with code "s" as many bytes."""

    code: str
    most: int
    least: int = 0


Spec = Number | Fixed | Counted

I32 = Annotated[int, Number("i")]
U32 = Annotated[int, Number("I")]
U64 = Annotated[int, Number("Q")]
Vector = Annotated[tuple[int, int, int], Fixed("Q", 3)]
"""Three sizes or positions: x, y, z."""

SIZES = {"i": 4, "I": 4, "Q": 8, "s": 1}


def one_of(values: Iterable[int], error: Status = Status.INVALID_VALUE) -> Number:
    return Number("I", error, values=tuple(int(value) for value in values))


def members(kind: type[IntEnum], error: Status = Status.INVALID_VALUE) -> Number:
    return one_of(list(kind), error)


def bits(mask: int, error: Status = Status.INVALID_VALUE) -> Number:
    # As a flag's complement it would only have the flags that are known.
    return Number("Q", error, mask=int(mask))


@dataclass(frozen=True)
class FieldSpec:
    """One declared field. `role` says whether the number is an id, and of what."""

    name: str
    spec: Spec
    role: New | Ref | Blob | None


def fields_of(owner: type) -> tuple[FieldSpec, ...]:
    """The fields that a class declares with annotations, its base's first."""
    found = []
    for name, hint in get_type_hints(owner, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        marks = get_args(hint)[1:]
        spec = next(mark for mark in marks if isinstance(mark, Number | Fixed | Counted))
        role = next((mark for mark in marks if isinstance(mark, New | Ref | Blob)), None)
        found.append(FieldSpec(name, spec, role))
    return tuple(found)


class Layout:
    """Where the fields of a class lie: `fixed` packs the numbers and counts, `counted` follow."""

    def __init__(self, fields: tuple[FieldSpec, ...]) -> None:
        self.fields = fields
        self.names = tuple(field.name for field in fields)
        code, at = "<", 0
        self.counted: list[tuple[int, Counted]] = []
        self.vectors: list[tuple[int, int]] = []
        for index, field in enumerate(fields):
            spec = field.spec
            letter = "I" if isinstance(spec, Counted) else spec.code
            size = SIZES[letter]
            gap = -at % size
            count = spec.count if isinstance(spec, Fixed) else 1
            code += (f"{gap}x" if gap else "") + (f"{count}{letter}" if count > 1 else letter)
            at += gap + size * count
            if isinstance(spec, Counted):
                self.counted.append((index, spec))
            elif isinstance(spec, Fixed):
                self.vectors.append((index, spec.count))
        code += f"{-at % 8}x" if at % 8 else ""
        self.fixed = struct.Struct(code)

    def unpack(self, data: bytes | memoryview, at: int, end: int) -> list[Any]:
        """The values between `at` and `end`, which they must fill. MalformedError else."""
        tail = at + self.fixed.size
        if tail > end:
            raise MalformedError(Status.INVALID_VALUE, "it is shorter than its fields")
        values = list(self.fixed.unpack_from(data, at))
        for index, count in self.vectors:
            values[index : index + count] = [tuple(values[index : index + count])]
        for index, spec in self.counted:
            count = values[index]
            if not spec.least <= count <= spec.most:
                raise MalformedError(
                    Status.INVALID_VALUE, f"{self.names[index]} has {count} elements"
                )
            size = SIZES[spec.code] * count
            if tail + size > end:
                raise MalformedError(Status.INVALID_VALUE, f"it ends within {self.names[index]}")
            if spec.code == "s":
                values[index] = bytes(data[tail : tail + size])
            else:
                values[index] = struct.unpack_from(f"<{count}{spec.code}", data, tail)
            tail += size + -size % 8
        if tail != end:
            raise MalformedError(Status.INVALID_VALUE, "it is longer than its fields")
        return values

    def pack(self, values: dict[str, Any]) -> bytes:
        """The bytes of these values. struct.error where a number does not fit its field."""
        numbers: list[int] = []
        tail = b""
        for field in self.fields:
            value, spec = values[field.name], field.spec
            if isinstance(spec, Counted):
                numbers.append(len(value))
                body = (
                    bytes(value)
                    if spec.code == "s"
                    else struct.pack(f"<{len(value)}{spec.code}", *value)
                )
                tail += body + bytes(-len(body) % 8)
            elif isinstance(spec, Fixed):
                numbers.extend(value)
            else:
                numbers.append(value)
        return self.fixed.pack(*numbers) + tail

"""The guest's C header, written from gpu.protocol.

`python -m gpu.guest.header > gpu/guest/gpu_protocol.h` writes it anew. A command's C structure has
its numbers, and for each list a pointer and a count; its encoder writes the packet.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from gpu import opencl
from gpu.guest.records import commands, document, limits, records, snake
from gpu.protocol import (
    ANSWER_HEADER,
    ANSWER_PLACE,
    FLAG_ANSWER,
    HEADER,
    Command,
    Record,
)
from gpu.protocol.fields import SIZES, Counted, FieldSpec, Fixed

_TYPES = {"I": "uint32_t", "i": "int32_t", "Q": "uint64_t", "s": "uint8_t"}

_START = """\
/* The GPU's command set for C guests. Generated from gpu/protocol by `make docs`.
 *
 * gpu_encode_NAME(out, room, command, answer) gives the packet's size in bytes, a multiple of 8,
 * and writes it to `out` where it fits into `room` (else writes nothing). `out` is aligned to 8.
 * `answer` says where the answer goes, or is a null pointer where none is wanted.
 *
 * gpu_decode_NAME(data, size, record) reads what the device wrote: `data` is aligned to 8, and
 * `size` its bytes. Lists are pointers into `data`. 0 where the bytes are no such record.
 *
 * Needs no library, and little-endian memory. SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef GPU_PROTOCOL_H
#define GPU_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>
"""

_HELPERS = """\
/* Where an answer goes: `size` bytes, its header included, at `offset` of `blob`. */
struct gpu_answer_place {
    uint64_t offset;
    uint32_t blob;
    uint32_t size;
};

/* What stands there before the answer's fields: `size` is theirs. */
struct gpu_answer_header {
    int32_t status;
    uint32_t size;
};

typedef uint16_t __attribute__((may_alias)) gpu_u16_;
typedef uint32_t __attribute__((may_alias)) gpu_u32_;
typedef uint64_t __attribute__((may_alias)) gpu_u64_;

static inline void gpu_put32_(uint8_t *at, uint32_t value) { *(gpu_u32_ *)(void *)at = value; }
static inline void gpu_put64_(uint8_t *at, uint64_t value) { *(gpu_u64_ *)(void *)at = value; }
static inline uint32_t gpu_get32_(const uint8_t *at) { return *(const gpu_u32_ *)(const void *)at; }
static inline uint64_t gpu_get64_(const uint8_t *at) { return *(const gpu_u64_ *)(const void *)at; }
static inline uint64_t gpu_pad_(uint64_t size) { return (size + 7) & ~(uint64_t)7; }

/* The packet's header and its answer's place; its fields follow. */
static inline uint8_t *gpu_begin_(void *out, uint32_t opcode, uint64_t size,
                                  const struct gpu_answer_place *answer)
{
    uint8_t *at = out;
    *(gpu_u16_ *)(void *)at = (uint16_t)opcode;
    *(gpu_u16_ *)(void *)(at + 2) = answer ? GPU_FLAG_ANSWER : 0;
    gpu_put32_(at + 4, (uint32_t)size);
    at += @HEADER@;
    if (answer) {
        gpu_put64_(at, answer->offset);
        gpu_put32_(at + 8, answer->blob);
        gpu_put32_(at + 12, answer->size);
        at += @PLACE@;
    }
    return at;
}

/* The bytes of a list, padded with zeros. */
static inline uint8_t *gpu_list_(uint8_t *at, const void *list, uint64_t size)
{
    const uint8_t *from = list;
    uint64_t i = 0;
    for (; i < size; i++)
        at[i] = from[i];
    for (; i < gpu_pad_(size); i++)
        at[i] = 0;
    return at + i;
}
"""


@dataclass(frozen=True)
class _Place:
    """Where a field's numbers lie from the record's start; `code` is struct's."""

    field: FieldSpec
    code: str
    offset: int
    count: int


def header() -> str:
    """The whole header."""
    parts = [_START, _limits(), _opcodes(), *_enumerations()]
    helpers = _HELPERS.replace("@HEADER@", str(HEADER.size))
    parts.append(helpers.replace("@PLACE@", str(ANSWER_PLACE.size)))
    parts.append(_assertions())
    parts += [_command(kind) for kind in commands()]
    parts += [_record(kind) for kind in records()]
    parts.append("#endif\n")
    return "\n".join(parts)


def _limits() -> str:
    return "".join(f"#define GPU_{name} {value}u\n" for name, value in limits().items())


def _opcodes() -> str:
    lines = "".join(f"    GPU_{c.name.upper()} = {c.opcode:#06x},\n" for c in commands())
    return f"enum gpu_opcode {{\n{lines}}};\n"


def _enumerations() -> Iterator[str]:
    for name, kind in inspect.getmembers(opencl, inspect.isclass):
        if kind.__module__ == opencl.__name__ and issubclass(kind, IntEnum | IntFlag):
            prefix = f"GPU_{snake(name).upper()}"
            lines = "".join(f"    {prefix}_{m.name} = {m.value:#x},\n" for m in kind if m >= 0)
            lines += "".join(f"    {prefix}_{m.name} = {m.value},\n" for m in kind if m < 0)
            yield f"enum gpu_{snake(name)} {{\n{lines}}};\n"


def _assertions() -> str:
    return (
        f"_Static_assert(sizeof(struct gpu_answer_place) == {ANSWER_PLACE.size}"
        f' && GPU_FLAG_ANSWER == {FLAG_ANSWER}, "as on the wire");\n'
        f"_Static_assert(sizeof(struct gpu_answer_header) == {ANSWER_HEADER.size},"
        ' "as on the wire");\n'
    )


def _places(kind: type[Record]) -> tuple[list[_Place], int]:
    """The numbers and counts of a record, and the size of them all."""
    places, at = [], 0
    for field in kind.layout.fields:
        code = "I" if isinstance(field.spec, Counted) else field.spec.code
        count = field.spec.count if isinstance(field.spec, Fixed) else 1
        at += -at % SIZES[code]
        places.append(_Place(field, code, at, count))
        at += SIZES[code] * count
    assert at + -at % 8 == kind.layout.fixed.size, f"{kind.__name__} lies otherwise"
    return places, kind.layout.fixed.size


def _structure(name: str, kind: type[Record]) -> str:
    lines = []
    for field in kind.layout.fields:
        spec = field.spec
        letter = _TYPES[spec.code]
        if isinstance(spec, Counted):
            lines.append(f"    const {letter} *{field.name};")
            lines.append(f"    uint32_t {field.name}_count; /* at most {spec.most} */")
        elif isinstance(spec, Fixed):
            lines.append(f"    {letter} {field.name}[{spec.count}];")
        else:
            lines.append(f"    {letter} {field.name};")
    return f"struct gpu_{name} {{\n" + "\n".join(lines or ["    char nothing;"]) + "\n};\n"


def _comment(kind: type, function: str = "") -> str:
    text = document(kind)
    said = f"{function}: {text}" if function else text
    return textwrap.fill(f"/* {said} */", 100, subsequent_indent=" * ") + "\n" if said else ""


def _command(kind: type[Command]) -> str:
    places, fixed = _places(kind)
    name = kind.name
    counted = [p for p in places if isinstance(p.field.spec, Counted)]
    sizes = "".join(
        f"\n                    + gpu_pad_({SIZES[p.field.spec.code]}ull * "
        f"command->{p.field.name}_count)"
        for p in counted
    )
    body = [
        f"    uint64_t size = {HEADER.size + fixed} + (answer ? {ANSWER_PLACE.size}u : 0){sizes};",
        "    if (size > room)",
        "        return size;",
        f"    uint8_t *at = gpu_begin_(out, GPU_{name.upper()}, size, answer);",
    ]
    end = 0
    for place in places:
        if place.offset > end:
            body.append(f"    gpu_put32_(at + {end}, 0);")
        body += _stores(place)
        end = place.offset + SIZES[place.code] * place.count
    if end < fixed:
        body.append(f"    gpu_put32_(at + {end}, 0);")
    if counted:
        body.append(f"    at += {fixed};")
    for place in counted:
        size = f"{SIZES[place.field.spec.code]}ull * command->{place.field.name}_count"
        body.append(f"    at = gpu_list_(at, command->{place.field.name}, {size});")
    unused = [] if counted else ["    (void)at;"]
    unused += [] if places else ["    (void)command;"]
    signature = (
        f"static inline uint64_t gpu_encode_{name}(void *out, uint64_t room,\n"
        f"    const struct gpu_{name} *command, const struct gpu_answer_place *answer)\n"
    )
    lines = [*body, *unused, "    return size;"]
    return (
        _comment(kind, kind.function)
        + _structure(name, kind)
        + "\n"
        + signature
        + "{\n"
        + "\n".join(lines)
        + "\n}\n"
    )


def _stores(place: _Place) -> Iterator[str]:
    name, spec = place.field.name, place.field.spec
    bits = 64 if place.code == "Q" else 32
    cast = "(uint32_t)" if place.code == "i" else ""
    if isinstance(spec, Fixed):
        for index in range(place.count):
            at = place.offset + index * SIZES[place.code]
            yield f"    gpu_put{bits}_(at + {at}, command->{name}[{index}]);"
    else:
        suffix = "_count" if isinstance(spec, Counted) else ""
        yield f"    gpu_put{bits}_(at + {place.offset}, {cast}command->{name}{suffix});"


def _record(kind: type[Record]) -> str:
    places, fixed = _places(kind)
    name = snake(kind.__name__)
    counted = [p for p in places if isinstance(p.field.spec, Counted)]
    body = [
        "    const uint8_t *at = data;",
        f"    if (size < {fixed})",
        "        return 0;",
    ]
    for place in places:
        body += _loads(place)
    if counted:
        body.append(f"    uint64_t end = {fixed};")
    for place in counted:
        field, spec = place.field.name, place.field.spec
        size = f"{SIZES[spec.code]}ull * record->{field}_count"
        body += [
            f"    record->{field} = (const {_TYPES[spec.code]} *)(const void *)(at + end);",
            f"    if ({size} > size - end)",
            "        return 0;",
            f"    end += gpu_pad_({size});",
            "    if (end > size)",
            "        return 0;",
        ]
    signature = (
        f"static inline int gpu_decode_{name}(const void *data, uint64_t size,\n"
        f"    struct gpu_{name} *record)\n"
    )
    lines = [*body, "    return 1;"]
    return (
        _comment(kind)
        + _structure(name, kind)
        + "\n"
        + signature
        + "{\n"
        + "\n".join(lines)
        + "\n}\n"
    )


def _loads(place: _Place) -> Iterator[str]:
    name, spec = place.field.name, place.field.spec
    bits = 64 if place.code == "Q" else 32
    cast = "(int32_t)" if place.code == "i" else ""
    if isinstance(spec, Fixed):
        for index in range(place.count):
            at = place.offset + index * SIZES[place.code]
            yield f"    record->{name}[{index}] = {cast}gpu_get{bits}_(at + {at});"
    else:
        suffix = "_count" if isinstance(spec, Counted) else ""
        yield f"    record->{name}{suffix} = {cast}gpu_get{bits}_(at + {place.offset});"


if __name__ == "__main__":
    sys.stdout.write(header())

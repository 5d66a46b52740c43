"""The reference page of the GPU's command set, written from gpu.protocol.

`python -m gpu.guest.reference > docs/gpu-protocol.md` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Any

from gpu import opencl
from gpu.guest.records import commands, document, limits, records, snake
from gpu.protocol import NoAnswer, Record
from gpu.protocol.fields import Blob, Counted, FieldSpec, Fixed, New, Number, Ref

_INTRODUCTION = """# The GPU's command set

This page is generated from `gpu/protocol/`; so is the C header for guests,
`gpu/guest/gpu_protocol.h`.

A guest sends streams of packets: through the EXECBUFFER call of Linux's virtio-gpu driver, in a
context made with capability set 30, or through the MMIO ring. Ids of objects are the guest's to
choose: any number but 0 that is not in use. Bulk data lies in blobs, which are guest memory that
was granted to the context; with virtio-gpu a blob's id is its resource's.

## A packet

All numbers are little-endian. A packet is a multiple of 8 bytes:

| bytes | what |
|---|---|
| 2 | opcode |
| 2 | flags: 1 where an answer is wanted |
| 4 | size of the whole packet in bytes |
| 16 | only with flag 1, the answer's place: u64 offset in the blob, u32 blob, u32 room in bytes |
| ... | the fields' numbers in the order below, each aligned to its size; a list's is its count |
| ... | the elements of the lists in the same order, each list padded to 8 bytes |

The numbers too are padded to 8 bytes at their end. A count is a u32.

An answer is written before the submission's fence signals: i32 status (0, or an error of OpenCL),
u32 bytes of what follows, then the fields of the answer, laid out as above. Where they do not fit,
or the command failed, only the first 8 bytes are written.

A command that fails and was not to be answered leaves its error on its event, and in the context
until `get_error` takes it. A wrong packet is passed over; a packet whose size cannot be right ends
its stream.
"""

_TYPES = {"I": "u32", "i": "i32", "Q": "u64", "s": "u8"}


def reference() -> str:
    """The page."""
    lines = [_INTRODUCTION, "## Limits", "", "| name | value |", "|---|---|"]
    lines += [f"| `{name}` | {value} |" for name, value in limits().items()]
    lines += ["", "## Commands", ""]
    for kind in commands():
        lines += [f"### {kind.opcode:#06x} {kind.name}", ""]
        about = [document(kind)]
        if kind.function:
            about.append(f"Serves `{kind.function}`.")
        if kind.front_end:
            about.append("Only the MMIO ring has it.")
        if kind.answer_type is not NoAnswer:
            name = snake(kind.answer_type.__name__)
            about.append(f"Must be answered, with [{name}](#{name}).")
        lines += [" ".join(part for part in about if part), "", *_fields(kind)]
    lines += ["## Answers and other records", ""]
    for record in records():
        lines += [f"### {snake(record.__name__)}", "", document(record), "", *_fields(record)]
    return "\n".join(lines).rstrip() + "\n"


def _fields(kind: type[Record]) -> Iterator[str]:
    if not kind.layout.fields:
        yield "No fields."
        yield ""
        return
    yield "| field | type | what may stand there | error |"
    yield "|---|---|---|---|"
    for field in kind.layout.fields:
        meaning, error = _meaning(field)
        yield f"| `{field.name}` | {_type(field)} | {meaning} | {error} |"
    yield ""


def _type(field: FieldSpec) -> str:
    spec = field.spec
    if isinstance(spec, Counted):
        least = f"{spec.least} to " if spec.least else "up to "
        count = f"{spec.most}" if spec.least == spec.most else f"{least}{spec.most}"
        return f"list of {count} {_TYPES[spec.code]}"
    if isinstance(spec, Fixed):
        return f"{spec.count} {_TYPES[spec.code]}"
    return _TYPES[spec.code]


def _meaning(field: FieldSpec) -> tuple[str, str]:
    """What may stand in a field, and the error for what may not."""
    role, spec = field.role, field.spec
    if isinstance(role, New):
        zero = ", or 0 for none" if role.optional else ""
        return f"the id of the new {role.kind.label}{zero}", "INVALID_VALUE"
    if isinstance(role, Ref):
        kinds = {kind.label for kind in role.kinds}
        what = "object" if len(kinds) > 3 else " or ".join(sorted(kinds))
        article = "an" if what[0] in "aeiou" else "a"
        zero = ", or 0 for none" if role.optional else ""
        return f"the id of {article} {what}{zero}", role.status.name
    if isinstance(role, Blob):
        return "the id of a blob" + (", or 0 for none" if role.optional else ""), "INVALID_VALUE"
    if isinstance(spec, Number) and not spec.is_free:
        return _limit(spec), spec.error.name
    return "", ""


def _limit(number: Number) -> str:
    parts = []
    if number.mask is not None:
        parts.append(f"bits of {number.mask:#x}")
    if number.values is not None:
        parts.append(_named(number.values))
    if number.least is not None and number.most is not None:
        parts.append(f"{number.least} to {number.most}")
    elif number.least is not None:
        parts.append(f"{number.least} or more")
    elif number.most is not None:
        parts.append(f"{number.most} or less")
    return ", ".join(parts)


def _named(values: tuple[int, ...]) -> str:
    kinds: list[Any] = [opencl.ChannelOrder, opencl.ChannelType, opencl.MemObject]
    kinds += [opencl.AddressingMode, opencl.FilterMode]
    for kind in kinds:
        assert issubclass(kind, IntEnum | IntFlag)
        if set(values) <= {int(member) for member in kind}:
            return ", ".join(f"{kind(value).name} {value:#x}" for value in values)
    return ", ".join(f"{value:#x}" for value in values)


if __name__ == "__main__":
    sys.stdout.write(reference())

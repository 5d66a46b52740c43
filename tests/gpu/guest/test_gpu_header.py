"""The guest's C header against gpu.protocol: the same values give the same bytes, both ways."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.guest.header import header
from gpu.guest.records import commands, records, snake
from gpu.guest.reference import reference
from gpu.protocol import ANSWER_PLACE, AnswerPlace, Command, Record, decode
from gpu.protocol.fields import SIZES, Counted, Fixed, Number
from tests.effort import effort

ROOT = Path(__file__).parents[3]
NUMBERS = {"I": ctypes.c_uint32, "i": ctypes.c_int32, "Q": ctypes.c_uint64, "s": ctypes.c_uint8}
STREAM_WORDS = 1 << 15


class Place(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("blob", ctypes.c_uint32), ("size", ctypes.c_uint32)]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The header's functions, compiled for this host."""
    folder = tmp_path_factory.mktemp("header")
    lines = ['#include "gpu_protocol.h"']
    for kind in commands():
        name = kind.name
        lines.append(
            f"uint64_t encode_{name}(void *out, uint64_t room, const struct gpu_{name} *command,"
            " const struct gpu_answer_place *answer)"
            f" {{ return gpu_encode_{name}(out, room, command, answer); }}"
        )
    for record in records():
        name = snake(record.__name__)
        lines.append(
            f"int decode_{name}(const void *data, uint64_t size, struct gpu_{name} *record)"
            f" {{ return gpu_decode_{name}(data, size, record); }}"
        )
    (folder / "header.c").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-Wall", "-Wextra", "-Werror"]
    command += ["-shared", "-fPIC", f"-I{ROOT / 'gpu' / 'guest'}", "-o", "header.so", "header.c"]
    # Without these zig would compile a C library and its sanitizer's, for half a minute.
    command += ["-nostdlib", "-fsanitize-trap=undefined"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "header.so"))


def structure(kind: type[Record]) -> type[ctypes.Structure]:
    """The C structure of a record."""
    fields: list[tuple[str, Any]] = []
    for field in kind.layout.fields:
        number = NUMBERS[field.spec.code]
        if isinstance(field.spec, Counted):
            fields.append((field.name, ctypes.POINTER(number)))
            fields.append((f"{field.name}_count", ctypes.c_uint32))
        elif isinstance(field.spec, Fixed):
            fields.append((field.name, number * field.spec.count))
        else:
            fields.append((field.name, number))
    return type(kind.__name__, (ctypes.Structure,), {"_fields_": fields})


def filled(kind: type[Record], values: dict[str, Any]) -> ctypes.Structure:
    """The C structure with these values in it."""
    found = structure(kind)()
    for field in kind.layout.fields:
        value, number = values[field.name], NUMBERS[field.spec.code]
        if isinstance(field.spec, Counted):
            setattr(found, field.name, (number * len(value))(*value))
            setattr(found, f"{field.name}_count", len(value))
        elif isinstance(field.spec, Fixed):
            setattr(found, field.name, (number * field.spec.count)(*value))
        else:
            setattr(found, field.name, value)
    return found


def read_back(kind: type[Record], found: Any) -> dict[str, Any]:
    """The values in a C structure."""
    values: dict[str, Any] = {}
    for field in kind.layout.fields:
        value = getattr(found, field.name)
        if isinstance(field.spec, Counted):
            elements = value[: getattr(found, f"{field.name}_count")]
            values[field.name] = bytes(elements) if field.spec.code == "s" else tuple(elements)
        elif isinstance(field.spec, Fixed):
            values[field.name] = tuple(value)
        else:
            values[field.name] = value
    return values


def numbers(spec: Number | Fixed | Counted) -> st.SearchStrategy[int]:
    bits = 8 * SIZES[spec.code]
    if spec.code == "i":
        least, most = -(1 << 31), (1 << 31) - 1
    else:
        least, most = 0, (1 << bits) - 1
    if isinstance(spec, Number):
        if spec.values is not None:
            return st.sampled_from(spec.values)
        if spec.mask is not None:
            return st.integers(0, spec.mask).map(lambda value: value & spec.mask)
        least = spec.least if spec.least is not None else least
        most = spec.most if spec.most is not None else most
    return st.integers(least, most)


def values_of(kind: type[Record]) -> st.SearchStrategy[dict[str, Any]]:
    """Values that the fields of a record may have."""
    found: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.layout.fields:
        spec = field.spec
        if isinstance(spec, Counted):
            few = min(spec.most, spec.least + 40)
            if spec.code == "s":
                found[field.name] = st.binary(min_size=spec.least, max_size=few)
            else:
                elements = st.lists(numbers(spec), min_size=spec.least, max_size=few)
                found[field.name] = elements.map(tuple)
        elif isinstance(spec, Fixed):
            found[field.name] = st.tuples(*[numbers(spec)] * spec.count)
        else:
            found[field.name] = numbers(spec)
    return st.fixed_dictionaries(found)


PLACES = st.none() | st.builds(
    AnswerPlace, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)
)


@pytest.mark.parametrize("kind", commands(), ids=lambda kind: kind.name)
@settings(max_examples=effort(20, 500))
@given(data=st.data())
def test_command_is_encoded_as_the_device_decodes_it(
    library: ctypes.CDLL, kind: type[Command], data: st.DataObject
) -> None:
    values = data.draw(values_of(kind))
    place = data.draw(PLACES.filter(bool) if kind.must_answer else PLACES)
    out = (ctypes.c_uint64 * STREAM_WORDS)()
    c_place = Place(place.offset, place.blob, place.size) if place else None
    encode = library[f"encode_{kind.name}"]
    encode.restype = ctypes.c_uint64

    size = encode(
        out,
        ctypes.c_uint64(ctypes.sizeof(out)),
        ctypes.byref(filled(kind, values)),
        ctypes.byref(c_place) if c_place is not None else None,
    )
    written = bytes(out)[:size]
    (packet,) = decode(written)

    assert packet.command is not None, packet.reason
    assert packet.command.__dict__ == values
    assert packet.answer == place
    assert written == kind(**values).encode(place)


def test_packet_is_not_written_where_it_does_not_fit(library: ctypes.CDLL) -> None:
    out = (ctypes.c_uint8 * 64)(*[0xEE] * 64)
    command = filled(commands()[0], {})
    place = Place(0, 1, 64)
    library.encode_get_error.restype = ctypes.c_uint64

    size = library.encode_get_error(
        out, ctypes.c_uint64(16), ctypes.byref(command), ctypes.byref(place)
    )

    assert size == 8 + ANSWER_PLACE.size
    assert bytes(out) == b"\xee" * 64


@pytest.mark.parametrize("kind", records(), ids=lambda kind: kind.__name__)
@settings(max_examples=effort(20, 500))
@given(data=st.data())
def test_record_is_decoded_as_the_device_wrote_it(
    library: ctypes.CDLL, kind: type[Record], data: st.DataObject
) -> None:
    values = data.draw(values_of(kind))
    written = kind(**values).pack()
    memory = ctypes.create_string_buffer(written, len(written) + 8)
    found = structure(kind)()

    right = library[f"decode_{snake(kind.__name__)}"](
        memory, ctypes.c_uint64(len(written)), ctypes.byref(found)
    )

    assert right == 1
    assert read_back(kind, found) == values


@pytest.mark.parametrize("kind", records(), ids=lambda kind: kind.__name__)
@settings(max_examples=effort(20, 500))
@given(data=st.data())
def test_record_that_breaks_off_is_refused(
    library: ctypes.CDLL, kind: type[Record], data: st.DataObject
) -> None:
    written = kind(**data.draw(values_of(kind))).pack()
    size = data.draw(st.integers(0, len(written) // 8 - 1)) * 8
    memory = ctypes.create_string_buffer(written, len(written) + 8)

    right = library[f"decode_{snake(kind.__name__)}"](
        memory, ctypes.c_uint64(size), ctypes.byref(structure(kind)())
    )

    assert right == 0


def test_header_is_current() -> None:
    committed = ROOT / "gpu" / "guest" / "gpu_protocol.h"
    assert committed.read_text() == header(), "write it anew: make docs"


def test_reference_page_is_current() -> None:
    committed = ROOT / "docs" / "gpu-protocol.md"
    assert committed.read_text() == reference(), "write it anew: make docs"

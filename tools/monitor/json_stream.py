"""JSON objects out of a stream of bytes, whatever the other side sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 20
"""Bytes of one object."""

_QUOTE, _ESCAPE, _RESET = b'"'[0], b"\\"[0], 0xFF


@dataclass(frozen=True)
class Garbage:
    """Input that is no JSON object: the sentence for who sent it."""

    reason: str


class JsonStream:
    """Cuts objects out of what is fed. A byte 0xFF, which JSON cannot have, begins anew."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._object = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any] | Garbage]:
        for byte in data:
            if byte == _RESET:
                self._begin()
            elif self._skipping:
                self._skipping = byte != 0x0A
            elif not self._depth and byte in b" \t\r\n":
                continue
            elif not self._depth and byte not in b"{":
                self._skipping = True
                yield Garbage("JSON parse error, expecting an object")
            else:
                self._object.append(byte)
                self._count(byte)
                if not self._depth:
                    whole = bytes(self._object)
                    self._begin()
                    yield _parse(whole)
                elif len(self._object) > LARGEST:
                    self._begin()
                    self._skipping = True
                    yield Garbage(f"JSON parse error, more than {LARGEST} bytes in one object")

    def _count(self, byte: int) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif byte == _ESCAPE:
                self._escaped = True
            elif byte == _QUOTE:
                self._in_string = False
        elif byte == _QUOTE:
            self._in_string = True
        elif byte in b"{[":
            self._depth += 1
        elif byte in b"}]":
            self._depth -= 1


def _parse(data: bytes) -> dict[str, Any] | Garbage:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        return Garbage(f"JSON parse error, {error}")
    return found if isinstance(found, dict) else Garbage("JSON parse error, expecting an object")

"""Names of a Linux kernel's functions, from the tables that it carries for its own reports.

The layout is that of the kernel's scripts/kallsyms.c as of Linux 6.12 and 7.2: a count, packed
names, a marker for every 256th of them, the 256 tokens they are packed with, an index of those,
then 32-bit addresses. Linux 6.1 has the addresses first, and what they are counted from. Nothing
points to the tables, so they are found by what must be in them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy takes a fifth of a start, and most runs look up no name
    import numpy as np
    import numpy.typing as npt

LINK_ADDRESS = {"riscv64": 0xFFFF_FFFF_8000_0000, "aarch64": 0xFFFF_8000_8000_0000}
"""Where kernels run when nothing randomizes it."""
_EARLIER_LINK_ADDRESS = {"aarch64": ((6, 5), 0xFFFF_8000_0800_0000)}
"""The same before a version of Linux."""

_DIGITS = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0"
_FIRST_DIGIT = ord("0")
_TOKENS = 256
_PER_MARKER = 256
_NAME_LIMIT = 1 << 10
_CANDIDATES = 64
_MOST_MARKERS = 2048
_KASLR_STEP = 0x1_0000
"""Distances by which a kernel may be moved are multiples of this (64 KiB, AArch64)."""


@dataclass(frozen=True)
class _Tables:
    offsets: npt.NDArray[np.int64]
    """Distance of each symbol from the first, ascending."""
    names: int
    markers: list[int]
    tokens: list[bytes]


class KernelSymbols:
    """Symbols of a kernel `Image` that runs at the virtual address `base`; found when asked."""

    def __init__(
        self, image: bytes, base: int, anchor: Callable[[bytes], tuple[str, int]] | None = None
    ) -> None:
        """`anchor` names a symbol and its distance from the image's start, for kernels whose first
        symbol is not there."""
        self._image = image
        self._anchor = anchor
        self.base = base
        """Virtual address of the image's start."""

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The symbol at or before `address` and the distance from it; None outside the kernel."""
        tables = self._tables
        if tables is None:
            return None
        offset = address - self.base
        if not 0 <= offset < int(tables.offsets[-1]):
            return None
        index = int(tables.offsets.searchsorted(offset, side="right")) - 1
        start = int(tables.offsets[index])
        # Of several names for one address, always the same one.
        first = int(tables.offsets.searchsorted(start, side="left"))
        try:
            name = _name(self._image, tables, first)
        except (IndexError, UnicodeDecodeError):
            return None
        return name, offset - start

    def address_of(self, name: str) -> int | None:
        """The address of a symbol, None where there is none of that name."""
        return next((address for address, _, own in self.all() if own == name), None)

    def all(self) -> Iterator[tuple[int, str, str]]:
        """Every symbol: its address, its type as `nm` prints it, its name."""
        tables = self._tables
        if tables is None:
            return
        names = _names(self._image, tables)
        for offset, (kind, name) in zip(tables.offsets.tolist(), names, strict=True):
            yield self.base + offset, kind, name

    def place(self, name: str, address: int) -> int | None:
        """The kernel runs where symbol `name` is at `address`: how far that is from where it was
        believed to, by which all symbols move. None, and nothing moves, where that cannot be."""
        if self.lookup(address) == (name, 0):
            return 0
        try:
            believed = next((at for at, _, found in self.all() if found == name), None)
        except IndexError:  # the tables are damaged
            return None
        if believed is None or not address or (address - believed) % _KASLR_STEP:
            return None
        self.base += address - believed
        return address - believed

    @cached_property
    def _tables(self) -> _Tables | None:
        for _, place in zip(range(_CANDIDATES), _places(self._image), strict=False):
            try:
                tables = _read(self._image, place)
            except (IndexError, ValueError, struct.error):
                continue
            if tables is not None:
                return tables if self._anchor is None else self._anchored(tables)
        return None

    def _anchored(self, tables: _Tables) -> _Tables:
        assert self._anchor is not None
        name, distance = self._anchor(self._image)
        for offset, (_, found) in zip(tables.offsets, _names(self._image, tables), strict=True):
            if found == name:
                return replace(tables, offsets=tables.offsets + (distance - offset))
        return tables


def link_address(image: bytes, arch: str) -> int:
    """Where a kernel `Image` of `arch` runs when nothing randomizes it."""
    version = re.search(rb"Linux version (\d+)\.(\d+)", image)
    if version is not None and arch in _EARLIER_LINK_ADDRESS:
        since, address = _EARLIER_LINK_ADDRESS[arch]
        if (int(version[1]), int(version[2])) < since:
            return address
    return LINK_ADDRESS[arch]


def aarch64_anchor(image: bytes) -> tuple[str, int]:
    """An arm64 Image's second word is a branch to this function."""
    (word,) = struct.unpack_from("<I", image, 4)
    return "primary_entry", 4 + 4 * (word & 0x3FF_FFFF)


def _places(image: bytes) -> Iterator[int]:
    """Where the tokens of the digits may be: those always stand for themselves."""
    place = image.find(_DIGITS)
    while place >= 0:
        yield place
        place = image.find(_DIGITS, place + 1)


def _read(image: bytes, digits: int) -> _Tables | None:
    start = digits
    for _ in range(_FIRST_DIGIT + 1):
        start = image.rindex(b"\0", 0, start)
    start += 1
    tokens: list[bytes] = []
    positions: list[int] = []
    at = start
    for _ in range(_TOKENS):
        end = image.index(b"\0", at, at + _NAME_LIMIT)
        positions.append(at - start)
        tokens.append(image[at:end])
        at = end + 1
    index = struct.pack("<256H", *(position & 0xFFFF for position in positions))
    index_at = image.find(index, at, at + 8 + len(index))
    if index_at < 0:
        return None
    for markers, markers_at in _markers(image, start):
        tables = _behind_names(image, markers, markers_at, tokens, index_at + len(index))
        if tables is not None:
            return tables
    return None


def _behind_names(
    image: bytes, markers: list[int], markers_at: int, tokens: list[bytes], end: int
) -> _Tables | None:
    for names, count in _name_starts(image, markers, markers_at):
        offsets = _offsets(image, end, count)
        if offsets is None:
            offsets = _offsets_before(image, names, count)
        if offsets is not None:
            return _Tables(offsets, names, markers, tokens)
    return None


def _markers(image: bytes, end: int) -> Iterator[tuple[list[int], int]]:
    """The markers before `end`, and where they start. Linux 6.1 has a table between, of three bytes
    for each symbol, so that the number of markers says about where they end."""
    with suppress(ValueError):
        yield _markers_before(image, end)
    for number in range(2, _MOST_MARKERS):
        most = end - 3 * _PER_MARKER * (number - 1)
        for behind in range(most & ~3, max(most - 3 * _PER_MARKER - 8, 4 * number), -4):
            at = behind - 4 * number
            first, second = struct.unpack_from("<II", image, at)
            if first or not _PER_MARKER < second < _PER_MARKER * _NAME_LIMIT:
                continue
            markers = list(struct.unpack_from(f"<{number}I", image, at))
            if all(before < after for before, after in pairwise(markers)):
                yield markers, at


def _markers_before(image: bytes, end: int) -> tuple[list[int], int]:
    """The markers that end at `end`: ascending from zero."""
    at = end - 4
    (value,) = struct.unpack_from("<I", image, at)
    if value == 0:
        at -= 4
    markers: list[int] = []
    while not markers or markers[-1]:
        (value,) = struct.unpack_from("<I", image, at)
        if markers and value >= markers[-1]:
            raise ValueError("markers do not ascend")
        markers.append(value)
        at -= 4
    return markers[::-1], at + 4


def _name_starts(image: bytes, markers: list[int], end: int) -> Iterator[tuple[int, int]]:
    """Where the names may start, with their count, which stands before them."""
    latest = (end - markers[-1]) & ~3
    for names in range(latest, max(latest - _PER_MARKER * _NAME_LIMIT // 4, 8), -4):
        count, padding = struct.unpack_from("<II", image, names - 8)
        counts = {padding, count} if padding == 0 else {padding}
        for number in counts:
            if -(-number // _PER_MARKER) == len(markers) and _is_marked(image, names, markers):
                yield names, number


def _is_marked(image: bytes, names: int, markers: list[int]) -> bool:
    """Whether 256 names from `names` on end at the second marker."""
    if len(markers) < 2:
        return True
    at = names
    for _ in range(_PER_MARKER):
        at, length = _length(image, at)
        at += length
        if at > names + markers[1]:
            return False
    return at == names + markers[1]


def _offsets(image: bytes, at: int, count: int) -> npt.NDArray[np.int64] | None:
    """The addresses: counted from the kernel's start, or, as in 7.2, each from its own place."""
    import numpy as np

    for start in (at, at + -at % 8):
        if count == 0 or start + 4 * count > len(image):
            return None
        offsets = np.frombuffer(image, "<i4", count, start).astype(np.int64)
        if offsets[0] < 0:
            # The tables lie behind the code, so a distance back from them is negative.
            offsets += 4 * np.arange(count)
        if bool((np.diff(offsets) >= 0).all()) and offsets[-1] > offsets[0]:
            return np.asarray(offsets - offsets[0], dtype=np.int64)
    return None


def _offsets_before(image: bytes, names: int, count: int) -> npt.NDArray[np.int64] | None:
    """The addresses of Linux 6.1: they end where the base begins, which the count follows."""
    end = names - 16
    for start in (end - 4 * count, end - 4 * count - 4):
        if start >= 0 and (found := _offsets(image, start, count)) is not None:
            return found
    return None


def _length(image: bytes, at: int) -> tuple[int, int]:
    """The number of tokens of the name at `at`, and where they start: one byte or two."""
    length = image[at]
    if length & 0x80:
        return at + 2, length & 0x7F | image[at + 1] << 7
    return at + 1, length


def _names(image: bytes, tables: _Tables) -> Iterator[tuple[str, str]]:
    """Type and name of every symbol, in the order of the addresses."""
    at = tables.names
    for _ in range(len(tables.offsets)):
        at, length = _length(image, at)
        packed = image[at : at + length]
        at += length
        text = b"".join(tables.tokens[token] for token in packed).decode(errors="replace")
        yield text[:1], text[1:]


def _name(image: bytes, tables: _Tables, index: int) -> str:
    at = tables.names + tables.markers[index // _PER_MARKER]
    for _ in range(index % _PER_MARKER):
        at, length = _length(image, at)
        at += length
    at, length = _length(image, at)
    packed = image[at : at + min(length, _NAME_LIMIT)]
    # The first character is the symbol's type, as nm prints it.
    return b"".join(tables.tokens[token] for token in packed)[1:].decode()

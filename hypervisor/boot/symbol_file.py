"""An ELF file that holds nothing but symbols, for debuggers (System V ABI, chapter 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MACHINES = {"riscv64": 243, "aarch64": 183, "x86_64": 62}
_RISCV_DOUBLE_FLOAT = 4 | 1
"""e_flags: compressed instructions, floating-point arguments in double registers."""
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _STRTAB, _NOBITS = 2, 3, 8
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_OBJECT, _FUNCTION = 1, 2
_GLOBAL = 1 << 4
_CODE = "tTwW"
_TEXT_SECTION, _DATA_SECTION = 1, 2


class SymbolFileError(ValueError):
    """A symbol table cannot be used: one sentence."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name for an address; `kind` is its letter in `nm`'s output."""

    address: int
    kind: str
    name: str

    @property
    def is_code(self) -> bool:
        return self.kind in _CODE


def parse_system_map(text: str) -> list[Symbol]:
    """Symbols of a kernel's System.map, or of `nm`. Raises SymbolFileError, with the line."""
    symbols = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            address, kind, name = words[:3]
            symbols.append(Symbol(int(address, 16), kind, name))
        except ValueError:
            raise SymbolFileError(f"line {number} is not ADDRESS TYPE NAME: '{line}'") from None
    return symbols


def write_symbol_file(symbols: Iterable[Symbol], arch: str) -> bytes:
    """The file. Functions are in a section .text that spans them all and has no contents, since
    debuggers read code from the machine; the rest is in .data."""
    ordered = sorted(symbols, key=lambda symbol: symbol.address)
    if not ordered:
        raise SymbolFileError("there are no symbols")
    code = [symbol for symbol in ordered if symbol.is_code]
    data = [symbol for symbol in ordered if not symbol.is_code]
    names = bytearray(b"\0")
    table = bytearray(_SYMBOL.size)
    for group, section, kind in (
        (code, _TEXT_SECTION, _FUNCTION),
        (data, _DATA_SECTION, _OBJECT),
    ):
        for symbol, size in zip(group, _sizes(group), strict=True):
            binding = _GLOBAL if symbol.kind.isupper() else 0
            entry = (len(names), binding | kind, 0, section, symbol.address, size)
            table += _SYMBOL.pack(*entry)
            names += symbol.name.encode() + b"\0"
    table = _locals_first(table)
    titles = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0"
    bodies = [bytes(table), bytes(names), titles]
    places = []
    at = _HEADER.size
    for body in bodies:
        places.append(at)
        at += len(body) + -len(body) % 8
    locals_ = 1 + sum(1 for symbol in ordered if not symbol.kind.isupper())
    sections = [
        bytes(_SECTION.size),
        _span(titles, b".text", code, _ALLOC | _EXECUTE),
        _span(titles, b".data", data, _ALLOC | _WRITE),
        _section(titles, b".symtab", _SYMTAB, places[0], bodies[0], (4, locals_, 8, _SYMBOL.size)),
        _section(titles, b".strtab", _STRTAB, places[1], bodies[1], (0, 0, 1, 0)),
        _section(titles, b".shstrtab", _STRTAB, places[2], bodies[2], (0, 0, 1, 0)),
    ]
    flags = _RISCV_DOUBLE_FLOAT if arch == "riscv64" else 0
    header = _HEADER.pack(
        b"\x7fELF\2\1\1".ljust(16, b"\0"),
        *(2, _MACHINES[arch], 1, 0, 0, at, flags),
        *(_HEADER.size, 0, 0, _SECTION.size, len(sections), len(sections) - 1),
    )
    padded = [body + bytes(-len(body) % 8) for body in bodies]
    return b"".join([header, *padded, *sections])


def _sizes(ordered: Sequence[Symbol]) -> list[int]:
    """Each symbol reaches to the next higher address."""
    sizes = [0] * len(ordered)
    following = None
    for n in range(len(ordered) - 1, -1, -1):
        if n + 1 < len(ordered) and ordered[n + 1].address != ordered[n].address:
            following = ordered[n + 1].address
        sizes[n] = min(following - ordered[n].address, 1 << 20) if following is not None else 0
    return sizes


def _locals_first(table: bytearray) -> bytearray:
    """The order that the format asks for."""
    entries = [bytes(table[n : n + _SYMBOL.size]) for n in range(0, len(table), _SYMBOL.size)]
    entries[1:] = sorted(entries[1:], key=lambda entry: entry[4] >> 4)
    return bytearray(b"".join(entries))


def _span(titles: bytes, title: bytes, group: Sequence[Symbol], flags: int) -> bytes:
    start = group[0].address if group else 0
    size = group[-1].address - start + 1 if group else 0
    return _SECTION.pack(titles.index(title), _NOBITS, flags, start, 0, size, 0, 0, 1, 0)


def _section(
    titles: bytes, title: bytes, kind: int, at: int, body: bytes, rest: tuple[int, int, int, int]
) -> bytes:
    link, info, align, entry = rest
    return _SECTION.pack(titles.index(title), kind, 0, 0, at, len(body), link, info, align, entry)

"""ELF programs: segments, entry and symbols.

Follows the System V ABI, "Object Files" (ELF header, program header, symbol table).
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from hypervisor.boot.loadable import SIZE_LIMIT, BootError, Loadable

_MACHINES = {"EM_RISCV": "riscv64", "EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
_PROGRAM_LIMIT = 1024
_SECTION_LIMIT = 65_536
_SYMBOL = struct.Struct("<IBBHQQ")
# What the library raises on damaged input, besides its own errors.
DAMAGED = (
    *(ELFError, ConstructError, struct.error, ValueError, KeyError, IndexError),
    *(OverflowError, TypeError, AttributeError, AssertionError, EOFError),
)


class Symbols:
    """Functions and objects by address, read from the symbol table when first asked."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The symbol at or before `address` and the distance from it; None outside all."""
        addresses, entries = self._table
        index = bisect_right(addresses, address) - 1
        if index < 0:
            return None
        name, size = entries[index]
        offset = address - addresses[index]
        # A symbol without a size, as in assembly, reaches to the next one.
        return (name, offset) if offset < (size or 1 << 20) else None

    @property
    def is_empty(self) -> bool:
        return not self._table[0]

    def address_of(self, name: str) -> int | None:
        """The address of a symbol, None where there is none of that name."""
        addresses, entries = self._table
        matches = (at for at, entry in zip(addresses, entries, strict=True) if entry[0] == name)
        return next(matches, None)

    @cached_property
    def _table(self) -> tuple[list[int], list[tuple[str, int]]]:
        try:
            symbols = _read_symbols(self._data)
        except DAMAGED:
            # Without symbols the program still runs.
            symbols = []
        symbols.sort()
        return [at for at, _, _ in symbols], [(name, size) for _, name, size in symbols]


def read_elf(data: bytes, name: str) -> Loadable:
    """The 64-bit little-endian program in `data`. Parts it only reserves (BSS) are zeroes.

    Segments are at their physical addresses. A position-independent program linked at address 0
    is one segment without an address.
    """
    try:
        return _read(data, name)
    except DAMAGED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BootError(f"{name}: its ELF structure is damaged ({reason})") from None


def _read(data: bytes, name: str) -> Loadable:
    if len(data) < 64:
        raise BootError(f"{name}: is cut short within its ELF header")
    # Both lists are checked before the library walks them.
    count, sections = struct.unpack_from("<H", data, 56)[0], struct.unpack_from("<H", data, 60)[0]
    if data[4] != 2 or data[5] != 1:
        raise BootError(f"{name}: is not a 64-bit little-endian ELF file")
    if count > _PROGRAM_LIMIT or sections > _SECTION_LIMIT:
        raise BootError(f"{name}: its ELF header is damaged: {count} program headers")
    elf = ELFFile(io.BytesIO(data))
    header = elf.header
    if header["e_type"] not in ("ET_EXEC", "ET_DYN"):
        raise BootError(f"{name}: is an ELF file of type {header['e_type']}, not a program")
    arch = _MACHINES.get(header["e_machine"])
    if arch is None:
        raise BootError(f"{name}: is a program for {header['e_machine']}, which cannot run here")
    parts = [elf.get_segment(index).header for index in range(count)]
    parts = [part for part in parts if part["p_type"] == "PT_LOAD" and part["p_memsz"]]
    if not parts:
        raise BootError(f"{name}: has nothing to load: no PT_LOAD segment")
    total = sum(part["p_memsz"] for part in parts)
    if total > SIZE_LIMIT:
        raise BootError(f"{name}: wants {total >> 20} MiB loaded; {SIZE_LIMIT >> 20} MiB at most")
    segments = sorted((part["p_paddr"], _contents(data, part, name)) for part in parts)
    entry = _physical_entry(header["e_entry"], parts, name)
    low = segments[0][0]
    size = max(at + len(contents) for at, contents in segments) - low
    for (at, contents), (after, _) in pairwise(segments):
        if at + len(contents) > after:
            raise BootError(f"{name}: its segments at {at:#x} and {after:#x} overlap")
    placed: list[tuple[int | None, bytes]] = list(segments)
    if header["e_type"] == "ET_DYN" and low == 0:
        if size > SIZE_LIMIT:
            raise BootError(f"{name}: spans {size >> 20} MiB; {SIZE_LIMIT >> 20} MiB at most")
        flat = bytearray(size)
        for at, contents in segments:
            flat[at : at + len(contents)] = contents
        placed = [(None, bytes(flat))]
    return Loadable(name, "elf", placed, entry, arch, size, symbols=Symbols(data))


def _contents(data: bytes, part: Any, name: str) -> bytes:
    start, size, room = part["p_offset"], part["p_filesz"], part["p_memsz"]
    if size > room:
        raise BootError(f"{name}: its ELF segment at {part['p_paddr']:#x} is larger than its room")
    if start + size > len(data):
        raise BootError(f"{name}: is cut short: {len(data)} of at least {start + size} bytes")
    return data[start : start + size] + bytes(room - size)


def _physical_entry(entry: int, parts: list[Any], name: str) -> int:
    """Kernels give a virtual entry: the segment that holds it says where that is in RAM."""
    for part in parts:
        if part["p_vaddr"] <= entry < part["p_vaddr"] + part["p_memsz"]:
            return int(entry - part["p_vaddr"] + part["p_paddr"])
    raise BootError(f"{name}: its entry {entry:#x} is in none of its segments")


def _read_symbols(data: bytes) -> list[tuple[int, str, int]]:
    """(address, name, size) of named functions, objects and untyped labels."""
    elf = ELFFile(io.BytesIO(data))
    table = elf.get_section_by_name(".symtab")
    if table is None:
        return []
    strings = elf.get_section(table["sh_link"]).data()
    start, size = table["sh_offset"], table["sh_size"]
    symbols = []
    for name, info, _, section, address, length in _SYMBOL.iter_unpack(
        data[start : start + size - size % _SYMBOL.size]
    ):
        # Mapping symbols such as $x and .L labels say nothing to a reader.
        if section == 0 or info & 0xF > 2 or strings[name : name + 1] in (b"\0", b"$", b"."):
            continue
        end = strings.find(b"\0", name, name + 1024)
        symbols.append((address, strings[name:end].decode("utf-8", "replace"), length))
    return symbols

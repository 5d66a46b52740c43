"""Names of code addresses: of the kernel's functions, of programs, of firmware.

Sources are what the machine booted (ELF symbols, the tables that a Linux kernel carries) and files:
ELF programs, and System.map as Linux's build writes it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypervisor.boot.kallsyms import KernelSymbols
from hypervisor.boot.loadable import Loadable, SymbolLookup
from hypervisor.boot.symbol_file import SymbolFileError, parse_system_map

if TYPE_CHECKING:
    from hypervisor.profile.convention import Convention

_ELF = b"\x7fELF"
_MAP_LIMIT = 1 << 26
"""Bytes that a System.map may have."""
_LONGEST = 1 << 24
"""Bytes of a function at most, in a map, which gives no sizes."""


class SymbolError(Exception):
    """A file of symbols that cannot be used: one sentence naming it."""


class MapSymbols:
    """Functions of a System.map."""

    def __init__(self, text: str, name: str) -> None:
        try:
            found = sorted((s.address, s.name) for s in parse_system_map(text) if s.is_code)
        except SymbolFileError as error:
            raise SymbolError(f"{name} is neither an ELF file nor a System.map: {error}") from None
        if not found:
            raise SymbolError(f"{name}: names no functions")
        self._addresses = [address for address, _ in found]
        self._names = [each for _, each in found]

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The function at or before `address` and the distance from it."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] > _LONGEST:
            return None
        return self._names[index], address - self._addresses[index]

    def address_of(self, name: str) -> int | None:
        """The address of a function, None where there is none of that name."""
        known = zip(self._addresses, self._names, strict=True)
        return next((address for address, own in known if own == name), None)


@dataclass(frozen=True)
class SymbolFile:
    """A file that names addresses: `PATH`, or `PATH@ADDRESS` for a program that was loaded
    `ADDRESS` bytes from where it was linked to."""

    path: str
    data: bytes
    symbols: SymbolLookup
    offset: int = 0

    @classmethod
    def load(cls, spec: str) -> SymbolFile:
        """Read an ELF file or a System.map. Raises SymbolError."""
        path, at, offset = spec.rpartition("@")
        if not at or not offset.lower().startswith("0x"):
            path, offset = spec, "0"
        try:
            distance = int(offset, 0)
        except ValueError:
            raise SymbolError(f"{spec}: '{offset}' is no address such as 0x5555_0000") from None
        try:
            if Path(path).stat().st_size > _MAP_LIMIT * 4:
                raise SymbolError(f"{path}: is larger than {_MAP_LIMIT >> 18} MiB")
            data = Path(path).read_bytes()
        except OSError as error:
            raise SymbolError(f"{path}: cannot be read ({error.strerror})") from None
        return cls(path, data, _read(data, path), distance)

    @property
    def is_program(self) -> bool:
        return self.data.startswith(_ELF)


def _read(data: bytes, path: str) -> SymbolLookup:
    if data.startswith(_ELF):
        from hypervisor.boot.elf import Symbols

        symbols = Symbols(data)
        if symbols.is_empty:
            raise SymbolError(f"{path}: has no symbols; it was stripped, or is damaged")
        return symbols
    if len(data) > _MAP_LIMIT or b"\0" in data[:4096]:
        raise SymbolError(f"{path}: is neither an ELF file nor a System.map")
    return MapSymbols(data.decode("utf-8", "replace"), path)


class SymbolTable:
    """Names for a machine's code addresses; looked up once each."""

    def __init__(
        self, programs: Iterable[Loadable], files: Sequence[SymbolFile], convention: Convention
    ) -> None:
        self._sources: list[tuple[SymbolLookup, int]] = [
            (file.symbols, file.offset) for file in files
        ]
        self._kernels: list[KernelSymbols] = []
        for program in programs:
            if isinstance(program.symbols, KernelSymbols):
                self._kernels.append(program.symbols)
            if program.symbols is not None:
                self._sources.append((program.symbols, 0))
        self._convention = convention
        self._is_placed = not self._kernels
        self._known: dict[int, tuple[str, int] | None] = {}

    def place_kernel(self, registers: Mapping[str, int]) -> None:
        """Learn where the kernel runs, which may be anywhere (KASLR), from a hart in it: its trap
        vector holds the address of a function whose name is known."""
        if self._is_placed or self._convention.mode(registers) != "kernel":
            return
        name, address = self._convention.vector(registers)
        for kernel in self._kernels:
            moved = kernel.place(name, address)
            if moved is not None:
                self._is_placed = True
                if moved:
                    self._known.clear()

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The function at or before `address`, and the distance from its start."""
        if address in self._known:
            return self._known[address]
        found = None
        for symbols, offset in self._sources:
            found = symbols.lookup(address - offset)
            if found is not None:
                break
        self._known[address] = found
        return found

    def function(self, address: int) -> int | None:
        """Where the function at `address` begins; None where no name is known."""
        found = self.lookup(address)
        return None if found is None else address - found[1]

    def name(self, address: int) -> str:
        """The function's name; the address's page where none is known."""
        found = self.lookup(address)
        return f"[{address & ~0xFFF:#x}]" if found is None else found[0]

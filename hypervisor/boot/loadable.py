"""What a boot file becomes: bytes and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SIZE_LIMIT = 256 << 20
"""Bytes that any boot file may have, and may unpack to."""


class BootError(Exception):
    """A file that cannot be booted, or RAM it does not fit: one sentence naming the file."""


class SymbolLookup(Protocol):
    def lookup(self, address: int) -> tuple[str, int] | None: ...
    def address_of(self, name: str) -> int | None: ...


@dataclass(frozen=True)
class Loadable:
    """A program ready to be placed in guest memory."""

    name: str
    """The file it came from, as the user wrote it."""
    kind: str
    """`linux`, `elf` or `raw`."""
    segments: Sequence[tuple[int | None, bytes]]
    """Guest-physical address and contents. None: the program runs wherever it is placed."""
    entry: int
    """Address of the first instruction; an offset into the segment where that has no address."""
    arch: str | None = None
    """`riscv64`, `aarch64` or None where the file does not say."""
    size: int = 0
    """Bytes of memory from the load address on, with what the file does not carry (BSS)."""
    text_offset: int = 0
    """Linux: distance of the load address from a 2 MiB boundary."""
    symbols: SymbolLookup | None = None

    @property
    def address(self) -> int | None:
        """The virtual address of the first byte when it runs, as far as that is known."""
        base = getattr(self.symbols, "base", None)
        return base if isinstance(base, int) else self.segments[0][0]

"""What a walk of page tables sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ReadEntry = Callable[[int], int | None]
"""Gives the 8 bytes at a guest-physical address, None where there is no RAM."""


@dataclass(frozen=True, slots=True)
class Step:
    """One table looked into."""

    level: int
    entry_address: int
    """Guest-physical address of the entry."""
    entry: int

"""Guest memory as a debugger sees it: RAM by virtual or physical address, with no trace left.

Devices are not touched: reading one may change it, and with it the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_PAGE = 4096
_TOP = 1 << 64


class GuestMemory:
    """RAM as one hart sees it, or with `hart` None by guest-physical address."""

    def __init__(self, machine: Machine, hart: int | None) -> None:
        self._machine = machine
        self._hart = None if hart is None else machine.cpu[hart]

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`, as many of `size` as can be read."""
        found = bytearray()
        for place, length in self._pieces(address, size):
            if place is None:
                break
            found += self._machine.memory.read(place, length)
        return bytes(found)

    def write(self, address: int, data: bytes) -> bool:
        """Store all of `data`, or nothing; whether all of it is RAM."""
        pieces = list(self._pieces(address, len(data)))
        if any(place is None for place, _ in pieces):
            return False
        done = 0
        for place, length in pieces:
            assert place is not None
            self._machine.memory.write(place, data[done : done + length])
            done += length
        return True

    def _pieces(self, address: int, size: int) -> Iterator[tuple[int | None, int]]:
        """Guest-physical address (None: no RAM is there) and length of each page's part."""
        end = min(address + size, _TOP)
        while address < end:
            length = min(_PAGE - address % _PAGE, end - address)
            place = address if self._hart is None else self._hart.translate(address)
            if place is not None and not self._machine.memory.contains(place, length):
                place = None
            yield place, length
            address += length

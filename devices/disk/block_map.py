"""Which blocks of a disk an overlay holds: one byte per block, searched at C speed.

The map lives in anonymous memory that the host only provides for what is touched.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

ABSENT, PRESENT = b"\0", b"\1"
PAGE = 4096

_ONES = PRESENT * (1 << 16)


class BlockMap:
    """`find` is mmap's: `map.find(ABSENT, first, end)` is the first such block or -1."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._bytes = mmap.mmap(-1, blocks, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.find = self._bytes.find
        self.dirty: set[int] = set()

    def __getitem__(self, block: int) -> int:
        return self._bytes[block]

    def mark(self, first: int, end: int) -> None:
        """Note that the overlay holds the blocks, and which pages of the map this changes."""
        for start in range(first, end, len(_ONES)):
            stop = min(end, start + len(_ONES))
            self._bytes[start:stop] = _ONES[: stop - start]
        if first < end:
            self.dirty.update(range(first // PAGE, (end - 1) // PAGE + 1))

    def runs(self, first: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cut a range into (first, end, present) pieces."""
        while first < end:
            present = self._bytes[first] == 1
            stop = self.find(ABSENT if present else PRESENT, first, end)
            stop = end if stop < 0 else stop
            yield first, stop, present
            first = stop

    def page(self, page: int) -> bytes:
        return self._bytes[page * PAGE : (page + 1) * PAGE]

    def restore(self, first: int, data: bytes) -> bool:
        """Take over a stored piece of the map; False when it is not one."""
        self._bytes[first : first + len(data)] = data
        return data.count(ABSENT) + data.count(PRESENT) == len(data)

    def close(self) -> None:
        self._bytes.close()

"""Copy-on-write over a base image.

The overlay's file is sparse: a map, one byte per block, and behind it the blocks at the places they
have on the disk. A block is either wholly in the overlay or not at all, so a write that covers an
absent block in part brings the rest of it from the base. A discarded block is a hole that is marked
present: it reads as zeroes.

Crash safety rests on one order. `flush` first syncs the blocks, then writes the changed pages of
the map, then syncs those. So whatever reaches the storage of an unfinished flush, and in whatever
order, a byte of the map says "present" only when its block is safe; and because such a byte only
ever turns from 0 to 1, any mixture of an old and a new page is a valid map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from devices.disk.block_map import ABSENT, PAGE, PRESENT, BlockMap
from devices.disk.hostfile import ZEROES, File, Stamp
from devices.disk.image import (
    Image,
    check_content_state,
    check_range,
    content_digest,
    content_state,
    refuse_write,
)
from devices.disk.overlay_state import load_changes, save_changes
from hypervisor.device import BackendError

MAX_SIZE = 8 << 40

_MIN_BLOCK = 4096
_MAX_BLOCKS = 64 << 20


def block_size_for(size: int) -> int:
    """4 KiB, and more for disks above 256 GiB so that the map never exceeds 64 MiB."""
    block = _MIN_BLOCK
    while -(-size // block) > _MAX_BLOCKS:
        block *= 2
    return block


class Overlay:
    """A writable disk over `base`, which is only read.

    `file` has the map at `map_offset` and the blocks at `data_offset`. With `durable` the changes
    outlive the machine; without, they are part of snapshots and nothing is ever synced.
    """

    format = "overlay"

    def __init__(
        self,
        base: Image,
        file: File,
        *,
        block_size: int,
        map_offset: int,
        data_offset: int,
        durable: bool,
        read_only: bool = False,
    ) -> None:
        if base.size > MAX_SIZE:
            raise BackendError(
                f"{base.path}: the disk of {base.size} bytes is too large for an overlay, "
                f"at most {MAX_SIZE} bytes (8 TiB) can have one"
            )
        self.base = base
        self.path = base.path
        self.size = base.size
        self.read_only = read_only
        self.block_size = block_size
        self._shift = block_size.bit_length() - 1
        self._file = file
        self._map_offset = map_offset
        self._data = data_offset
        self._durable = durable
        self._map = BlockMap(-(-base.size // block_size))
        self._identity: str | None = None
        self._lost: OSError | None = None
        if durable:
            self._read_map()

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        first = offset >> self._shift
        end = (offset + length + self.block_size - 1) >> self._shift
        if self._map.find(ABSENT, first, end) < 0:
            return self._file.read(self._data + offset, length)
        if self._map.find(PRESENT, first, end) < 0:
            return self.base.read(offset, length)
        parts = []
        for low, high, present in self._map.runs(first, end):
            start = max(offset, low << self._shift)
            stop = min(offset + length, high << self._shift)
            if present:
                parts.append(self._file.read(self._data + start, stop - start))
            else:
                parts.append(self.base.read(start, stop - start))
        return b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        length = len(data)
        self._check_write(offset, length)
        first = offset >> self._shift
        end = (offset + length + self.block_size - 1) >> self._shift
        if self._map.find(ABSENT, first, end) < 0:
            self._file.write(self._data + offset, data)
            return
        start, stop = first << self._shift, min(end << self._shift, self.size)
        before = after = b""
        if start < offset and not self._map[first]:
            before = self.base.read(start, offset - start)
        if offset + length < stop and not self._map[end - 1]:
            after = self.base.read(offset + length, stop - offset - length)
        if before or after:
            data = b"".join((before, data, after))
        self._file.write(self._data + offset - len(before), data)
        self._map.mark(first, end)

    def flush(self) -> None:
        if not self._durable or self.read_only:
            return
        self._sync()
        if self._map.dirty:
            for page in sorted(self._map.dirty):
                self._file.write(self._map_offset + page * PAGE, self._map.page(page))
            self._sync()
            self._map.dirty.clear()

    def discard(self, offset: int, length: int) -> None:
        self._check_write(offset, length)
        stop = offset + length
        first = (offset + self.block_size - 1) >> self._shift
        end = self._map.blocks if stop == self.size else stop >> self._shift
        if first >= end:
            self._zero(offset, stop)
            return
        self._zero(offset, first << self._shift)
        self._file.punch(self._data + (first << self._shift), (end - first) << self._shift)
        self._map.mark(first, end)
        self._zero(end << self._shift, stop)

    def write_zeroes(self, offset: int, length: int) -> None:
        self.discard(offset, length)

    def changes(self) -> Iterator[tuple[int, int]]:
        """The (start, end) ranges that the overlay holds, ascending."""
        for first, end, present in self._map.runs(0, self._map.blocks):
            if present:
                yield first << self._shift, min(end << self._shift, self.size)

    def stamps(self) -> list[Stamp]:
        return self.base.stamps()

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        blocks = -(-end // self.block_size)
        for first, stop, present in self._map.runs(start >> self._shift, blocks):
            begin, until = max(start, first << self._shift), min(end, stop << self._shift)
            if present:
                for low, high in self._file.data(self._data + begin, self._data + until):
                    yield low - self._data, high - self._data
            else:
                yield from self.base.data(begin, until)

    def identity(self) -> str:
        if not self._durable:
            return self.base.identity()
        if self._identity is None:
            self._identity = content_digest(self)
        return self._identity

    def save(self) -> Mapping[str, Any]:
        return content_state(self) if self._durable else save_changes(self)

    def load(self, state: Mapping[str, Any]) -> None:
        if self._durable:
            check_content_state(self, state)
        else:
            load_changes(self, state)

    def clear(self) -> None:
        """Forget all changes, as at the start of a temporary overlay."""
        self._file.punch(self._data, self._map.blocks << self._shift)
        self._map.close()
        self._map = BlockMap(self._map.blocks)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._durable = False
            self._file.close()
            self.base.close()

    def _check_write(self, offset: int, length: int) -> None:
        if self.read_only:
            raise refuse_write(self.path)
        check_range(self.size, offset, length)
        self._identity = None

    def _sync(self) -> None:
        # After one failed sync the host may drop the unwritten pages and report later syncs as
        # good, so no later flush may be acknowledged.
        if self._lost:
            raise self._lost
        try:
            self._file.sync()
        except OSError as error:
            self._lost = error
            raise

    def _zero(self, start: int, stop: int) -> None:
        while start < stop:
            step = min(len(ZEROES), stop - start)
            self.write(start, memoryview(ZEROES)[:step])
            start += step

    def _read_map(self) -> None:
        end = self._map_offset + self._map.blocks
        for start, stop in self._file.data(self._map_offset, end):
            for offset in range(start, stop, len(ZEROES)):
                piece = self._file.read(offset, min(len(ZEROES), stop - offset))
                if not self._map.restore(offset - self._map_offset, piece):
                    raise BackendError(
                        f"{self.path}: the map of its overlay is damaged near byte {offset}"
                    )

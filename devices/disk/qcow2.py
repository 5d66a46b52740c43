"""A qcow2 image as a read-only disk: standard, zero and compressed clusters, and a backing image.

QEMU docs/interop/qcow2.rst, "Cluster mapping". Nothing a table says is believed: offsets are
checked against the file, decompression stops at one cluster, and both caches are bounded. What is
wrong in a table is found when it is read and fails that read.
"""

from __future__ import annotations

import errno
import sys
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import zstandard

from devices.disk.hostfile import File, Stamp
from devices.disk.image import (
    Image,
    check_content_state,
    check_range,
    content_digest,
    content_state,
    refuse_write,
)
from devices.disk.qcow2_header import Header, read_header

L2_CACHE_BYTES = 16 << 20
CLUSTER_CACHE_BYTES = 16 << 20

_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_ZERO = 1
_ZSTD_WINDOW = 8 << 20

_ABSENT, _ZEROES, _DATA, _PACKED = range(4)


class Qcow2Disk:
    """Reads an image; `backing` is what shines through where the image holds nothing."""

    format = "qcow2"
    read_only = True

    def __init__(self, file: File, stamp: Stamp, header: Header, backing: Image | None) -> None:
        self.path = stamp.path
        self.size = header.size
        self.header = header
        self._file = file
        self._stamp = stamp
        self._backing = backing
        self._bits = header.cluster_bits
        self._cluster = 1 << header.cluster_bits
        self._l2_bits = header.cluster_bits - 3
        self._l1 = _table(file.read(header.l1_offset, header.l1_entries * 8))
        self._l2: OrderedDict[int, array[int]] = OrderedDict()
        self._l2_limit = max(2, L2_CACHE_BYTES >> self._bits)
        self._unpacked: OrderedDict[int, bytes] = OrderedDict()
        self._unpacked_limit = max(2, CLUSTER_CACHE_BYTES >> self._bits)
        self._decompress = _zstd if header.compression == "zstd" else _zlib
        self._identity: str | None = None

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        parts = []
        while length:
            kind, where, run = self._run(offset, length)
            if kind == _DATA:
                parts.append(self._file.read(where, run))
            elif kind == _PACKED:
                cluster = self._unpack(where)
                within = offset & (self._cluster - 1)
                parts.append(cluster[within : within + run])
            elif kind == _ABSENT and self._backing:
                parts.append(_read_padded(self._backing, offset, run))
            else:
                parts.append(bytes(run))
            offset += run
            length -= run
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        raise refuse_write(self.path)

    def flush(self) -> None:
        """Nothing is ever written."""

    def discard(self, offset: int, length: int) -> None:
        raise refuse_write(self.path)

    def write_zeroes(self, offset: int, length: int) -> None:
        raise refuse_write(self.path)

    def stamps(self) -> list[Stamp]:
        return [self._stamp, *(self._backing.stamps() if self._backing else [])]

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        while start < end:
            kind, _, run = self._run(start, end - start)
            if kind == _ABSENT and self._backing:
                yield from self._backing.data(start, min(start + run, self._backing.size))
            elif kind in (_DATA, _PACKED):
                yield start, start + run
            start += run

    def identity(self) -> str:
        if self._identity is None:
            self._identity = content_digest(self)
        return self._identity

    def save(self) -> Mapping[str, Any]:
        return content_state(self)

    def load(self, state: Mapping[str, Any]) -> None:
        check_content_state(self, state)

    def close(self) -> None:
        self._file.close()
        if self._backing:
            self._backing.close()

    def _run(self, offset: int, length: int) -> tuple[int, int, int]:
        """The kind, host position and length of the longest piece of one kind from `offset`."""
        index = offset >> self._bits
        within = offset & (self._cluster - 1)
        slot = index & ((1 << self._l2_bits) - 1)
        table = self._l2_table(index >> self._l2_bits)
        if table is None:
            return _ABSENT, 0, min(length, ((1 << self._l2_bits) - slot) * self._cluster - within)
        kind, where = self._entry(table[slot])
        run = self._cluster - within
        if kind != _PACKED:
            step = self._cluster if kind == _DATA else 0
            slots = len(table)
            follow = where
            while run < length and slot + 1 < slots:
                slot += 1
                follow += step
                if self._entry(table[slot]) != (kind, follow):
                    break
                run += self._cluster
            if kind == _DATA:
                where += within
        return kind, where, min(run, length)

    def _entry(self, entry: int) -> tuple[int, int]:
        if entry & _COMPRESSED:
            return _PACKED, entry & (_COMPRESSED - 1)
        if entry & _ZERO:
            if self.header.version < 3:
                raise self._damaged("a zero cluster is in a version 2 table")
            return _ZEROES, 0
        where = entry & _OFFSET
        if not where:
            return _ABSENT, 0
        self._check_place(where, "a cluster")
        return _DATA, where

    def _l2_table(self, index: int) -> array[int] | None:
        table = self._l2.get(index)
        if table is not None:
            self._l2.move_to_end(index)
            return table
        where = self._l1[index] & _OFFSET
        if not where:
            return None
        self._check_place(where, "an L2 table")
        table = _table(self._file.read(where, self._cluster))
        self._l2[index] = table
        if len(self._l2) > self._l2_limit:
            self._l2.popitem(last=False)
        return table

    def _unpack(self, descriptor: int) -> bytes:
        cluster = self._unpacked.get(descriptor)
        if cluster is not None:
            self._unpacked.move_to_end(descriptor)
            return cluster
        size_bits = self._bits - 8
        where = descriptor & ((1 << (62 - size_bits)) - 1)
        sectors = (descriptor >> (62 - size_bits)) + 1
        if where >= self._file.size:
            raise self._damaged(f"a compressed cluster at {where:#x} is outside the file")
        packed = self._file.read(where, sectors * 512 - (where & 511))
        try:
            cluster = self._decompress(packed, self._cluster)
        except (zlib.error, zstandard.ZstdError) as error:
            raise self._damaged(f"the compressed cluster at {where:#x}: {error}") from None
        if len(cluster) != self._cluster:
            raise self._damaged(f"the compressed cluster at {where:#x} is too short")
        self._unpacked[descriptor] = cluster
        if len(self._unpacked) > self._unpacked_limit:
            self._unpacked.popitem(last=False)
        return cluster

    def _check_place(self, where: int, what: str) -> None:
        if where & (self._cluster - 1):
            raise self._damaged(f"{what} at {where:#x} is not on a cluster's start")
        if where >= self._file.size:
            raise self._damaged(f"{what} at {where:#x} is outside the file")

    def _damaged(self, what: str) -> OSError:
        return OSError(errno.EIO, f"the qcow2 image is damaged: {what}", self.path)


def open_qcow2(
    file: File, stamp: Stamp, open_backing: Callable[[str, str | None], Image]
) -> Qcow2Disk:
    """Check the header and open the backing image, given its name and format, if there is one."""
    header = read_header(file, stamp.path)
    backing = None
    if header.backing_name is not None:
        backing = open_backing(header.backing_name, header.backing_format)
    return Qcow2Disk(file, stamp, header, backing)


def _table(data: bytes) -> array[int]:
    table = array("Q", data)
    if sys.byteorder == "little":
        table.byteswap()
    return table


def _zlib(packed: bytes, length: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, length)


def _zstd(packed: bytes, length: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(packed)
    return reader.read(length)


def _read_padded(image: Image, offset: int, length: int) -> bytes:
    inside = max(0, min(length, image.size - offset))
    if inside == length:
        return image.read(offset, length)
    return (image.read(offset, inside) if inside else b"") + bytes(length - inside)

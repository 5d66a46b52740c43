"""Snapshot files: a whole machine, to be restored in another process.

Layout (integers little-endian): magic, u32 version, u32 header length, u64 file length, header
(CBOR, zstd frame), pages (zstd frame: the 4 KiB pages the header lists, in order). Both frames
have checksums. The header names the description by digest, and every disk by the digest of the
bytes it does not carry.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cbor2
import zstandard

from hypervisor import state
from hypervisor.memory import PAGE

if TYPE_CHECKING:
    from hypervisor.machine import Machine

MAGIC = b"HVSNAP\r\n"
VERSION = 1
_PREFIX = struct.Struct("<8sIIQ")
_HEADER_LIMIT = 1 << 30
_CHUNK = 1 << 20


class SnapshotError(Exception):
    """A snapshot cannot be taken or used: one sentence naming the file."""


def save(machine: Machine, path: Path) -> None:
    """Write `machine` to `path`, which appears only when it is complete."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                _write(machine, file)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise SnapshotError(f"the snapshot cannot be written to {path}: {error.strerror}") from None


def dump(machine: Machine) -> bytes:
    """What `save` would write."""
    file = io.BytesIO()
    _write(machine, file)
    return file.getvalue()


def _write(machine: Machine, file: Any) -> None:
    memory = machine.memory
    pages = memory.pages()
    header = {
        "description": machine.description.digest,
        "ram": [memory.base, memory.size],
        "pages": struct.pack(f"<{len(pages)}Q", *pages),
        "state": state.save(machine),
    }
    packed = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(cbor2.dumps(header))
    file.write(bytes(_PREFIX.size))
    file.write(packed)
    _write_pages(memory.map, pages, file)
    length = file.tell()
    file.seek(0)
    file.write(_PREFIX.pack(MAGIC, VERSION, len(packed), length))


def _write_pages(ram: Any, pages: Sequence[int], file: Any) -> None:
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    with compressor.stream_writer(file, closefd=False) as stream:
        for start, end in _runs(pages):
            stream.write(ram[start:end])


def _runs(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Offsets of pages in a row, from and to, at most _CHUNK bytes at once."""
    start = end = -1
    for offset in pages:
        if offset == end and end - start < _CHUNK:
            end += PAGE
            continue
        if start >= 0:
            yield start, end
        start, end = offset, offset + PAGE
    if start >= 0:
        yield start, end


def load(machine: Machine, source: Path | bytes) -> None:
    """Make `machine` the one in the file, or in what `dump` gave. Nothing is changed unless it is
    whole and of this machine."""
    path = Path("in memory") if isinstance(source, bytes) else source
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            header = _read_header(file, path)
            start = file.tell()
            pages = struct.unpack(f"<{len(header['pages']) // 8}Q", header["pages"])
            _check(machine, header, pages, path)
            scratch = memoryview(bytearray(_CHUNK))
            _read_pages(file, pages, lambda start, end: scratch[: end - start], path)
            file.seek(start)
            _apply(machine, header, file, pages, path)
    except OSError as error:
        raise SnapshotError(f"the snapshot {path} cannot be read: {error.strerror}") from None


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or prefix[:8] != MAGIC:
        raise SnapshotError(f"{path} is not a snapshot file")
    _, version, length, whole = _PREFIX.unpack(prefix)
    if version != VERSION:
        raise SnapshotError(
            f"{path} is a snapshot of format {version}; this program reads {VERSION}"
        )
    if file.seek(0, os.SEEK_END) != whole or whole < _PREFIX.size + length:
        raise SnapshotError(f"the snapshot {path} is damaged: it is not of the length it had")
    file.seek(_PREFIX.size)
    try:
        header = cbor2.loads(_unpack(file.read(length)))
        if not isinstance(header, dict) or {"description", "ram", "pages", "state"} - set(header):
            raise ValueError
    except (zstandard.ZstdError, cbor2.CBORDecodeError, ValueError):
        raise SnapshotError(f"the snapshot {path} is damaged: its header cannot be read") from None
    return header


def _unpack(packed: bytes) -> bytes:
    """The header, if its size is sane: what the frame says of it is not believed."""
    unpacked = bytearray()
    with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
        while piece := stream.read(_CHUNK):
            unpacked += piece
            if len(unpacked) > _HEADER_LIMIT:
                raise ValueError
    return bytes(unpacked)


def _check(machine: Machine, header: dict[str, Any], pages: tuple[int, ...], path: Path) -> None:
    if header["description"] != machine.description.digest:
        raise SnapshotError(f"the snapshot {path} is of a machine with another description")
    if header["ram"] != [machine.memory.base, machine.memory.size]:
        raise SnapshotError(f"the snapshot {path} is of a machine with other RAM")
    if any(page % PAGE or page >= machine.memory.size for page in pages):
        raise SnapshotError(f"the snapshot {path} is damaged: it has pages outside RAM")
    try:
        state.check(machine, header["state"])
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise _misfit(path, error) from None


def _read_pages(
    file: BinaryIO,
    pages: Sequence[int],
    place: Callable[[int, int], memoryview],
    path: Path,
) -> None:
    """Read all pages to where `place` says for each run of them; SnapshotError where the file is
    short or its checksum is wrong."""
    try:
        decompressor = zstandard.ZstdDecompressor()
        with decompressor.stream_reader(file, read_size=_CHUNK, closefd=False) as stream:
            for start, end in _runs(pages):
                with place(start, end) as room:
                    done = 0
                    while done < len(room):
                        with room[done:] as rest:
                            count = stream.readinto(rest)
                        if not count:
                            raise SnapshotError(f"the snapshot {path} is truncated")
                        done += count
            if stream.read(1):
                raise SnapshotError(f"the snapshot {path} is damaged: it has too many pages")
    except zstandard.ZstdError:
        raise SnapshotError(f"the snapshot {path} is damaged: its pages cannot be read") from None


def _apply(
    machine: Machine, header: dict[str, Any], file: BinaryIO, pages: Sequence[int], path: Path
) -> None:
    machine.host.forget()
    machine.memory.clear()
    with machine.memory.view(machine.memory.base, machine.memory.size) as ram:
        _read_pages(file, pages, lambda start, end: ram[start:end], path)
    try:
        state.load(machine, header["state"])
    except (KeyError, ValueError, TypeError) as error:
        raise _misfit(path, error) from None


def _misfit(path: Path, error: Exception) -> SnapshotError:
    return SnapshotError(f"the snapshot {path} does not fit this machine: {error}")

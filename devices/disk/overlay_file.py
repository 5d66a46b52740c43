"""The files behind overlays: a temporary one, and the kept one with its header.

A kept overlay is, in this order: a header of 4096 bytes; the map, one byte per block, 0 absent or 1
present; and from the next MiB on the blocks, at the places they have on the disk. The header is a
magic of 16 bytes, the SHA-256 of the text that follows, its length (4 bytes, big-endian) and the
text, JSON. It is written once: the file gets its name only when it is complete and durable. The
last byte of the header's block, outside the digest, turns from 0 to 1 when a commit begins: from
then on the base is changing, and only the commit may go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

from devices.disk.detect import OVERLAY_MAGIC
from devices.disk.hostfile import (
    File,
    HostFile,
    create_beside,
    open_host_file,
    refusals,
    sync_directory,
)
from devices.disk.image import Image
from devices.disk.overlay import MAX_SIZE, Overlay, block_size_for
from hypervisor.device import BackendError

HEADER_BYTES = 4096

_VERSION = 1
_DATA_ALIGNMENT = 1 << 20
_COMMITTING = HEADER_BYTES - 1


@dataclass(frozen=True)
class Header:
    """What a kept overlay says about itself.

    `base_name` is a name in the overlay's own directory; `files` are the size and the time (ns) of
    each file that the base consists of.
    """

    size: int
    block_size: int
    map_offset: int
    data_offset: int
    base_name: str
    base_format: str
    files: tuple[tuple[int, int], ...]
    committing: bool = False


def open_temporary(base: Image, kind: type[Overlay] = Overlay) -> Overlay:
    """An overlay in a file without a name, gone at close however the process ends.

    It is made where TMPDIR says, else in /var/tmp: /tmp is often memory.
    """
    directory = os.environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else None)
    with refusals(directory or tempfile.gettempdir()):
        fd, name = tempfile.mkstemp(prefix="hypervisor-overlay-", dir=directory)
        os.unlink(name)
    file = HostFile(fd, name)
    try:
        return kind(
            base,
            file,
            block_size=block_size_for(base.size),
            map_offset=0,
            data_offset=0,
            durable=False,
        )
    except BaseException:
        file.close()
        raise


def open_kept(base: Image, path: str, *, read_only: bool) -> Overlay | Image:
    """Open the overlay at `path`, making it when it is not there; `base` alone if it need not be.

    An overlay is refused when its base is another one, or was changed since.
    """
    if not os.path.exists(path):
        if read_only:
            return base
        create_kept(base, path)
    file = open_host_file(path, writable=not read_only)
    try:
        if not file.is_linked_at(path):
            raise BackendError(f"{path}: the overlay was just committed or removed: start again")
        header = read_header(file, path)
        check_base(header, base, path)
        return over(base, file, header, read_only=read_only)
    except BaseException:
        file.close()
        raise


def over(base: Image, file: File, header: Header, *, read_only: bool) -> Overlay:
    """The overlay that a header describes."""
    return Overlay(
        base,
        file,
        block_size=header.block_size,
        map_offset=header.map_offset,
        data_offset=header.data_offset,
        durable=True,
        read_only=read_only,
    )


def create_kept(base: Image, path: str) -> None:
    """Make an empty overlay that appears at `path` complete and durable, or not at all."""
    with refusals(path):
        fd, temporary = create_beside(path)
        file = HostFile(fd, path)
        try:
            write_header(file, base)
            os.fsync(fd)
            os.link(temporary, path)
        except FileExistsError:
            pass  # another machine made it first: its lock decides who goes on
        finally:
            os.unlink(temporary)
            file.close()
        sync_directory(path)


def write_header(file: File, base: Image) -> Header:
    """Lay out an empty overlay of `base`."""
    if base.size > MAX_SIZE:
        raise BackendError(
            f"{base.path}: the disk of {base.size} bytes is too large for an overlay, at most "
            f"{MAX_SIZE} bytes (8 TiB) can have one"
        )
    block_size, map_offset, data_offset = _layout(base.size)
    text = json.dumps(
        {
            "version": _VERSION,
            "size": base.size,
            "block_size": block_size,
            "map_offset": map_offset,
            "data_offset": data_offset,
            "base_name": os.path.basename(base.path),
            "base_format": base.format,
            "files": [[stamp.size, stamp.mtime_ns] for stamp in base.stamps()],
        }
    ).encode()
    head = OVERLAY_MAGIC + hashlib.sha256(text).digest() + len(text).to_bytes(4, "big") + text
    file.write(0, head + bytes(HEADER_BYTES - len(head)))
    return _parse(text, base.path, committing=False)


def read_header(file: File, path: str) -> Header:
    """Read and check a header; BackendError when the file is not an overlay or is damaged."""
    head = file.read(0, HEADER_BYTES)
    if not head.startswith(OVERLAY_MAGIC):
        raise BackendError(
            f"{path}: the file is not an overlay, which a machine makes beside a disk that has "
            "overlay: keep"
        )
    at = len(OVERLAY_MAGIC)
    digest, length = head[at : at + 32], int.from_bytes(head[at + 32 : at + 36], "big")
    text = head[at + 36 : at + 36 + length]
    if length > HEADER_BYTES or hashlib.sha256(text).digest() != digest:
        raise _damaged(path)
    return _parse(text, path, committing=head[_COMMITTING] != 0)


def mark_committing(file: File) -> None:
    """Say durably that the base is about to change."""
    file.write(_COMMITTING, b"\1")
    file.sync()


def base_path(header: Header, overlay_path: str) -> str:
    """Where the overlay's base is."""
    return os.path.join(os.path.dirname(overlay_path), header.base_name)


def check_base(header: Header, base: Image, path: str) -> None:
    """Refuse a base that is not, as far as sizes and times tell, the one of the overlay."""
    if header.committing:
        raise BackendError(
            f"{path}: a commit of this overlay was interrupted: "
            f"finish it with `hypervisor disk commit {path}`"
        )
    now = base.stamps()
    then_is = f"a {header.base_format} disk of {header.size} bytes in {len(header.files)} file(s)"
    now_is = f"a {base.format} disk of {base.size} bytes in {len(now)} file(s)"
    if then_is != now_is:
        raise BackendError(
            f"{path}: the overlay belongs to {then_is}, {base.path} is {now_is}: bring the old one "
            "back, or remove the overlay to start afresh"
        )
    for (size, mtime_ns), stamp in zip(header.files, now, strict=True):
        if size != stamp.size:
            raise BackendError(
                f"{path}: {stamp.path} was changed after this overlay was made ({size} bytes "
                f"then, {stamp.size} now): bring it back, or remove the overlay to start afresh"
            )
        if mtime_ns != stamp.mtime_ns:
            seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
            raise BackendError(
                f"{path}: {stamp.path} was changed after this overlay was made: bring it back, or "
                "remove the overlay to start afresh, or if only the file's time is wrong, "
                f"`touch -d @{seconds}.{nanoseconds:09d} {stamp.path}`"
            )


def _parse(text: bytes, path: str, *, committing: bool) -> Header:
    """Take nothing on trust: the layout must be the one that this program makes for the size."""
    try:
        fields: dict[str, Any] = json.loads(text)
        version = fields["version"]
        if version != _VERSION:
            raise BackendError(
                f"{path}: the overlay has version {version}, this program knows {_VERSION}"
            )
        header = Header(
            size=int(fields["size"]),
            block_size=int(fields["block_size"]),
            map_offset=int(fields["map_offset"]),
            data_offset=int(fields["data_offset"]),
            base_name=os.path.basename(str(fields["base_name"])),
            base_format=str(fields["base_format"]),
            files=tuple((int(size), int(mtime_ns)) for size, mtime_ns in fields["files"]),
            committing=committing,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _damaged(path) from None
    layout = header.block_size, header.map_offset, header.data_offset
    if not 0 < header.size <= MAX_SIZE or layout != _layout(header.size):
        raise _damaged(path)
    return header


def _layout(size: int) -> tuple[int, int, int]:
    """The block size and where the map and the blocks are."""
    block_size = block_size_for(size)
    end = HEADER_BYTES - (-size // block_size)
    return block_size, HEADER_BYTES, -(-end // _DATA_ALIGNMENT) * _DATA_ALIGNMENT


def _damaged(path: str) -> BackendError:
    return BackendError(
        f"{path}: the header of the overlay is damaged: bring the file back from a copy, or remove "
        "it to start afresh"
    )

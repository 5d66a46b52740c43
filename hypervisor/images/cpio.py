"""The cpio archive format "newc" that Linux unpacks as its initramfs.

Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Every field of the header is
eight hexadecimal digits; names and contents are padded to four bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_MAGIC = b"070701"
_HEADER = 6 + 13 * 8
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Member:
    """One entry. `name` has no leading slash; `mode` includes the file type (stat.S_IFREG...)."""

    name: str
    mode: int
    data: bytes = b""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def write(members: Iterable[Member], mtime: int = 0) -> bytes:
    """The archive, a function of its arguments alone: inode numbers count up from one."""
    parts: list[bytes] = []
    for inode, member in enumerate(members, start=1):
        parts.append(_entry(member, inode, mtime))
    parts.append(_entry(Member(_TRAILER, 0), 0, 0))
    return b"".join(parts)


def read(archive: bytes) -> Iterator[Member]:
    """The members of an archive. Raises ValueError where it is damaged."""
    at = 0
    while True:
        header = archive[at : at + _HEADER]
        if len(header) < _HEADER or not header.startswith(_MAGIC):
            raise ValueError(f"no cpio header at byte {at}")
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        start = at + _HEADER
        name = archive[start : start + name_size - 1].decode("utf-8", "surrogateescape")
        body = _aligned(start + name_size)
        if body + size > len(archive):
            raise ValueError(f"the cpio member '{name}' is cut short")
        if name == _TRAILER:
            return
        data = archive[body : body + size]
        yield Member(name, fields[1], data, fields[2], fields[3], (fields[9], fields[10]))
        at = _aligned(body + size)


def _entry(member: Member, inode: int, mtime: int) -> bytes:
    if len(member.data) > 0xFFFF_FFFF:
        raise ValueError(f"'{member.name}' is larger than a cpio archive can hold (4 GiB)")
    name = member.name.encode("utf-8", "surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(member.mode) else 1
    fields = (
        inode, member.mode, member.uid, member.gid, links, mtime, len(member.data),
        0, 0, *member.device, len(name), 0,
    )  # fmt: skip
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(member.data)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))

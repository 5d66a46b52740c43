"""What raw, qcow2 and overlay disks have in common: the reading side, digests, snapshot states."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from devices.disk.hostfile import Stamp, all_zero
from hypervisor.device import BackendError, BlockBackend

SECTOR = 512

_PIECE = 1 << 16
_BATCH = 1 << 20


class Image(BlockBackend, Protocol):
    """A disk that can also be a base: it knows its empty ranges and the files it reads."""

    path: str
    format: str

    def stamps(self) -> list[Stamp]:
        """One stamp per file that the content comes from, this image's own first."""

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The (start, end) ranges that may hold anything but zeroes, ascending."""


def check_range(size: int, offset: int, length: int) -> None:
    """The last line of defence: a device checks first and answers its guest."""
    if offset < 0 or length < 0 or offset + length > size:
        raise OSError(errno.EINVAL, f"bytes {offset}+{length} are outside the disk of {size} bytes")


def refuse_write(path: str) -> OSError:
    return OSError(errno.EROFS, "the disk is read-only", path)


def content_digest(image: Image) -> str:
    """`sha256:` and a digest of the disk's content, whatever the format it is stored in.

    It covers the size and each 64 KiB piece that is not all zeroes, with its offset in 8 bytes:
    so a large empty disk costs nothing.
    """
    digest = hashlib.sha256(image.size.to_bytes(8, "big"))
    done = 0
    for start, end in image.data(0, image.size):
        start = max(done, start // _PIECE * _PIECE)
        done = min(-(-end // _PIECE) * _PIECE, image.size)
        for offset in range(start, done, _BATCH):
            batch = memoryview(image.read(offset, min(_BATCH, done - offset)))
            for at in range(0, len(batch), _PIECE):
                piece = batch[at : at + _PIECE]
                if not all_zero(piece):
                    digest.update((offset + at).to_bytes(8, "big"))
                    digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def content_state(image: Image) -> Mapping[str, Any]:
    """The snapshot state of a disk whose content stays in its file."""
    return {"kind": "content", "identity": image.identity()}


def check_content_state(image: Image, state: Mapping[str, Any]) -> None:
    """Refuse a snapshot that was taken of another content, or of another kind of overlay."""
    if state.get("kind") != "content":
        raise BackendError(
            f"{image.path}: the snapshot carries this disk's changes: "
            "restore it with `overlay: discard`"
        )
    then, now = state.get("identity"), image.identity()
    if then != now:
        raise BackendError(
            f"{image.path}: the disk has changed since the snapshot ({_short(then)} then, "
            f"{_short(now)} now): bring that content back, or take snapshots with "
            "`overlay: discard`, which carry the changes"
        )


def _short(identity: object) -> str:
    text = str(identity)
    return text[: len("sha256:") + 12]

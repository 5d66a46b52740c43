"""Opens a disk as a machine's description says."""

from __future__ import annotations

import os
import re
from typing import Literal

from devices.disk.detect import detect_format
from devices.disk.hostfile import open_host_file, refusals
from devices.disk.image import Image
from devices.disk.overlay_file import open_kept, open_temporary
from devices.disk.qcow2 import open_qcow2
from devices.disk.raw import RawDisk
from devices.disk.replayed import ReplayedDisk
from hypervisor.device import BackendError, BlockBackend

OverlayMode = Literal["none", "discard", "keep"]
Format = Literal["auto", "raw", "qcow2"]

_MAX_CHAIN = 16


def open_disk(
    path: str | os.PathLike[str],
    *,
    overlay: OverlayMode,
    read_only: bool,
    format: Format = "auto",
    replayed: bool = False,
) -> BlockBackend:
    """Open and lock a disk image.

    Without an overlay writes go to the file, which must be raw. `discard` collects them in a
    temporary file that is gone at close; `keep` in `<path>.overlay`, which is made when it is not
    there. `replayed`: the disk is the same for its guest, but no file is written. Raises
    BackendError with one sentence.
    """
    path = os.fspath(path)
    if replayed and overlay != "discard" and not read_only:
        return _open_replayed(path, overlay, format)
    if overlay == "none":
        if not read_only and os.path.exists(overlay_path(path)):
            raise BackendError(
                f"{path}: changes of this disk are kept in {overlay_path(path)} and would be lost "
                "by writing to it: say `overlay: keep`, or commit or remove the overlay"
            )
        return open_image(path, format, writable=not read_only)
    base = open_image(path, format, writable=False)
    try:
        with refusals(path):
            if overlay == "keep":
                return open_kept(base, overlay_path(path), read_only=read_only)
            if read_only:
                return base
            return open_temporary(base)
    except BaseException:
        base.close()
        raise


def _open_replayed(path: str, overlay: OverlayMode, format: Format) -> BlockBackend:
    base = open_image(path, format, writable=False)
    try:
        with refusals(path):
            if overlay == "keep":
                base = open_kept(base, overlay_path(path), read_only=True)
            return open_temporary(base, ReplayedDisk)
    except BaseException:
        base.close()
        raise


def overlay_path(path: str) -> str:
    """Where `overlay: keep` has the changes of the disk at `path`."""
    return f"{path}.overlay"


def open_image(path: str, format: str, *, writable: bool, depth: int = 0) -> Image:
    """Open an image without an overlay."""
    file = open_host_file(path, writable=writable)
    try:
        with refusals(path):
            kind = detect_format(file.read(0, 72), path) if format == "auto" else format
            if kind == "raw":
                return RawDisk(file, file.stamp, read_only=not writable, probed=format == "auto")
            if kind == "overlay":
                raise BackendError(
                    f"{path}: this file is an overlay: name the disk it belongs to, with "
                    "`overlay: keep`"
                )
            if writable:
                raise BackendError(
                    f"{path}: qcow2 images are only read: say `overlay: keep` or "
                    "`overlay: discard` to have writes, or `read_only: true`"
                )
            return open_qcow2(
                file,
                file.stamp,
                lambda name, backing: _open_backing(path, name, backing, depth + 1),
            )
    except BaseException:
        file.close()
        raise


def _open_backing(path: str, name: str, format: str | None, depth: int) -> Image:
    """Open what an image names as its backing file.

    An image may come from anywhere, so it may not point a guest at other files of the host: only
    at files in its own directory and below.
    """
    if depth >= _MAX_CHAIN:
        raise BackendError(
            f"{path}: its backing files are more than {_MAX_CHAIN} deep, or name each other in a "
            "circle"
        )
    if "\0" in name or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", name):
        raise BackendError(f"{path}: its backing file {name!r} is not a plain file name")
    if format not in ("raw", "qcow2"):
        said = f"is of format {format!r}" if format else "has no format named"
        raise BackendError(
            f"{path}: its backing file {name!r} {said}, it must be raw or qcow2: set it with "
            "`qemu-img rebase -u -F FORMAT -b FILE`"
        )
    directory = os.path.dirname(os.path.abspath(path))
    target = os.path.normpath(os.path.join(directory, name))
    if not target.startswith(os.path.join(directory, "")):
        raise BackendError(
            f"{path}: its backing file {name!r} is outside the directory of the image: move both "
            "into one directory, or make one image of them with `qemu-img convert`"
        )
    return open_image(target, format, writable=False, depth=depth)

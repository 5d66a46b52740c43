"""What `hypervisor disk info|create|commit` does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from devices.disk.detect import detect_format
from devices.disk.hostfile import (
    HostFile,
    all_zero,
    create_beside,
    open_host_file,
    refusals,
    sync_directory,
)
from devices.disk.image import SECTOR, Image
from devices.disk.opening import open_image, overlay_path
from devices.disk.overlay import Overlay
from devices.disk.overlay_file import (
    base_path,
    check_base,
    mark_committing,
    over,
    read_header,
)
from devices.disk.qcow2 import Qcow2Disk
from hypervisor.device import BackendError

Progress = Callable[[int, int], None]

_STEP = 1 << 20


@dataclass(frozen=True)
class DiskInfo:
    """A disk image as `hypervisor disk info` shows it. Sizes are bytes.

    `base` is what an overlay belongs to or a qcow2 image is backed by; `overlay` is the kept
    overlay found beside a disk; `changed` is how much an overlay holds; `committing` says that a
    commit of it was interrupted.
    """

    path: str
    format: str
    size: int
    allocated: int
    base: str | None = None
    overlay: str | None = None
    block_size: int | None = None
    compression: str | None = None
    version: int | None = None
    changed: int | None = None
    committing: bool = False


def create(path: str | os.PathLike[str], size: int) -> DiskInfo:
    """Make an empty raw disk, sparse; refuses to replace a file."""
    path = os.fspath(path)
    if size < SECTOR or size % SECTOR:
        raise BackendError(
            f"{path}: a disk's size must be a multiple of {SECTOR} bytes above zero, not {size}"
        )
    if size >= 1 << 63:
        raise BackendError(f"{path}: no file can have {size} bytes")
    with refusals(path):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise BackendError(f"{path}: the file is there already: remove it first") from None
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        sync_directory(path)
    return info(path)


def info(path: str | os.PathLike[str]) -> DiskInfo:
    """Describe a disk image or a kept overlay; BackendError when it cannot be used."""
    path = os.fspath(path)
    with refusals(path):
        file = open_host_file(path, writable=False)
        try:
            allocated = file.allocated()
            if detect_format(file.read(0, 72), path) == "overlay":
                return _overlay_info(path, file)
        finally:
            file.close()
        image = open_image(path, "auto", writable=False)
        try:
            beside = overlay_path(path)
            overlay = beside if os.path.exists(beside) else None
            if not isinstance(image, Qcow2Disk):
                return DiskInfo(path, image.format, image.size, allocated, overlay=overlay)
            return DiskInfo(
                path,
                image.format,
                image.size,
                allocated,
                base=image.header.backing_name,
                overlay=overlay,
                block_size=1 << image.header.cluster_bits,
                compression=image.header.compression,
                version=image.header.version,
            )
        finally:
            image.close()


def commit(
    path: str | os.PathLike[str],
    *,
    into: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> str:
    """Write an overlay's changes into its raw base and remove the overlay; returns the base's path.

    An interrupted commit is finished by running it again. With `into`, for any base, the merged
    disk becomes a new raw file instead, and base and overlay stay as they are. `progress` is called
    with bytes done and bytes in all.
    """
    path = os.fspath(path)
    progress = progress or (lambda done, total: None)
    with refusals(path):
        file = open_host_file(path, writable=True)
        try:
            if not file.is_linked_at(path):
                raise BackendError(f"{path}: the overlay was just committed or removed")
            if into is not None:
                return _flatten(path, file, os.fspath(into), progress)
            return _merge(path, file, progress)
        finally:
            file.close()


def _merge(path: str, file: HostFile, progress: Progress) -> str:
    header = read_header(file, path)
    where = base_path(header, path)
    if header.base_format != "raw":
        raise BackendError(
            f"{path}: its base {where} is {header.base_format}, which is only read: write the "
            f"merged disk to a new raw file with `hypervisor disk commit {path} --into FILE`"
        )
    base = open_image(where, "raw", writable=True)
    try:
        if header.committing and base.size != header.size:
            raise BackendError(
                f"{path}: its base {where} has {base.size} bytes now, {header.size} when the "
                "commit began: bring that file back"
            )
        if not header.committing:
            check_base(header, base, path)
            mark_committing(file)
        overlay = over(base, file, header, read_only=True)
        _copy(overlay, list(overlay.changes()), base, progress)
        base.flush()
        os.unlink(path)
        sync_directory(path)
    finally:
        base.close()
    return where


def _flatten(path: str, file: HostFile, into: str, progress: Progress) -> str:
    header = read_header(file, path)
    base = open_image(base_path(header, path), header.base_format, writable=False)
    try:
        check_base(header, base, path)
        overlay = over(base, file, header, read_only=True)
        with refusals(into):
            fd, temporary = create_beside(into)
            try:
                os.ftruncate(fd, overlay.size)
                target = open_image(temporary, "raw", writable=True)
                try:
                    _copy(overlay, list(overlay.data(0, overlay.size)), target, progress)
                    target.flush()
                finally:
                    target.close()
                os.fsync(fd)
                os.link(temporary, into)
            except FileExistsError:
                raise BackendError(f"{into}: the file is there already: remove it first") from None
            finally:
                os.close(fd)
                os.unlink(temporary)
            sync_directory(into)
    finally:
        base.close()
    return into


def _copy(
    overlay: Overlay, ranges: list[tuple[int, int]], target: Image, progress: Progress
) -> None:
    total = sum(end - start for start, end in ranges)
    done = 0
    for start, end in ranges:
        for offset in range(start, end, _STEP):
            data = overlay.read(offset, min(_STEP, end - offset))
            if all_zero(data):
                target.write_zeroes(offset, len(data))
            else:
                target.write(offset, data)
            done += len(data)
            progress(done, total)


def _overlay_info(path: str, file: HostFile) -> DiskInfo:
    header = read_header(file, path)
    where = base_path(header, path)
    changed = None
    if os.path.exists(where):
        base = open_image(where, header.base_format, writable=False)
        try:
            if base.size == header.size:
                overlay = over(base, file, header, read_only=True)
                changed = sum(end - start for start, end in overlay.changes())
        finally:
            base.close()
    return DiskInfo(
        path,
        "overlay",
        header.size,
        file.allocated(),
        base=where,
        block_size=header.block_size,
        changed=changed,
        committing=header.committing,
    )

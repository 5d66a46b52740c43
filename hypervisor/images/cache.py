"""Files that are either whole or absent, however many processes work at once.

Everything is made beside its place and renamed into it. A finished file's modification time is set
to a recorded value, so that a look at its size and time tells whether its digest must be checked
again: what anyone wrote to since is found, and nobody hashes gigabytes at every start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypervisor.images.errors import ImageError
from hypervisor.images.progress import Progress

FINISHED = 1_000_000_000
"""Modification time, in seconds, of a file whose digest was found right."""


def default_directory() -> Path:
    """`$XDG_CACHE_HOME/hypervisor`, or `~/.cache/hypervisor`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "hypervisor"
    try:
        return Path.home() / ".cache" / "hypervisor"
    except RuntimeError:
        raise ImageError("there is no home directory for images: set XDG_CACHE_HOME") from None


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path) -> None:
    """Mark a file as verified and not to be written to."""
    path.chmod(0o444)
    os.utime(path, (FINISHED, FINISHED))


def intact(path: Path, size: int, sha256: str, thorough: bool = False) -> bool:
    """Whether the file still has its content; hashed when its time says it was touched."""
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_size != size:
        return False
    if not thorough and status.st_mtime_ns == FINISHED * 1_000_000_000:
        return True
    if digest_of(path) != sha256:
        return False
    try:
        seal(path)
    except PermissionError:
        return True
    return True


def read_json(path: Path) -> Any:
    """The file's content, or None where it is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(value, file, indent=1, sort_keys=True)
    os.replace(file.name, path)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A scratch directory that takes the place of `target` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        discard(target)
        os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def discard(directory: Path) -> None:
    """Remove a directory, out of sight in one step first."""
    if directory.exists():
        grave = Path(tempfile.mkdtemp(prefix=".old-", dir=directory.parent))
        os.rename(directory, grave / "it")
        shutil.rmtree(grave, ignore_errors=True)


@contextmanager
def locked(directory: Path, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock: one process changes the cache at a time, and the others wait.

    What the host refuses in there (a full disk, a directory of someone else's) is an ImageError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ImageError(f"cannot use the image cache {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that is using the image cache", None)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        _sweep(directory)
        yield
    except OSError as error:
        place = error.filename or directory
        raise ImageError(f"cannot write to the image cache: {place}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Remove what a process that was killed left half made; who holds the lock is alone."""
    for half in directory.glob("*/.*-*"):
        shutil.rmtree(half, ignore_errors=True)

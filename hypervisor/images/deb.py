"""Reading Debian binary packages: deb(5), an `ar` archive with the files in `data.tar.*`.

Nothing in a package is trusted to stay inside: names are made relative, `..` is refused, and links,
devices and owners are only described, never created on the host.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import zstandard

from hypervisor.images.errors import ImageError

_AR_MAGIC = b"!<arch>\n"
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zstandard.ZstdError, EOFError, OSError)


@contextmanager
def open_data(package: Path) -> Iterator[tarfile.TarFile]:
    """The package's files as a tar stream, to be read once and in order. Raises ImageError."""
    with package.open("rb") as file:
        name, size = _find(file, package, "data.tar")
        with _decompressed(name, io.BufferedReader(_Slice(file, size))) as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r|") as tar:
                    yield tar
            except _DAMAGE as error:
                raise ImageError(f"the package {package.name} is damaged: {error}") from None


def member_path(name: str) -> str:
    """A name inside a package as a relative path without `./`; raises ImageError on `..`."""
    path = posixpath.normpath(name.lstrip("/"))
    if path == ".." or path.startswith("../"):
        raise ImageError(f"a package holds a file outside of its tree: '{name}'")
    return "" if path == "." else path


def _find(file: IO[bytes], package: Path, prefix: str) -> tuple[str, int]:
    """Position `file` at the content of the first ar member called `prefix*`."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ImageError(f"{package.name} is not a Debian package (no ar archive)")
    while header := file.read(60):
        if len(header) < 60 or header[58:60] != b"`\n" or not header[48:58].strip().isdigit():
            raise ImageError(f"the package {package.name} is damaged: bad ar header")
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size = int(header[48:58])
        if name.startswith(prefix):
            return name, size
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ImageError(f"the package {package.name} holds no {prefix}")


class _Slice(io.RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        if self._left and not data:
            raise EOFError("it is cut short")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def _decompressed(name: str, stream: io.BufferedReader) -> IO[bytes]:
    suffix = name.rpartition(".")[2]
    if suffix == "xz":
        return lzma.open(stream)
    if suffix == "zst":
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream))
    if suffix == "gz":
        return gzip.open(stream)  # type: ignore[return-value]
    if suffix == "bz2":
        return bz2.open(stream)
    if suffix == "tar":
        return stream
    raise ImageError(f"packages compressed with '{suffix}' are not supported")

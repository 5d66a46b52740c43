"""One Debian package unpacked in the cache.

`packages/<sha256>/files/` hold the contents of its regular files; `manifest.json` beside it says of
every entry what an unpacked package cannot show without root: mode, owner, link, device, digest.
"""

from __future__ import annotations

import fnmatch
import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hypervisor.images import cache, deb
from hypervisor.images.apt import Package
from hypervisor.images.errors import ImageError

_KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass(frozen=True)
class PackedFile:
    """One entry of an unpacked package; `kind` is file, directory, link, char, block or fifo."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: str = ""
    device: tuple[int, int] = (0, 0)


class Unpacked:
    """The files of one package, in the cache."""

    def __init__(self, package: Package, directory: Path, entries: Mapping[str, Any]) -> None:
        self.package = package
        self._directory = directory
        self._entries = entries

    @cached_property
    def entries(self) -> dict[str, PackedFile]:
        """Every entry by its path."""
        return {
            path: PackedFile(**{**entry, "device": tuple(entry["device"])})
            for path, entry in self._entries.items()
        }

    def glob(self, pattern: str) -> list[str]:
        """Paths of the regular files that match; `*` does not cross a `/`, `**` does."""
        return sorted(
            path
            for path, entry in self._entries.items()
            if entry["kind"] == "file" and path_matches(path, pattern)
        )

    def file(self, path: str) -> Path:
        """Where a regular file's content is on the host."""
        return self._directory / "files" / path

    def intact(self, path: str, thorough: bool = False) -> bool:
        """Whether a regular file still has the content it was unpacked with."""
        entry = self._entries[path]
        return cache.intact(self.file(path), entry["size"], entry["sha256"], thorough)


def unpack(archive: Path, target: Path) -> dict[str, Any]:
    """Write the regular files of a `.deb` under `target`; returns the manifest of all entries."""
    manifest: dict[str, Any] = {}
    with deb.open_data(archive) as tar:
        for member in tar:
            path = deb.member_path(member.name)
            if not path:
                continue
            if member.islnk():
                manifest[path] = dict(manifest[deb.member_path(member.linkname)])
                _copy(target, deb.member_path(member.linkname), path)
                continue
            kind = "file" if member.isfile() else _KINDS.get(member.type)
            if kind is None:
                raise ImageError(f"{archive.name} holds a file of an unknown type: '{path}'")
            entry = PackedFile(kind, member.mode & 0o7777, member.uid, member.gid)
            manifest[path] = asdict(entry)
            if kind == "file":
                content = tar.extractfile(member)
                assert content
                manifest[path].update(_store(content, target / path))
            elif kind == "link":
                manifest[path]["target"] = member.linkname
            elif kind in ("char", "block"):
                manifest[path]["device"] = [member.devmajor, member.devminor]
    return manifest


def path_matches(path: str, pattern: str) -> bool:
    """Whether a relative path matches; `*` stays inside one directory, `**` spans any number."""
    return _parts_match(path.split("/"), pattern.strip("/").split("/"))


def _parts_match(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_parts_match(path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return (
        bool(path)
        and fnmatch.fnmatchcase(path[0], pattern[0])
        and _parts_match(path[1:], pattern[1:])
    )


def _store(content: Any, path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        while block := content.read(1 << 20):
            digest.update(block)
            size += len(block)
            file.write(block)
    cache.seal(path)
    return {"size": size, "sha256": digest.hexdigest()}


def _copy(target: Path, source: str, path: str) -> None:
    place = target / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.hardlink_to(target / source)

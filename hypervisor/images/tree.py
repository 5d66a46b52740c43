"""A file tree to be put into an initramfs or a disk: described, never created on the host."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hypervisor.images.errors import ImageError

Kind = Literal["file", "directory", "link", "char", "block", "fifo"]

_TYPE = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}
_MAX_LINKS = 40


@dataclass(frozen=True)
class Node:
    """One entry; `data` is a file's content or the host file that holds it."""

    kind: Kind
    permissions: int
    uid: int = 0
    gid: int = 0
    data: bytes | Path = field(default=b"", repr=False)
    target: str = ""
    device: tuple[int, int] = (0, 0)

    @property
    def mode(self) -> int:
        """Permissions with the file type, as in stat(2)."""
        return _TYPE[self.kind] | self.permissions

    def content(self) -> bytes:
        """What an archive stores: a file's bytes, a link's target."""
        if self.kind == "link":
            return self.target.encode("utf-8", "surrogateescape")
        return self.data.read_bytes() if isinstance(self.data, Path) else self.data


def directory(permissions: int = 0o755) -> Node:
    """A directory of root's."""
    return Node("directory", permissions)


class Tree:
    """Nodes by path, relative and without `.` or `..`; links of directories are followed."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def add(self, path: str, node: Node) -> None:
        """Put a node at a path, replacing a file but not a directory; parents appear as needed."""
        place = self._place(path)
        if not place:
            return
        here = self._nodes.get(place)
        if here and "directory" in (here.kind, node.kind):
            if node.kind == "directory" and here.kind == "directory":
                self._nodes[place] = node
                return
            if node.kind == "directory" and here.kind == "link":
                return
            raise ImageError(f"'/{place}' cannot be both a {here.kind} and a {node.kind}")
        self._nodes[place] = node

    def get(self, path: str) -> Node | None:
        """The node at a path."""
        return self._nodes.get(self._place(path))

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Paths and nodes, every directory before what it holds."""
        yield from sorted(self._nodes.items(), key=lambda item: item[0].split("/"))

    def __len__(self) -> int:
        return len(self._nodes)

    def _place(self, path: str) -> str:
        """Where `path` really is: its parents made, and links among them followed."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        here = ""
        links = 0
        while len(parts) > 1:
            part = parts.pop(0)
            step = posixpath.dirname(here) if part == ".." else posixpath.join(here, part)
            node = self._nodes.get(step)
            if node and node.kind == "link":
                links += 1
                if links > _MAX_LINKS:
                    raise ImageError(f"'{path}' goes round in symbolic links")
                parts = [part for part in node.target.split("/") if part not in ("", ".")] + parts
                here = "" if node.target.startswith("/") else here
                continue
            if step and not node:
                self._nodes[step] = directory()
            if node and node.kind != "directory":
                raise ImageError(f"'{path}' cannot be inside of the {node.kind} '/{step}'")
            here = step
        if parts and parts[0] == "..":
            raise ImageError(f"'{path}' must not end in '..'")
        return posixpath.join(here, parts[0]) if parts else here

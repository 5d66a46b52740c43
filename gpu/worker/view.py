"""What a worker sees of the host's files: a root of its own, in which the few folders that OpenCL
needs appear read-only, and one small file system in memory to write to.

Needs a mount namespace. See mount_namespaces(7), pivot_root(2), mount_setattr(2).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from gpu.worker.system import check, libc, syscall

_MOUNT_SETATTR, _PIVOT_ROOT = 442, 155
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_RDONLY, _NOSUID, _NODEV = 1, 2, 4
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_RECURSIVE = 2, 4, 32, 4096, 16384
_MS_PRIVATE = 1 << 18
_MS_RDONLY = 1
_MNT_DETACH = 2
SCRATCH_BYTES = 256 << 20
SCRATCH_FILES = 1 << 14
OWN_PROCESSES = "/.processes"


class View:
    """A root that is being made at `root`, a folder of the host's."""

    def __init__(self, root: str) -> None:
        _mount("none", "/", "", _MS_RECURSIVE | _MS_PRIVATE)
        _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=4m,nr_inodes=4096")
        self._root = root
        self._shown: list[str] = []

    def scratch(self, path: str) -> None:
        """An empty folder at `path` that can be written to."""
        target = self._root + path
        os.makedirs(target, exist_ok=True)
        options = f"mode=700,size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES}"
        _mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
        self._shown.append(path)

    def show(self, paths: Iterable[str], at: str = "") -> None:
        """The host's files and folders, read-only, where they are, in the root or in a folder of
        it. Those that do not exist are left out."""
        for path in sorted(paths):
            self._links(path, at)
            self._bind(os.path.realpath(path), at, _RDONLY | _NOSUID | _NODEV)

    def show_devices(self, paths: Iterable[str], at: str = "") -> None:
        """Device files, which can be used."""
        for path in paths:
            self._bind(path, at, _NOSUID)

    def show_own_process(self) -> None:
        """/proc/self, and no more of /proc. Needs a PID namespace, and proc's `subset` (5.8)."""
        self.folder(OWN_PROCESSES)
        flags = _MS_NOSUID | _MS_NODEV | _MS_RDONLY
        _mount("proc", self._root + OWN_PROCESSES, "proc", flags, "subset=pid")
        self.folder("/proc")
        os.symlink(f"{OWN_PROCESSES}/self", self._root + "/proc/self")

    def reveal(self, path: str, at: str) -> None:
        """What is at `path` of the root, in a folder of the root too."""
        os.makedirs(self._root + at + path, exist_ok=True)
        _mount(self._root + path, self._root + at + path, "", _MS_BIND | _MS_RECURSIVE)

    def folder(self, path: str) -> None:
        os.makedirs(self._root + path, exist_ok=True)

    def file(self, path: str, contents: bytes, mode: int = 0o644) -> None:
        self.folder(os.path.dirname(path))
        with open(self._root + path, "wb") as file:
            file.write(contents)
        os.chmod(self._root + path, mode)

    def enter(self) -> None:
        """There is nothing else any more."""
        _mount("none", self._root, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        os.chdir(self._root)
        dot = ctypes.create_string_buffer(b".")
        syscall(_PIVOT_ROOT, ctypes.addressof(dot), ctypes.addressof(dot))
        check(libc.umount2(b".", _MNT_DETACH))
        os.chdir("/")

    def give_up(self) -> None:
        """The host's files stay as they were."""
        libc.umount2(self._root.encode(), _MNT_DETACH)

    def _bind(self, real: str, at: str, attributes: int) -> None:
        if not os.path.exists(real) or self._covers(at + real):
            return
        target = self._root + at + real
        if os.path.isdir(real):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "ab"):
                pass
        _mount(real, target, "", _MS_BIND | _MS_RECURSIVE)
        _restrict(target, attributes)
        self._shown.append(at + real)

    def _covers(self, path: str) -> bool:
        return any(path == shown or path.startswith(shown + "/") for shown in self._shown)

    def _links(self, path: str, at: str) -> None:
        """The symbolic links on the way to a path."""
        so_far = ""
        parts = path.strip("/").split("/")
        for index, part in enumerate(parts):
            so_far += "/" + part
            if self._covers(at + so_far):
                return
            if os.path.islink(so_far):
                target = os.readlink(so_far)
                link = self._root + at + so_far
                os.makedirs(os.path.dirname(link), exist_ok=True)
                if not os.path.lexists(link):
                    os.symlink(target, link)
                led_to = os.path.join(os.path.dirname(so_far), target, *parts[index + 1 :])
                self._links(os.path.normpath(led_to), at)
                return


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = [each.encode() or None for each in (source, target, kind, options)]
    check(libc.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[3]))


def _restrict(target: str, attributes: int) -> None:
    """All mounts from `target` on."""
    path = ctypes.create_string_buffer(target.encode())
    data = ctypes.create_string_buffer(struct.pack("<QQQQ", attributes, 0, 0, 0), 32)
    syscall(
        _MOUNT_SETATTR,
        _AT_FDCWD,
        ctypes.addressof(path),
        _AT_RECURSIVE,
        ctypes.addressof(data),
        32,
    )

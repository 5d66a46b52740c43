"""Kernel modules with all they depend on, in the order to load them.

A module names what it needs in its ELF section `.modinfo`: `depends=a,b` (symbols) and
`softdep=pre: c` (use it if it is there); see modinfo(8) and modprobe.d(5). Where a package ships
depmod's `modules.dep`, that is used instead. Modules are stored in the guest uncompressed: a guest
unpacks them far slower than the host.
"""

from __future__ import annotations

import gzip
import io
import lzma
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import zstandard

from hypervisor.images.errors import ImageError, nearest

_SIGNED = b"~Module signature appended~\n"
_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


@dataclass(frozen=True)
class Module:
    """One module of a closure; `path` is relative to /lib/modules/VERSION and ends in `.ko`."""

    name: str
    path: str
    data: bytes
    needs: tuple[str, ...]


class ModuleSet:
    """The modules of one kernel. `files` maps paths below the version's directory to readers."""

    def __init__(self, files: Mapping[str, Callable[[], bytes]]) -> None:
        self._files = files
        self._paths = {module_name(path): path for path in files if path.endswith(_SUFFIXES)}
        self._builtin = {module_name(line) for line in _lines(files, "modules.builtin")}
        self._shipped = dict(_shipped_dependencies(_lines(files, "modules.dep")))

    def closure(self, names: Iterable[str]) -> list[Module]:
        """The named modules and what they need, each after its dependencies.

        Modules that are built into the kernel are left out. Raises ImageError for an unknown one.
        """
        done: dict[str, Module] = {}
        for name in names:
            self._visit(module_name(name), done, (), required=True)
        return list(done.values())

    def _visit(
        self, name: str, done: dict[str, Module], chain: tuple[str, ...], required: bool
    ) -> None:
        if name in done or name in self._builtin or name in chain:
            return
        path = self._paths.get(name)
        if path is None:
            if not required:
                return
            needed = f", which '{chain[-1]}' needs," if chain else ""
            near = nearest(name, self._paths)
            raise ImageError(f"the kernel has no module '{name}'{needed}{near}")
        data = _decompress(path, self._files[path]())
        shipped = self._shipped.get(name)
        hard, soft = _needs(path, data) if shipped is None else (shipped, ())
        for other in hard:
            self._visit(other, done, (*chain, name), required=True)
        for other in soft:
            self._visit(other, done, (*chain, name), required=False)
        needs = tuple(other for other in (*hard, *soft) if other in done)
        done[name] = Module(name, path[: path.index(".ko") + 3], data, needs)


def module_name(path: str) -> str:
    """`kernel/fs/some-fs.ko.xz` as the kernel calls it: `some_fs`."""
    return posixpath.basename(path).split(".ko")[0].strip().replace("-", "_")


def without_signature(data: bytes) -> bytes:
    """A module without the signature appended to it (Linux, include/linux/module_signature.h).

    The kernel then need not hash the module, which takes a guest longer than all else about
    loading one; it says once that it is tainted.
    """
    if not data.endswith(_SIGNED):
        return data
    trailer = data[-len(_SIGNED) - 12 : -len(_SIGNED)]
    return data[: -len(_SIGNED) - 12 - int.from_bytes(trailer[8:], "big")]


def dependency_file(modules: Iterable[Module]) -> bytes:
    """`modules.dep` for modprobe: `path: dependencies`, the ones to load first coming last."""
    listed = list(modules)
    paths = {module.name: module.path for module in listed}
    order = {module.name: index for index, module in enumerate(listed)}
    needs = {module.name: module.needs for module in listed}
    lines = []
    for module in listed:
        everything = sorted(_all_needs(module.name, needs), key=lambda name: -order[name])
        lines.append(f"{module.path}:{''.join(' ' + paths[name] for name in everything)}\n")
    return "".join(lines).encode()


def _all_needs(name: str, needs: Mapping[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    todo = list(needs[name])
    while todo:
        other = todo.pop()
        if other not in found:
            found.add(other)
            todo += needs[other]
    return found


def _shipped_dependencies(lines: Iterable[str]) -> Iterable[tuple[str, tuple[str, ...]]]:
    for line in lines:
        path, _, needed = line.partition(":")
        yield module_name(path), tuple(module_name(other) for other in reversed(needed.split()))


def _needs(path: str, data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # Imported here: who only looks up an image need not wait for it.
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(".modinfo")
        info = section.data() if section else b""
    except ELFError as error:
        raise ImageError(f"the kernel module {path} is damaged: {error}") from None
    hard: list[str] = []
    soft: list[str] = []
    for item in info.decode("utf-8", "replace").split("\0"):
        key, _, value = item.partition("=")
        if key == "depends":
            hard += [module_name(name) for name in value.split(",") if name]
        elif key == "softdep" and value.startswith("pre:"):
            soft += [module_name(name) for name in value[4:].split("post:")[0].split()]
    return tuple(hard), tuple(soft)


def _decompress(path: str, data: bytes) -> bytes:
    try:
        if path.endswith(".xz"):
            return lzma.decompress(data)
        if path.endswith(".gz"):
            return gzip.decompress(data)
        if path.endswith(".zst"):
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (lzma.LZMAError, zstandard.ZstdError, EOFError, OSError) as error:
        raise ImageError(f"the kernel module {path} is damaged: {error}") from None
    return data


def _lines(files: Mapping[str, Callable[[], bytes]], name: str) -> list[str]:
    return files[name]().decode("utf-8", "replace").splitlines() if name in files else []

"""Build recipes: what goes into an initramfs or an ext4 disk, as YAML.

A recipe with a `base` adds to it: its mappings are joined to the base's, its other values replace
them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hypervisor.config.node import Node, merge
from hypervisor.config.problem import Problem
from hypervisor.images import documents
from hypervisor.images.documents import Strict
from hypervisor.images.packages import Request

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _octal(value: Any) -> Any:
    if not (isinstance(value, str) and re.fullmatch(r"0?[0-7]{3,4}", value)):
        raise ValueError(f'permissions are octal digits in quotes, such as "0755", not {value!r}')
    return int(value, 8)


def _bytes(value: Any) -> Any:
    match = re.fullmatch(r"(\d+)([KMG]?)", str(value))
    if not match:
        raise ValueError(f"a size is a number with K, M or G, such as 64M, not {value!r}")
    return int(match[1]) * _UNITS[match[2]]


def _absolute(value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith("/")):
        raise ValueError(f"a path in the guest begins with '/', unlike {value!r}")
    return value


Permissions = Annotated[int, BeforeValidator(_octal)]
Size = Annotated[int, BeforeValidator(_bytes)]
GuestPath = Annotated[str, BeforeValidator(_absolute)]


class FileContent(Strict):
    """A file's content, from exactly one place."""

    host: str | None = Field(None, description="a file, relative to the recipe")
    text: str | None = Field(None, description="the content itself")
    image: str | None = Field(None, description="an image's file, image:NAME/FILE")
    package: str | None = Field(None, description="a package; its dependencies are left out")
    path: str | None = Field(None, description="path inside the package; * and ** match")
    mode: Permissions | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"host": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> FileContent:
        given = [self.host, self.text, self.image, self.package]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of host, text, image, or package with path")
        if (self.package is None) != (self.path is None):
            raise ValueError("'package' and 'path' belong together")
        return self


class DeviceNode(Strict):
    """A device file."""

    type: Literal["char", "block"]
    major: int = Field(ge=0, lt=1 << 12)
    minor: int = Field(ge=0, lt=1 << 20)
    mode: Permissions = 0o600


class Recipe(Strict):
    """One image to build. All files belong to root unless a package says otherwise."""

    description: str = ""
    base: str | None = Field(None, description="a recipe to start from, relative to this one")
    format: Literal["initramfs", "ext4"]
    architecture: str = Field(description="Debian's name: riscv64, arm64, amd64")
    suites: list[str] = Field([], description="tried in this order")
    compress: Literal["none", "gzip"] = Field("none", description="initramfs only")
    size: Size | None = Field(None, description="ext4 only: the disk's size, such as 64M")
    label: str = Field("", max_length=16, description="ext4 only: the file system's label")
    partition: bool = Field(False, description="ext4 only: inside an MBR partition at 1 MiB")
    packages: list[str] = Field([], description="packages with what they depend on")
    exclude: list[str] = Field([], description="patterns of package files to leave out")
    parts: list[str] = Field([], description="made for the image by installed packages")
    kernel: str | None = Field(None, description="the catalogue's image that holds the modules")
    modules: list[str] = Field([], description="kernel modules, in the order to load them")
    signatures: Literal["keep", "drop"] = Field("keep", description="of the modules")
    directories: dict[GuestPath, Permissions | None] = {}
    files: dict[GuestPath, FileContent] = {}
    scripts: dict[GuestPath, str] = Field({}, description="executable files, as text")
    links: dict[GuestPath, str] = Field({}, description="symbolic links and their targets")
    nodes: dict[GuestPath, DeviceNode] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("directories"), list):
            return {**value, "directories": dict.fromkeys(value["directories"])}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.format == "ext4" and self.size is None:
            raise ValueError("an ext4 disk needs a 'size', such as 64M")
        if self.format == "ext4" and self.size is not None and self.size < 16 << 20:
            raise ValueError("an ext4 disk needs at least 16M, for its journal among others")
        if self.format == "initramfs" and self.size is not None:
            raise ValueError("'size' is for ext4 disks: an initramfs is as large as its files")
        if self.format == "initramfs" and self.partition:
            raise ValueError("'partition' is for ext4 disks")
        if self.modules and not self.kernel:
            raise ValueError("'modules' needs a 'kernel': the catalogue's image that holds them")
        if self._from_packages and not self.suites:
            raise ValueError("'suites' must name at least one suite to fetch packages from")
        return self

    @property
    def _from_packages(self) -> bool:
        return bool(self.packages or any(file.package for file in self.files.values()))

    @property
    def package_request(self) -> Request | None:
        """The packages to unpack whole, with their dependencies."""
        if not self.packages:
            return None
        return Request(
            self.architecture, tuple(self.suites), tuple(self.packages), dependencies=True
        )

    @property
    def file_request(self) -> Request | None:
        """The packages that single files are taken from."""
        names = tuple(sorted({file.package for file in self.files.values() if file.package}))
        return Request(self.architecture, tuple(self.suites), names) if names else None


def load_recipe(path: Path) -> Recipe:
    """Read a recipe and the one it is based on. Raises DescriptionError."""
    node = _joined(path, ())
    recipe = documents.check(Recipe, node)
    files = {name: content.host for name, content in recipe.files.items() if content.host}
    missing = [
        Problem(node.get("files", name).mark, f"files.{name}: there is no file '{host}'")  # type: ignore[union-attr]
        for name, host in files.items()
        if not Path(host).is_file()
    ]
    if missing:
        raise documents.wrong(missing)
    return recipe


def _joined(path: Path, above: tuple[Path, ...]) -> Node:
    node = documents.load(path)
    files = node.get("files")
    for content in files.value.values() if files and files.is_mapping else ():
        _place(content, path.parent.absolute())
    base = node.get("base")
    if base is None or not isinstance(base.value, str):
        return node
    base_path = path.parent / base.value
    chain = (*above, path.resolve())
    if base_path.resolve() in chain:
        said = f"base: the recipe '{base_path}' is based on itself"
        raise documents.wrong([Problem(base.mark, said)])
    if not base_path.is_file():
        said = f"base: there is no recipe '{base_path}'"
        raise documents.wrong([Problem(base.mark, said)])
    return merge(_joined(base_path, chain), node)


def _place(content: Node, directory: Path) -> None:
    """Make a host file's name absolute: it is relative to the recipe that says it."""
    host = content.get("host") if content.is_mapping else content
    if host is not None and isinstance(host.value, str):
        host.value = str(directory / host.value)

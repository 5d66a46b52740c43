"""The catalogue: names for guest images, and where each of their files comes from.

A machine description says `image:NAME/FILE`. The project's own catalogue is `configs/images.yaml`;
a user's own (`~/.config/hypervisor/images.yaml`) adds names and replaces those it repeats.
"""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from hypervisor.images import documents
from hypervisor.images.documents import Strict
from hypervisor.images.errors import DescriptionError, ImageError, nearest
from hypervisor.images.packages import Request

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


def _name(value: Any) -> Any:
    if not (isinstance(value, str) and _NAME.match(value)):
        raise ValueError(f"{value!r} is no name here (letters, digits and . _ + - after the first)")
    return value


Name = Annotated[str, BeforeValidator(_name)]


class FileSource(Strict):
    """Where one file of an image comes from: a path in a package, or a recipe to build."""

    path: str | None = Field(None, description="path inside the package; * and ** match")
    package: str | None = Field(None, description="a package other than the image's own")
    recipe: str | None = Field(None, description="build recipe, relative to the catalogue")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> FileSource:
        if (self.path is None) == (self.recipe is None):
            raise ValueError("give either a path inside a package, or a recipe")
        return self


class ImageEntry(Strict):
    """One image: a package (or a pattern of names) in the first suite that has it."""

    description: str = ""
    kind: Literal["kernel", "firmware", "initramfs", "disk"] = "kernel"
    architecture: str = Field(description="Debian's name: riscv64, arm64, amd64")
    suites: list[str] = Field([], description="tried in this order")
    package: str | None = Field(
        None, description="package name, or a pattern such as linux-*-arm64"
    )
    via: str | None = Field(None, description="metapackage whose dependencies patterns match")
    modules: list[str] = Field([], description="packages with the kernel's modules")
    files: dict[Name, FileSource]

    @model_validator(mode="after")
    def _packages_named(self) -> ImageEntry:
        from_packages = [name for name, file in self.files.items() if file.path is not None]
        for name in from_packages:
            if not (self.package or self.files[name].package):
                raise ValueError(f"the file '{name}' names no package, and the image has none")
        if (from_packages or self.modules) and not self.suites:
            raise ValueError("'suites' must name at least one suite to fetch packages from")
        return self

    def package_of(self, file: FileSource) -> str:
        """The package (or pattern) that holds a file given by its path."""
        name = file.package or self.package
        assert name
        return name

    @property
    def request(self) -> Request:
        """All packages of the image, to be resolved together."""
        named = [file.package for file in self.files.values() if file.package]
        wanted = [*([self.package] if self.package else []), *named, *self.modules]
        packages = tuple(dict.fromkeys(wanted))
        return Request(self.architecture, tuple(self.suites), packages, self.via)


class _CatalogueFile(Strict):
    images: dict[Name, ImageEntry]


class Reference(NamedTuple):
    """`image:NAME/FILE`."""

    image: str
    file: str

    def __str__(self) -> str:
        return f"image:{self.image}/{self.file}"


def parse_reference(text: str) -> Reference:
    """`image:NAME/FILE` or `NAME/FILE`. Raises ImageError."""
    image, slash, file = text.removeprefix("image:").partition("/")
    if not (slash and _NAME.match(image) and _NAME.match(file)):
        raise ImageError(f"'{text}' is not an image reference: write image:NAME/FILE")
    return Reference(image, file)


@dataclass(frozen=True)
class Located:
    """A catalogue's entry and the file that holds it."""

    entry: ImageEntry
    origin: Path

    def recipe(self, file: FileSource) -> Path:
        """The recipe of a built file."""
        assert file.recipe
        return self.origin.parent / file.recipe


class Catalogue:
    """Images by name. Later files replace entries of earlier ones."""

    def __init__(self, entries: Mapping[str, Located]) -> None:
        self._entries = dict(entries)

    @classmethod
    def load(cls, paths: Iterable[Path]) -> Catalogue:
        """Read catalogue files. Raises DescriptionError with every mistake in all of them."""
        entries: dict[str, Located] = {}
        errors: list[str] = []
        for path in paths:
            try:
                node = documents.load(path)
                file = documents.check(_CatalogueFile, node)
            except DescriptionError as error:
                errors += error.errors
                continue
            for name, entry in file.images.items():
                entries[name] = Located(entry, path)
        if errors:
            raise DescriptionError(errors)
        return cls(entries)

    @classmethod
    def default(cls) -> Catalogue:
        """The project's catalogue and, if there is one, the user's."""
        user = user_catalogue()
        return cls.load([project_catalogue(), *([user] if user.exists() else [])])

    def names(self) -> list[str]:
        """The images' names, sorted."""
        return sorted(self._entries)

    def located(self, name: str) -> Located:
        """An image's entry. Raises ImageError with the nearest name."""
        found = self._entries.get(name)
        if found is None:
            near = nearest(name, self._entries)
            raise ImageError(f"there is no image '{name}' in the catalogue{near}")
        return found

    def file(self, reference: Reference) -> tuple[Located, FileSource]:
        """One file of an image. Raises ImageError with the nearest name."""
        located = self.located(reference.image)
        source = located.entry.files.get(reference.file)
        if source is None:
            near = nearest(reference.file, located.entry.files)
            raise ImageError(
                f"the image '{reference.image}' has no file '{reference.file}'{near}"
                f" (it has {', '.join(sorted(located.entry.files))})"
            )
        return located, source


def project_catalogue() -> Path:
    """`configs/images.yaml` as installed."""
    return Path(str(importlib.resources.files("configs"))) / "images.yaml"


def user_catalogue() -> Path:
    """`$XDG_CONFIG_HOME/hypervisor/images.yaml`, or under `~/.config`."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".config"
    return home / "hypervisor" / "images.yaml"

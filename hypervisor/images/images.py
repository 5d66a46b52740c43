"""Guest images by name: what the command line and machine descriptions ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.images import cache
from hypervisor.images.apt import Package
from hypervisor.images.build import Builder
from hypervisor.images.catalogue import (
    Catalogue,
    FileSource,
    Located,
    Reference,
    parse_reference,
)
from hypervisor.images.errors import ImageError
from hypervisor.images.packages import PackageStore
from hypervisor.images.progress import Progress, silent
from hypervisor.images.unpacked import Unpacked, path_matches


@dataclass(frozen=True)
class ImageFile:
    """One file of an image: `path` is None until it is in the cache."""

    reference: Reference
    source: str
    path: Path | None
    package: Package | None


@dataclass(frozen=True)
class ImageInfo:
    """What `show` tells about an image."""

    name: str
    description: str
    kind: str
    architecture: str
    suites: tuple[str, ...]
    catalogue: Path
    files: tuple[ImageFile, ...]


class Images:
    """Fetches, builds and finds guest images; every method raises ImageError.

    `cache_dir` is `~/.cache/hypervisor` by default; `progress` is called with what is being done
    and how far it is; `sources` are apt source files to use in place of the host's.
    """

    def __init__(
        self,
        cache_dir: Path | None = None,
        catalogue: Catalogue | None = None,
        progress: Progress | None = None,
        sources: Sequence[Path] | None = None,
    ) -> None:
        self._directory = (cache_dir or cache.default_directory()).absolute()
        self._catalogue = Catalogue.default() if catalogue is None else catalogue
        self._progress = progress or silent
        self._store = PackageStore(self._directory, self._progress, sources)
        self._builder = Builder(
            self._directory,
            self._store,
            self._catalogue,
            self._file,
            self._lookup,
            self._progress,
        )

    def names(self) -> list[str]:
        """Names of the catalogue's images."""
        return self._catalogue.names()

    def path(self, reference: str) -> Path:
        """The file of `image:NAME/FILE` (or `NAME/FILE`), fetched or built if it is not cached.

        The file is read-only: disks among them serve as bases of overlays.
        """
        parsed = parse_reference(reference)
        self._catalogue.file(parsed)
        if found := self._lookup(reference):
            return found
        with cache.locked(self._directory, self._progress):
            return self._file(reference)

    def pull(self, name: str) -> dict[str, Path]:
        """Current versions of all files of image NAME, or of one file NAME/FILE, by file name."""
        image, _, one = name.removeprefix("image:").partition("/")
        located = self._catalogue.located(image)
        entry = located.entry
        if one:
            self._catalogue.file(Reference(image, one))
        chosen = {file: source for file, source in entry.files.items() if one in ("", file)}
        patterns = [entry.package_of(source) for source in chosen.values() if source.path]
        with cache.locked(self._directory, self._progress):
            if entry.request.packages:
                self._store.get(entry.request, patterns, refresh=True)
            return {
                file: self._build_or_find(located, source, Reference(image, file), refresh=True)
                for file, source in chosen.items()
            }

    def build(self, recipe: Path) -> Path:
        """The initramfs or disk a recipe describes, from the cache if its inputs are the same."""
        if found := self._builder.cached(recipe):
            return found
        with cache.locked(self._directory, self._progress):
            return self._builder.build(recipe)

    def show(self, name: str) -> ImageInfo:
        """What is known of an image, without fetching anything."""
        image, _, one = name.removeprefix("image:").partition("/")
        located = self._catalogue.located(image)
        if one:
            self._catalogue.file(Reference(image, one))
        entry = located.entry
        files = tuple(
            self._describe(located, source, Reference(image, file))
            for file, source in entry.files.items()
            if one in ("", file)
        )
        return ImageInfo(
            image,
            entry.description,
            entry.kind,
            entry.architecture,
            tuple(entry.suites),
            located.origin,
            files,
        )

    def _describe(self, located: Located, source: FileSource, reference: Reference) -> ImageFile:
        path = self._cached(located, source)
        if source.recipe:
            return ImageFile(reference, f"built from {located.recipe(source)}", path, None)
        package = located.entry.package_of(source)
        found = self._in_cache(located, source)
        return ImageFile(
            reference, f"{package}: {source.path}", path, found[0].package if found else None
        )

    def _lookup(self, reference: str) -> Path | None:
        return self._cached(*self._catalogue.file(parse_reference(reference)))

    def _cached(self, located: Located, source: FileSource) -> Path | None:
        if source.recipe:
            return self._builder.cached(located.recipe(source))
        found = self._in_cache(located, source)
        if not found or not found[0].intact(found[1]):
            return None
        return found[0].file(found[1])

    def _in_cache(self, located: Located, source: FileSource) -> tuple[Unpacked, str] | None:
        entry = located.entry
        wanted = entry.package_of(source)
        for package in self._store.resolution(entry.request) or []:
            unpacked = self._store.cached(package) if path_matches(package.name, wanted) else None
            if unpacked and (found := _find(unpacked, source)):
                return unpacked, found
        return None

    def _file(self, reference: str) -> Path:
        """As `path`, for who holds the lock."""
        parsed = parse_reference(reference)
        located, source = self._catalogue.file(parsed)
        return self._build_or_find(located, source, parsed, refresh=False)

    def _build_or_find(
        self, located: Located, source: FileSource, reference: Reference, refresh: bool
    ) -> Path:
        if source.recipe:
            return self._builder.build(located.recipe(source), refresh)
        entry = located.entry
        package = entry.package_of(source)
        for unpacked in self._store.get(entry.request, [package]):
            path = _find(unpacked, source)
            if path is None:
                continue
            if not unpacked.intact(path, thorough=refresh):
                self._progress(f"{reference} in the cache is damaged: fetching it again", None)
                self._store.forget(unpacked.package)
                return self._build_or_find(located, source, reference, refresh=False)
            return unpacked.file(path)
        raise ImageError(f"{reference}: no file of {package} matches '{source.path}'")


def _find(unpacked: Unpacked, source: FileSource) -> str | None:
    """The package's file that a catalogue's pattern means: the last match, as versions sort."""
    assert source.path
    matches = unpacked.glob(source.path)
    return matches[-1] if matches else None

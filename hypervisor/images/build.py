"""Building recipes: the same inputs give the same bytes, and are built once.

A build's key is the digest of everything that goes in: the recipe, the digests of its packages and
files, and the version of the program that lays out disks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypervisor.images import cache, cpio, ext4, parts
from hypervisor.images.catalogue import Catalogue
from hypervisor.images.errors import DamagedPackage, ImageError
from hypervisor.images.modules import ModuleSet, dependency_file, without_signature
from hypervisor.images.packages import PackageStore, Request
from hypervisor.images.progress import Progress
from hypervisor.images.recipe import FileContent, Recipe, load_recipe
from hypervisor.images.tree import Node, Tree, directory
from hypervisor.images.unpacked import PackedFile, Unpacked, path_matches

_FORMAT = 1
"""Raised when a change of this code changes what a recipe builds."""

_SUFFIX = {"initramfs": ".cpio", "ext4": ".ext4"}


@dataclass(frozen=True)
class _Wanted:
    """A request, and which of its packages the build uses."""

    request: Request
    patterns: tuple[str, ...] | None


class Builder:
    """Builds recipes into `directory`.

    `image_file` gives the path of an image's file, fetching it if need be; `cached_image` does not
    fetch.
    """

    def __init__(
        self,
        directory: Path,
        store: PackageStore,
        catalogue: Catalogue,
        image_file: Callable[[str], Path],
        cached_image: Callable[[str], Path | None],
        progress: Progress,
    ) -> None:
        self._directory = directory
        self._store = store
        self._catalogue = catalogue
        self._image_file = image_file
        self._cached_image = cached_image
        self._progress = progress

    def cached(self, recipe_path: Path) -> Path | None:
        """The built file if its inputs are known and it is in the cache, whole."""
        recipe = load_recipe(recipe_path)
        known: dict[str, list[str]] = {}
        for role, wanted in self._requests(recipe).items():
            packages = self._store.resolution(wanted.request)
            if packages is None:
                return None
            known[role] = [package.sha256 for package in packages]
        if any(self._cached_image(name) is None for name in _images(recipe)):
            return None
        return self._finished(recipe, known)

    def build(self, recipe_path: Path, refresh: bool = False) -> Path:
        """The built file, made now unless it is in the cache. Raises ImageError."""
        recipe = load_recipe(recipe_path)
        if not refresh and (done := self.cached(recipe_path)):
            return done
        try:
            return self._build(recipe, recipe_path.stem, refresh)
        except DamagedPackage as damage:
            self._progress(str(damage), None)
            return self._build(recipe, recipe_path.stem, refresh=False)

    def _build(self, recipe: Recipe, name: str, refresh: bool) -> Path:
        packages: dict[str, list[Unpacked]] = {}
        known: dict[str, list[str]] = {}
        for role, wanted in self._requests(recipe).items():
            refresh_this = refresh and role != "modules"  # these follow their kernel's image
            packages[role] = self._store.get(wanted.request, wanted.patterns, refresh_this)
            resolved = self._store.resolution(wanted.request) or []
            known[role] = [package.sha256 for package in resolved]
        if done := self._finished(recipe, known):
            return done
        self._progress(f"building {name}", None)
        key = self._key(recipe, known)
        target = self._directory / "built" / key
        name += _SUFFIX[recipe.format]
        with cache.new_directory(target) as scratch, TemporaryDirectory() as making:
            tree = self._tree(recipe, packages, Path(making))
            output = scratch / name
            if recipe.format == "ext4":
                assert recipe.size
                ext4.write(tree, output, recipe.size, recipe.label, key, recipe.partition)
            else:
                output.write_bytes(initramfs(tree, recipe.compress))
            manifest = {"name": name, "size": output.stat().st_size}
            cache.write_json(
                scratch / "manifest.json", {**manifest, "sha256": cache.digest_of(output)}
            )
            cache.seal(output)
        return target / name

    def _requests(self, recipe: Recipe) -> dict[str, _Wanted]:
        wanted: dict[str, _Wanted] = {}
        if request := recipe.package_request:
            wanted["packages"] = _Wanted(request, None)
        if request := recipe.file_request:
            wanted["files"] = _Wanted(request, None)
        if recipe.kernel and recipe.modules:
            entry = self._catalogue.located(recipe.kernel).entry
            if not entry.modules:
                raise ImageError(f"the image '{recipe.kernel}' names no packages with modules")
            wanted["modules"] = _Wanted(entry.request, tuple(entry.modules))
        return wanted

    def _finished(self, recipe: Recipe, known: dict[str, list[str]]) -> Path | None:
        directory = self._directory / "built" / self._key(recipe, known)
        manifest = cache.read_json(directory / "manifest.json")
        if not isinstance(manifest, dict):
            return None
        output = directory / str(manifest["name"])
        if not cache.intact(output, manifest["size"], manifest["sha256"]):
            return None
        return output

    def _key(self, recipe: Recipe, known: dict[str, list[str]]) -> str:
        files = {}
        for path, content in recipe.files.items():
            files[path] = content.model_dump(mode="json")
            if content.host is not None:
                files[path]["host"] = cache.digest_of(Path(content.host))
            elif content.image is not None:
                # Images lie at paths made of digests: no need to read them again.
                place = self._image_file(content.image).relative_to(self._directory)
                files[path]["image"] = str(place)
        inputs = {
            "format": _FORMAT,
            "recipe": recipe.model_dump(
                mode="json", exclude={"files", "description", "base"}, exclude_defaults=True
            ),
            "packages": known,
            "files": files,
            "program": ext4.version() if recipe.format == "ext4" else "",
        }
        if recipe.parts:
            inputs["parts"] = parts.key(recipe.parts, recipe.architecture)
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]

    def _tree(self, recipe: Recipe, packages: dict[str, list[Unpacked]], making: Path) -> Tree:
        tree = Tree()
        for path, target in recipe.links.items():
            tree.add(path, Node("link", 0o777, target=target))
        for unpacked in packages.get("packages", []):
            self._add_package(tree, unpacked, recipe.exclude)
        for path, mode in recipe.directories.items():
            tree.add(path, directory(0o755 if mode is None else mode))
        if "modules" in packages:
            _add_modules(tree, recipe, packages["modules"], self._read)
        for name in recipe.parts:
            self._progress(f"making {name}", None)
            made = parts.build(name, recipe.architecture, making / name)
            for path, (file, part_mode) in made.items():
                tree.add(path, Node("file", part_mode, data=file))
        for path, content in recipe.files.items():
            tree.add(path, self._file(content, packages.get("files", [])))
        for path, text in recipe.scripts.items():
            tree.add(path, Node("file", 0o755, data=text.encode()))
        for path, node in recipe.nodes.items():
            tree.add(path, Node(node.type, node.mode, device=(node.major, node.minor)))
        return tree

    def _add_package(self, tree: Tree, unpacked: Unpacked, exclude: Sequence[str]) -> None:
        for path, entry in unpacked.entries.items():
            if not any(path_matches(path, pattern) for pattern in exclude):
                tree.add(path, self._packed(unpacked, path, entry))

    def _packed(self, unpacked: Unpacked, path: str, entry: PackedFile) -> Node:
        if entry.kind == "file":
            data = self._checked(unpacked, path)
            return Node("file", entry.mode, entry.uid, entry.gid, data)
        node = Node(entry.kind, entry.mode, entry.uid, entry.gid, target=entry.target)  # type: ignore[arg-type]
        return replace(node, device=entry.device)

    def _file(self, content: FileContent, sources: list[Unpacked]) -> Node:
        mode = 0o644 if content.mode is None else content.mode
        if content.text is not None:
            return Node("file", mode, data=content.text.encode())
        if content.host is not None:
            return Node("file", mode, data=Path(content.host))
        if content.image is not None:
            return Node("file", mode, data=self._image_file(content.image))
        assert content.package
        assert content.path
        found = [
            (unpacked, path)
            for unpacked in sources
            if path_matches(unpacked.package.name, content.package)
            for path in unpacked.glob(content.path)
        ]
        if not found:
            raise ImageError(f"the package {content.package} holds no file '{content.path}'")
        unpacked, path = found[0]
        entry = unpacked.entries[path]
        own = entry.mode if content.mode is None else content.mode
        return Node("file", own, data=self._checked(unpacked, path))

    def _checked(self, unpacked: Unpacked, path: str) -> Path:
        """A package's file, once its content is known to be whole."""
        if not unpacked.intact(path):
            self._store.forget(unpacked.package)
            name = unpacked.package.name
            raise DamagedPackage(f"the cached package {name} was damaged: fetching it again")
        return unpacked.file(path)

    def _read(self, unpacked: Unpacked, path: str) -> bytes:
        return self._checked(unpacked, path).read_bytes()


def initramfs(tree: Tree, compress: str = "none") -> bytes:
    """The tree as a cpio archive that Linux unpacks at boot."""
    archive = cpio.write(
        cpio.Member(path, node.mode, node.content(), node.uid, node.gid, node.device)
        for path, node in tree
    )
    if compress == "none":
        return archive
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0, filename="") as file:
        file.write(archive)
    return packed.getvalue()


def _images(recipe: Recipe) -> list[str]:
    return [content.image for content in recipe.files.values() if content.image is not None]


def _add_modules(
    tree: Tree,
    recipe: Recipe,
    packages: Iterable[Unpacked],
    read: Callable[[Unpacked, str], bytes],
) -> None:
    """Modules under /lib/modules with `modules.dep`, and the names to load in /etc/modules."""
    versions: dict[str, dict[str, Callable[[], bytes]]] = {}
    for unpacked in packages:
        for path in unpacked.glob("**/lib/modules/*/**"):
            version, _, inner = path.partition("lib/modules/")[2].partition("/")
            versions.setdefault(version, {})[inner] = _reader(read, unpacked, path)
    if len(versions) != 1:
        found = ", ".join(sorted(versions)) or "none"
        raise ImageError(f"one kernel version was expected in '{recipe.kernel}', found {found}")
    version, files = versions.popitem()
    closure = ModuleSet(files).closure(recipe.modules)
    base = posixpath.join("lib/modules", version)
    for module in closure:
        data = without_signature(module.data) if recipe.signatures == "drop" else module.data
        tree.add(posixpath.join(base, module.path), Node("file", 0o644, data=data))
    tree.add(f"{base}/modules.dep", Node("file", 0o644, data=dependency_file(closure)))
    names = [name for name in recipe.modules if any(m.name == name for m in closure)]
    tree.add("etc/modules", Node("file", 0o644, data="".join(f"{n}\n" for n in names).encode()))


def _reader(
    read: Callable[[Unpacked, str], bytes], unpacked: Unpacked, path: str
) -> Callable[[], bytes]:
    return lambda: read(unpacked, path)

"""Debian packages in the cache: resolved once, downloaded once, unpacked by digest.

`resolved/*.json` remember which versions a request came to, all from one suite, so that a kernel
and its modules stay together; `packages/<sha256>/` hold one package each; `apt/` is apt's private
state.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hypervisor.images import cache
from hypervisor.images.apt import Apt, Package, SuiteFailure, SuiteUnreachable
from hypervisor.images.errors import ImageError, NoPackageSource, PackageNotFound
from hypervisor.images.progress import Progress, silent
from hypervisor.images.sources import Source, debian_archives
from hypervisor.images.unpacked import Unpacked, unpack


@dataclass(frozen=True)
class Request:
    """Packages wanted together from one suite; the suites are tried in order.

    `packages` are names or glob patterns; a pattern is looked up among what the metapackage `via`
    depends on, or in the whole suite without one. `dependencies` adds what they depend on.
    """

    architecture: str
    suites: tuple[str, ...]
    packages: tuple[str, ...]
    via: str | None = None
    dependencies: bool = False

    @property
    def key(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class PackageStore:
    """Gets packages into the cache. `sources` are the archives, the host's own by default."""

    def __init__(
        self, directory: Path, progress: Progress = silent, sources: Sequence[Path] | None = None
    ) -> None:
        self._directory = directory
        self._progress = progress
        self._source_files = sources
        self._updated: set[tuple[str, str]] = set()

    def resolution(self, request: Request) -> list[Package] | None:
        """What the request came to when it was last resolved, or None."""
        record = cache.read_json(self._record(request))
        try:
            return [Package(**item) for item in record["packages"]]
        except (TypeError, KeyError):
            return None

    def cached(self, package: Package) -> Unpacked | None:
        """The unpacked package if it is in the cache."""
        directory = self._directory / "packages" / package.sha256
        manifest = cache.read_json(directory / "manifest.json")
        return Unpacked(package, directory, manifest) if isinstance(manifest, dict) else None

    def get(
        self, request: Request, patterns: Sequence[str] | None = None, refresh: bool = False
    ) -> list[Unpacked]:
        """Unpacked packages of the request (those matching `patterns`, or all), fetched as needed.

        `refresh` asks the archive for newer versions first. Raises NoPackageSource where no archive
        can be reached or trusted, PackageNotFound where they lack the package.
        """
        known = None if refresh else self.resolution(request)
        if known is not None:
            wanted = _matching(known, patterns)
            try:
                return [self.cached(package) or self._fetch(package, request) for package in wanted]
            except SuiteFailure as failure:
                self._progress(f"{failure}; asking for current versions", None)
        return self._get_current(request, patterns)

    def forget(self, package: Package) -> None:
        """Drop a package whose files are no longer what they were."""
        cache.discard(self._directory / "packages" / package.sha256)

    def _get_current(self, request: Request, patterns: Sequence[str] | None) -> list[Unpacked]:
        failures: list[SuiteFailure] = []
        for suite in request.suites:
            for source in debian_archives(self._source_files):
                try:
                    apt = self._apt(source, suite, request.architecture)
                    self._update(apt, request)
                    packages = _resolve(apt, request)
                    unpacked = [
                        self.cached(package) or self._unpack(package, apt)
                        for package in _matching(packages, patterns)
                    ]
                except SuiteFailure as failure:
                    failures.append(failure)
                    if suite != request.suites[-1]:
                        self._progress(f"{failure}; trying the next suite", None)
                    continue
                record = {"packages": [asdict(package) for package in packages]}
                cache.write_json(self._record(request), record)
                return unpacked
        raise _failed(request, failures)

    def _fetch(self, package: Package, request: Request) -> Unpacked:
        failure: SuiteFailure | None = None
        for source in debian_archives(self._source_files):
            apt = self._apt(source, package.suite, request.architecture)
            try:
                if not apt.updated:
                    self._update(apt, request)
                return self._unpack(package, apt)
            except SuiteFailure as error:
                failure = error
        assert failure
        raise failure

    def _unpack(self, package: Package, apt: Apt) -> Unpacked:
        archive = self._directory / "partial" / f"{package.sha256}.deb"
        archive.parent.mkdir(parents=True, exist_ok=True)
        apt.download(package, archive)
        if cache.digest_of(archive) != package.sha256:
            archive.unlink()
            raise SuiteUnreachable(f"{package.name}: what was downloaded is not what was asked for")
        self._progress(f"unpacking {package.name}", None)
        target = self._directory / "packages" / package.sha256
        with cache.new_directory(target) as scratch:
            manifest = unpack(archive, scratch / "files")
            cache.write_json(scratch / "manifest.json", manifest)
        archive.unlink()
        return Unpacked(package, target, manifest)

    def _apt(self, source: Source, suite: str, architecture: str) -> Apt:
        place = hashlib.sha256(source.uri.encode()).hexdigest()[:8]
        directory = self._directory / "apt" / f"{suite}-{architecture}-{place}"
        return Apt(directory, source, suite, architecture, self._progress)

    def _update(self, apt: Apt, request: Request) -> None:
        key = (apt.suite, request.architecture)
        if key not in self._updated:
            apt.update()
            self._updated.add(key)

    def _record(self, request: Request) -> Path:
        return self._directory / "resolved" / f"{request.key}.json"


def _matching(packages: Sequence[Package], patterns: Sequence[str] | None) -> list[Package]:
    if patterns is None:
        return list(packages)
    chosen = [
        package
        for pattern in patterns
        for package in packages
        if fnmatch.fnmatchcase(package.name, pattern)
    ]
    return list(dict.fromkeys(chosen))


def _resolve(apt: Apt, request: Request) -> list[Package]:
    plain = [name for name in request.packages if not _is_pattern(name)]
    patterns = [name for name in request.packages if _is_pattern(name)]
    available = set(apt.names())
    missing = [name for name in [*plain, *([request.via] if request.via else [])]
               if name not in available]  # fmt: skip
    if missing:
        raise SuiteFailure(f"suite {apt.suite} has no package '{missing[0]}'")
    names = list(plain)
    if patterns:
        names += _matches(apt, patterns, apt.depends(request.via) if request.via else available)
    if request.dependencies and names:
        names = apt.closure(names)
    return apt.describe(names)


def _matches(apt: Apt, patterns: Sequence[str], candidates: Iterable[str]) -> list[str]:
    names: list[str] = []
    pool = sorted(candidates)
    for pattern in patterns:
        found = [name for name in fnmatch.filter(pool, pattern) if not name.endswith("-dbg")]
        described = apt.describe(found) if found else []
        if not described:
            raise SuiteFailure(f"suite {apt.suite} has no package like '{pattern}'")
        names += [package.name for package in described]
    return names


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _failed(request: Request, failures: Sequence[SuiteFailure]) -> ImageError:
    reasons = "; ".join(str(failure) for failure in failures)
    wanted = ", ".join(request.packages)
    if any(not isinstance(failure, SuiteUnreachable) for failure in failures):
        return PackageNotFound(f"cannot find {wanted} for {request.architecture}: {reasons}")
    return NoPackageSource(f"cannot fetch {wanted} for {request.architecture}: {reasons}")

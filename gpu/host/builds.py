"""Building programs: each in a process of its own, its result kept on disk by content.

A recipe says what to do, and is all that a result depends on besides the device:
("build", source, options), ("compile", source, ((name, recipe), ...), options),
("link", (recipe, ...), options), or ("group", "X-Y-Z", recipe) for the kernels of a program,
compiled for work-groups of one size. The key of a binary is the digest of its recipe and device.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2

from gpu.host.process import Worker, WorkerLostError, Workers
from gpu.host.result import Built, Recipe, parse, plain
from gpu.opencl import Status

MAX_CACHE = 512 << 20
"""Bytes of results that are kept on disk."""
MAX_FAILURES = 64
MAX_FAILED_BYTES = 4 << 20
"""Builds that failed, and bytes of their logs, that are remembered while the machine lives."""
FORMAT = b"hypervisor-gpu-6"
_FAILURES = {
    "build": Status.BUILD_PROGRAM_FAILURE,
    "compile": Status.COMPILE_PROGRAM_FAILURE,
    "link": Status.LINK_PROGRAM_FAILURE,
    "group": Status.BUILD_PROGRAM_FAILURE,
}
_REFUSED = frozenset(_FAILURES.values())
"""What is a compiler's word on a source. What it had too little of may be there the next time."""


class Build:
    """A build, done or under way in a process of its own."""

    def __init__(
        self,
        builds: Builds,
        recipe: Recipe,
        key: str,
        binary: bytes = b"",
        result: Built | None = None,
    ) -> None:
        """`recipe` is ("binary", key) for what must be in the cache. `binary` is what the recipe
        within a recipe "group" was built to. `result` is what is known to come of it."""
        self.recipe = recipe
        self.key = key
        self.users = 0
        """Programs and answers that need it."""
        self.host = 0
        """Bytes of its result that are accounted for."""
        self._admit: Callable[[Build, int], bool] = _always
        self._builds = builds
        self._worker: Worker | None = None
        self._built: Built | None = result or builds.cached(key)
        if self._built is None and recipe[0] == "binary":
            self._built = Built(Status.INVALID_BINARY)
        if self._built is None:
            self._built = builds.failure(key)
        if self._built is None:
            try:
                self._worker = builds.start(recipe, binary)
            except WorkerLostError as error:
                self._built = Built(_FAILURES[recipe[0]], f"{error}\n", is_lost=True)

    @property
    def is_running(self) -> bool:
        return self._built is None

    def join(self) -> Built:
        """The result; waits for it."""
        if self._built is None:
            assert self._worker is not None
            built = self._builds.finish(self._worker, self.recipe, self.key)
            self._worker = None
            self._built = self._admitted(built)
        return self._built

    def account(self, admit: Callable[[Build, int], bool]) -> None:
        """Ask `admit` whether there is room for the bytes of the result, once it is there."""
        self._admit = admit
        if self._built is not None:
            self._built = self._admitted(self._built)

    def _admitted(self, built: Built) -> Built:
        options = len(self.recipe[-1])  # which its program does not count
        if self._admit(self, built.size + options):
            return built
        return Built(Status.OUT_OF_HOST_MEMORY, "what it was built to is too much\n")

    def close(self) -> None:
        """Nobody needs it any more: its result is held no longer."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._built = Built(Status.OUT_OF_RESOURCES)


def _always(build: Build, size: int) -> bool:
    return True


class Builds:
    """Starts builds and keeps their results."""

    def __init__(self, workers: Workers, folder: Path | None = None) -> None:
        self._workers = workers
        self._folder = folder or _cache_folder()
        self._failures: dict[str, Built] = {}
        """What the compiler refused, by key. Not on disk: it may be another one another day."""

    def build(self, recipe: Recipe, binary: bytes = b"") -> Build:
        return Build(self, recipe, self.key_of(recipe), binary)

    def known(self, key: str) -> Build:
        """The build of a binary that the cache has."""
        return Build(self, ("binary", key), key)

    def failed(self, recipe: Recipe, key: str, status: Status, log: str) -> Build:
        """A build that failed before."""
        return Build(self, recipe, key, result=Built(status, log))

    def key_of(self, recipe: Recipe) -> str:
        device = self._workers.describe()
        named = (device.get("platform_version"), device.get("parameters"))
        state = hashlib.sha256(FORMAT)
        state.update(cbor2.dumps([list(named), _plain(recipe)], canonical=True))
        return state.hexdigest()

    def start(self, recipe: Recipe, binary: bytes) -> Worker:
        return self._workers.take("compile", _plain(recipe), binary)

    def finish(self, worker: Worker, recipe: Recipe, key: str) -> Built:
        """Wait for a build, and keep what is good of it."""
        failure = _FAILURES[recipe[0]]
        try:
            built = parse(worker.receive(), failure, key, recipe)
        except WorkerLostError as error:
            reason = "it took too long" if "took more" in str(error) else "the compiler failed"
            return Built(failure, f"{reason}\n", is_lost=True)
        finally:
            worker.close()
        if built.status == Status.SUCCESS:
            self._keep(key, {**plain(built), "recipe": _plain(recipe)})
        elif built.status in _REFUSED:
            self._remember(key, built)
        return built

    def failure(self, key: str) -> Built | None:
        """A failure that is remembered, so that building the same again costs nothing."""
        built = self._failures.pop(key, None)
        if built is not None:
            self._failures[key] = built  # the last to be forgotten
        return built

    def _remember(self, key: str, built: Built) -> None:
        failures = self._failures
        failures[key] = built
        while len(failures) > MAX_FAILURES or sum(b.size for b in failures.values()) > (
            MAX_FAILED_BYTES
        ):
            del failures[next(iter(failures))]

    def cached(self, key: str) -> Built | None:
        """A result that is on disk."""
        if re.fullmatch(r"[0-9a-f]{64}", key) is None:
            return None
        path = self._folder / key
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        digest, body = data[:32], data[32:]
        if hashlib.sha256(body).digest() != digest:
            return None
        try:
            result = cbor2.loads(body)
            recipe = _tuple(result["recipe"])
        except (cbor2.CBORDecodeError, ValueError, LookupError, TypeError):
            return None
        built = parse(result, Status.BUILD_PROGRAM_FAILURE, key, recipe)
        return built if built.status == Status.SUCCESS else None

    def _keep(self, key: str, result: dict[str, Any]) -> None:
        """Appears under its name only when complete. A full disk loses the cache, not the build."""
        body = cbor2.dumps(result)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd, name = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(hashlib.sha256(body).digest() + body)
                os.replace(name, self._folder / key)
            except OSError:
                os.unlink(name)
            self._trim()
        except OSError:
            pass

    def _trim(self) -> None:
        """Drop what was not used for longest."""
        files = [(path, path.stat()) for path in self._folder.iterdir() if path.is_file()]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda each: each[1].st_mtime):
            if total <= MAX_CACHE:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


def _tuple(value: Any) -> Any:
    return tuple(_tuple(each) for each in value) if isinstance(value, list) else value


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "hypervisor" / "gpu"

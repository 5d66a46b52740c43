"""A guest of the GPU that many tests share: each leaves ids from 10 on, and memory, as it likes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu.protocol import Release
from gpu.testing import GuestBench


@pytest.fixture(scope="session")
def gpu_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(gpu_cache: Path) -> Iterator[None]:
    """Programs are built here, not taken from the user's cache. For these tests alone: others fetch
    images, which they are to share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(gpu_cache))
        yield


@pytest.fixture(scope="module")
def shared_guest() -> Iterator[GuestBench]:
    with GuestBench() as guest:
        guest.set_up()
        yield guest


@pytest.fixture
def guest(shared_guest: GuestBench) -> Iterator[GuestBench]:
    """A context and a queue that are there; what a test adds is released after it."""
    yield shared_guest
    table = shared_guest.context.table
    shared_guest.submit(*(Release(id=i) for i in reversed([*table]) if i >= 10))
    shared_guest.bench.clock.advance(1 << 50)
    shared_guest.context.latched = None

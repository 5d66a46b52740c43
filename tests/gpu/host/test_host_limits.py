"""A host without files to spare: the guest gets an error, the machine goes on."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu import protocol as p
from gpu.host.process import WorkerLostError, Workers
from gpu.opencl import Status
from gpu.options import OpenClOptions
from gpu.testing import BULK, CONTEXT, RAM, GuestBench


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_blob_that_the_host_has_no_file_for_is_refused() -> None:
    with GuestBench(isolation="strict") as guest:
        guest.context.revoke(BULK)
        before = guest.context.used

        with no_more_files():
            refused = guest.context.grant(BULK, [(RAM, 4096)])
        used = guest.context.used
        granted = guest.context.grant(BULK, [(RAM, 4096)])

        assert refused == Status.MEM_OBJECT_ALLOCATION_FAILURE
        assert used == before
        assert granted == Status.SUCCESS


def test_context_that_the_host_has_no_file_for_is_refused(guest: GuestBench) -> None:
    other = guest.new_context("other")

    with no_more_files():
        refused = guest.try_(p.CreateContext(id=CONTEXT), context=other)[0]
    made = guest.try_(p.CreateContext(id=CONTEXT), context=other)[0]
    other.close()

    assert (refused, made) == (Status.OUT_OF_RESOURCES, 0)
    assert "cannot be started: Too many open files" in guest.bench.messages[-1]


def test_worker_that_can_not_be_started_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    workers = Workers(OpenClOptions())

    with no_more_files(), pytest.raises(WorkerLostError, match="Too many open files"):
        workers.warm()

    assert list(tmp_path.iterdir()) == []

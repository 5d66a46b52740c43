"""Which processors a worker's thread may have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gpu.host import processors
from gpu.host.processors import Apart
from gpu.testing import GuestBench

Allowed = list[tuple[int, set[int]]]


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Allowed:
    """On a host with processors 2, 3 and 5: what threads were allowed."""
    calls: Allowed = []
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda thread: {2, 3, 5})
    monkeypatch.setattr(
        processors.os, "sched_setaffinity", lambda thread, which: calls.append((thread, which))
    )
    return calls


def _run_on(monkeypatch: pytest.MonkeyPatch, processor: int) -> None:
    monkeypatch.setattr(processors, "_present", lambda: processor)


def test_thread_leaves_the_processor_of_who_sends(
    allowed: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_on(monkeypatch, 3)

    Apart(77).keep()

    assert allowed == [(77, {2, 5})]


def test_sender_that_stays_says_nothing_again(
    allowed: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_on(monkeypatch, 3)
    apart = Apart(77)

    apart.keep()
    apart.keep()

    assert len(allowed) == 1


def test_sender_that_moved_leaves_its_old_processor_to_the_thread(
    allowed: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_on(monkeypatch, 3)
    apart = Apart(77)
    apart.keep()
    _run_on(monkeypatch, 5)

    apart.keep()

    assert allowed[1:] == [(77, {2, 3})]


def test_thread_has_all_processors_when_nobody_looks_for_its_answer(
    allowed: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_on(monkeypatch, 3)
    apart = Apart(77)
    apart.keep()

    apart.end()
    apart.end()

    assert allowed[1:] == [(77, {2, 3, 5})]


def test_thread_is_kept_apart_again_after_a_pause(
    allowed: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_on(monkeypatch, 3)
    apart = Apart(77)
    apart.keep()
    apart.end()

    apart.keep()

    assert allowed[2:] == [(77, {2, 5})]


@pytest.mark.parametrize("processor", [-1, 4])
def test_processor_that_is_unknown_changes_nothing(
    allowed: Allowed, monkeypatch: pytest.MonkeyPatch, processor: int
) -> None:
    _run_on(monkeypatch, processor)

    Apart(77).keep()

    assert allowed == []


def test_only_processor_is_shared(allowed: Allowed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda thread: {0})
    _run_on(monkeypatch, 0)

    Apart(77).keep()

    assert allowed == []


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def test_process_of_the_host_is_kept_apart(child: subprocess.Popen[bytes]) -> None:
    everywhere = os.sched_getaffinity(child.pid)

    Apart(child.pid).keep()

    assert len(os.sched_getaffinity(child.pid)) == max(1, len(everywhere) - 1)


def test_process_that_has_ended_does_not_matter(child: subprocess.Popen[bytes]) -> None:
    apart = Apart(child.pid)
    child.communicate(b"\n")

    apart.keep()
    apart.end()

    assert child.returncode == 0


def test_threads_that_compute_for_a_worker_keep_all_processors() -> None:
    with GuestBench() as guest:
        guest.set_up()
        worker = guest.context.link.worker
        assert worker is not None
        threads = [int(name) for name in os.listdir(f"/proc/{worker.pid}/task")]
        own = Apart(worker.pid)

        own.keep()

        sizes = {
            thread: len(os.sched_getaffinity(thread)) for thread in threads if thread != worker.pid
        }
        assert set(sizes.values()) == {len(os.sched_getaffinity(0))}

"""Which processors a worker's thread may have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gpu import protocol as p
from gpu.host import processors
from gpu.host.processors import Apart
from gpu.testing import CONTEXT, QUEUE, GuestBench
from gpu.worker.spin import Spin


class Host:
    """A host with processors 2, 3 and 5: where the hypervisor runs, and what threads may have."""

    def __init__(self) -> None:
        self.present = 3
        self.processors = {2, 3, 5}
        self.allowed: list[tuple[int, set[int]]] = []

    def allow(self, thread: int, which: set[int]) -> None:
        self.allowed.append((thread, which))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(processors, "_present", lambda: host.present)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda thread: host.processors)
    monkeypatch.setattr(processors.os, "sched_setaffinity", host.allow)
    return host


@pytest.fixture
def kept(host: Host) -> Apart:
    """Of thread 77, which was kept off processor 3."""
    apart = Apart(77)
    apart.keep()
    return apart


def test_thread_leaves_the_processor_of_who_sends(host: Host, kept: Apart) -> None:
    assert host.allowed == [(77, {2, 5})]


def test_sender_that_stays_says_nothing_again(host: Host, kept: Apart) -> None:
    kept.keep()

    assert len(host.allowed) == 1


def test_sender_that_moved_leaves_its_old_processor_to_the_thread(host: Host, kept: Apart) -> None:
    host.present = 5

    kept.keep()

    assert host.allowed[1:] == [(77, {2, 3})]


def test_thread_has_all_processors_when_nobody_looks_for_its_answer(
    host: Host, kept: Apart
) -> None:
    kept.end()
    kept.end()

    assert host.allowed[1:] == [(77, {2, 3, 5})]


def test_thread_is_kept_apart_again_after_a_pause(host: Host, kept: Apart) -> None:
    kept.end()

    kept.keep()

    assert host.allowed[2:] == [(77, {2, 5})]


@pytest.mark.parametrize("processor", [-1, 4])
def test_processor_that_is_unknown_changes_nothing(host: Host, processor: int) -> None:
    host.present = processor

    Apart(77).keep()

    assert host.allowed == []


def test_only_processor_is_shared(host: Host) -> None:
    host.processors = {3}

    Apart(77).keep()

    assert host.allowed == []


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
        others = {int(name) for name in os.listdir(f"/proc/{worker.pid}/task")} - {worker.pid}

        Apart(worker.pid).keep()

        sizes = {len(os.sched_getaffinity(thread)) for thread in others}
        assert sizes == {len(os.sched_getaffinity(0))}


def test_worker_is_kept_apart_for_a_message_and_let_go_for_a_long_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(Apart, "keep", lambda apart: calls.append("keep"))
    monkeypatch.setattr(Apart, "end", lambda apart: calls.append("end"))
    monkeypatch.setattr(Spin, "wait", lambda spin: False)
    with GuestBench() as guest:
        guest.set_up()
        guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=64))
        calls.clear()

        guest.wait(guest.submit(p.FillBuffer(queue=QUEUE, buffer=20, size=64, pattern=b"a")))

    assert calls[0] == "keep"
    assert set(calls) == {"keep", "end"}

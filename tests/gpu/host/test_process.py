"""A worker's end."""

from __future__ import annotations

from typing import Any

import pytest

from gpu.host import process
from gpu.host.process import Worker, WorkerLostError


class EndlessSocket:
    """Something that a worker started still holds it, and sends."""

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def recv(self, size: int) -> bytes:
        return b"x"


def test_worker_that_sends_without_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(process.time, "monotonic", lambda: float(next(times)))
    worker: Any = Worker.__new__(Worker)
    worker._socket = EndlessSocket()

    worker._wait_for_end()

    assert next(times) < 100


def test_message_of_too_many_parts_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MOST_PARTS", 3)
    monkeypatch.setattr(Worker, "lose", lambda worker, reason: WorkerLostError(reason))
    worker: Any = Worker.__new__(Worker)

    few = worker._parse(b'{"a":[1,2]}')

    assert few == {"a": [1, 2]}
    with pytest.raises(WorkerLostError, match="nonsense"):
        worker._parse(b'{"a":[{},2]}')

"""Host work beside the machine: disk requests in order, completions at virtual times."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from hypervisor.time.clock import VirtualClock

T = TypeVar("T")


class HostThreads:
    """One host thread for each queue (a disk); results are taken at their virtual time.

    If the host is late the machine waits there, so a run does not depend on the host's speed.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._threads: dict[int, ThreadPoolExecutor] = {}
        self._due: deque[tuple[int, int, Future[Any], Callable[[Any], None]]] = deque()
        self._order = 0
        self._timer = clock.timer("host-io", self._complete)

    def submit(
        self, queue: object, work: Callable[[], T], at: int, done: Callable[[T | Exception], None]
    ) -> None:
        thread = self._threads.get(id(queue))
        if thread is None:
            thread = self._threads[id(queue)] = ThreadPoolExecutor(1, thread_name_prefix="host-io")
        self._order += 1
        entry = (at, self._order, thread.submit(work), done)
        position = len(self._due)
        while position and self._due[position - 1][:2] > entry[:2]:
            position -= 1
        self._due.insert(position, entry)
        self._arm()

    def forget(self) -> None:
        """Drop all completions (machine reset); the work itself still runs to its end."""
        for _, _, future, _ in self._due:
            future.exception()
        self._due.clear()
        self._timer.cancel()

    def close(self) -> None:
        for thread in self._threads.values():
            thread.shutdown(wait=True)

    def _arm(self) -> None:
        if self._due and (self._timer.deadline is None or self._timer.deadline > self._due[0][0]):
            self._timer.arm(self._due[0][0])

    def _complete(self) -> None:
        try:
            while self._due and self._due[0][0] <= self._clock.now():
                _, _, future, done = self._due.popleft()
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                done(error if error is not None else future.result())
        finally:  # what a device raises here must not lose the others' completions
            self._arm()


class Inbox:
    """What other threads ask of the machine, taken at safe points."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._posts: deque[Callable[[], None]] = deque()
        self._arrived = threading.Event()

    def post(self, callback: Callable[[], None]) -> None:
        """From any thread."""
        self._posts.append(callback)
        self._arrived.set()
        self._wake()

    def __bool__(self) -> bool:
        return bool(self._posts)

    def drain(self) -> None:
        """Run what has been posted; what that posts waits for the next safe point."""
        self._arrived.clear()
        for _ in range(len(self._posts)):
            self._posts.popleft()()

    def wait(self, seconds: float) -> bool:
        """Sleep until something arrives; whether it did."""
        return bool(self._posts) or self._arrived.wait(seconds)

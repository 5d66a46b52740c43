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
    A request that is alone is done by the machine itself when its time has come: that takes less
    than handing it to a thread. When another joins it, both are their threads'.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._threads: dict[int, ThreadPoolExecutor] = {}
        self._due: deque[_Job] = deque()
        self._timer = clock.timer("host-io", self._complete)

    @property
    def next_completion(self) -> int | None:
        """Virtual time (ns) at which the next result is taken."""
        return self._due[0].at if self._due else None

    def submit(
        self, queue: object, work: Callable[[], T], at: int, done: Callable[[T | Exception], None]
    ) -> None:
        due = self._due
        job = _Job(at, queue, work, done)
        if due:
            self._start(due[0])
            self._start(job)
        position = len(due)
        while position and due[position - 1].at > at:
            position -= 1
        due.insert(position, job)
        self._arm()

    def forget(self) -> None:
        """Drop all completions (machine reset); the work itself still runs to its end."""
        for job in self._due:
            job.result()
        self._due.clear()
        self._timer.cancel()

    def close(self) -> None:
        for job in self._due:
            job.result()
        for thread in self._threads.values():
            thread.shutdown(wait=True)

    def _start(self, job: _Job) -> None:
        """Hand a job to its queue's thread, if it is not there yet."""
        if job.future is None:
            thread = self._threads.get(id(job.queue))
            if thread is None:
                thread = ThreadPoolExecutor(1, thread_name_prefix="host-io")
                self._threads[id(job.queue)] = thread
            job.future = thread.submit(job.work)

    def _arm(self) -> None:
        if self._due and (self._timer.deadline is None or self._timer.deadline > self._due[0].at):
            self._timer.arm(self._due[0].at)

    def _complete(self) -> None:
        try:
            while self._due and self._due[0].at <= self._clock.now():
                job = self._due.popleft()
                job.done(job.result())
        finally:  # what a device raises here must not lose the others' completions
            self._arm()


class _Job:
    """Work to do once. Those due at one time complete in their order."""

    __slots__ = ("at", "done", "future", "queue", "work")

    def __init__(
        self, at: int, queue: object, work: Callable[[], Any], done: Callable[[Any], None]
    ) -> None:
        self.at = at
        self.queue = queue
        self.work = work
        self.done = done
        self.future: Future[Any] | None = None

    def result(self) -> Any:
        """What came of the work, or the exception; waits for it, or does it."""
        try:
            return self.work() if self.future is None else self.future.result()
        except Exception as error:
            return error


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

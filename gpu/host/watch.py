"""Notices what workers say when nobody waits for it, for timing `host`."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import suppress

_TICK = 0.25
"""Seconds after which everybody is looked at, whether it said something or not."""


class Watch:
    """One thread. It only tells (from there): reading is done on the machine's thread, which then
    watches the file anew."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._files: set[int] = set()
        self._epoll = select.epoll()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="gpu-watch", daemon=True)
        self._thread.start()

    def add(self, fd: int) -> None:
        """Tell once when there is something to read."""
        events = select.EPOLLIN | select.EPOLLONESHOT
        self._files.add(fd)
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        self._files.discard(fd)
        with suppress(OSError):
            self._epoll.unregister(fd)

    def close(self) -> None:
        self._is_closed = True
        self._thread.join()
        self._epoll.close()

    def _run(self) -> None:
        while not self._is_closed:
            found = [fd for fd, _ in self._epoll.poll(_TICK)]
            for fd in found or list(self._files):
                self._tell(fd)

"""A link as a machine has it, and the way of frames to the machine's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from devices.net.frames import FrameQueue
from hypervisor.device import NetBackend

Post = Callable[[Callable[[], None]], None]
Receive = Callable[[bytes], None]


@dataclass(slots=True)
class NetStats:
    """What went over a link: `tx` from the guest, `rx` to it.

    `dropped` frames found no room or no link, `invalid` ones have a length that no frame has.
    """

    tx_frames: int = 0
    tx_bytes: int = 0
    tx_dropped: int = 0
    tx_invalid: int = 0
    rx_frames: int = 0
    rx_bytes: int = 0
    rx_dropped: int = 0
    rx_invalid: int = 0


class Link(NetBackend, Protocol):
    """A backend of this package."""

    stats: NetStats

    @property
    def problem(self) -> str | None:
        """Why the link is dead though nobody closed it: one sentence for the user."""


class Inbox:
    """Hands frames from any thread to the machine's, in order, with one post for many frames.

    It holds a bounded number of frames: a machine that does not run loses the rest. Who can wait
    with reading more asks `holds_back`; after a True `drained` is called once when it is no more.
    """

    def __init__(
        self,
        post: Post,
        receive: Receive,
        stats: NetStats,
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._post = post
        self._receive = receive
        self._stats = stats
        self._drained = drained
        self._lock = threading.Lock()
        self._queue = FrameQueue()
        self._posted = False
        self._awaited = False
        """Somebody was held back and has not been told since that there is room."""
        self._closed = False

    def put(self, frames: Iterable[bytes]) -> None:
        """Queue frames for the guest. Any thread."""
        with self._lock:
            if self._closed:
                return
            for frame in frames:
                if not self._queue.push(frame):
                    self._stats.rx_dropped += 1
            if self._posted or not self._queue:
                return
            self._posted = True
        self._post(self._drain)

    def holds_back(self) -> bool:
        """Whether so much waits that the rest may find no room. Not earlier: what passt cannot send
        at once, of a whole window of TCP's, it drops; and sends the window again for every
        acknowledgement that says so."""
        with self._lock:
            self._awaited = self._queue.is_half_full
            return self._awaited

    def close(self) -> None:
        """Deliver nothing any more, whatever is posted."""
        with self._lock:
            self._closed = True
            self._queue.clear()

    def _drain(self) -> None:
        with self._lock:
            self._posted = False
            waiting = len(self._queue)
        for _ in range(waiting):
            with self._lock:
                if not self._queue:  # closed by what a frame before led to
                    return
                frame = bytes(self._queue.pop())
                self._stats.rx_frames += 1
                self._stats.rx_bytes += len(frame)
            self._receive(frame)
        with self._lock:
            has_room = self._awaited and not self._queue.is_half_full
            if has_room:
                self._awaited = False
        if has_room:
            self._drained()


class NoLink:
    """Nothing is plugged in: what the guest sends is gone."""

    live = False

    def __init__(self) -> None:
        self.stats = NetStats()
        self.problem: str | None = None

    def open(self, post: Post, receive: Receive) -> None:
        """There is nothing to receive."""

    def send(self, frame: bytes) -> None:
        self.stats.tx_dropped += 1

    def close(self) -> None:
        """There is nothing to close."""

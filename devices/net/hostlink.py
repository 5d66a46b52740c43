"""A link to something of the host's that has a file descriptor, served by one host thread.

| threat | answer |
|---|---|
| the host sends faster than the machine runs | not read until there is room: the host holds back |
| the guest sends faster than the host takes | the backlog is bounded, whole frames are dropped |
| the other side dies | one warning, `problem` says why, the machine goes on without a link |
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Protocol

from devices.net.frames import MIN_FRAME, FrameQueue
from devices.net.link import Inbox, NetStats, Post, Receive

_log = logging.getLogger(__name__)


class WireGone(Exception):
    """The other side ended; the text says how."""


class Wire(Protocol):
    """The host's end: non-blocking, used by one thread at a time except for `read`."""

    name: str
    max_frame: int

    @property
    def invalid(self) -> int:
        """Frames that arrived with a length that no frame has."""

    def fileno(self) -> int: ...
    def read(self) -> list[bytes]:
        """Frames that have arrived, maybe none. Raises WireGone."""

    def encode(self, frame: bytes) -> bytes:
        """The bytes that `write` takes for a frame."""

    def write(self, data: bytes | memoryview) -> int:
        """How many bytes were taken. Raises BlockingIOError when none can be, or OSError."""

    def close(self) -> None: ...


class HostLink:
    """A live link over the wire that `connect` makes when the machine opens it."""

    live = True

    def __init__(self, connect: Callable[[], Wire]) -> None:
        self.stats = NetStats()
        self.problem: str | None = None
        self._connect = connect
        self._lock = threading.Lock()  # guards the wire's writing side and the backlog
        self._wire: Wire | None = None
        self._up = False
        self._closing = False
        self._backlog = FrameQueue()
        self._wake = -1
        self._thread: threading.Thread | None = None

    def open(self, post: Post, receive: Receive) -> None:
        """Connect and start the thread. Raises BackendError."""
        if self._wire is not None:
            raise RuntimeError(f"{self._wire.name}: this link is open already")
        wire = self._connect()
        self._wire, self._up, self._closing, self.problem = wire, True, False, None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._inbox = Inbox(post, receive, self.stats, drained=self._nudge)
        self._thread = threading.Thread(
            target=self._serve, args=(wire,), name=f"net {wire.name}", daemon=True
        )
        self._thread.start()

    def send(self, frame: bytes) -> None:
        with self._lock:
            wire = self._wire
            if wire is None or not self._up:
                self.stats.tx_dropped += 1
            elif not MIN_FRAME <= len(frame) <= wire.max_frame:
                self.stats.tx_invalid += 1
            elif self._transmit(wire, wire.encode(frame)):
                self.stats.tx_frames += 1
                self.stats.tx_bytes += len(frame)
            else:
                self.stats.tx_dropped += 1

    def close(self) -> None:
        wire, thread = self._wire, self._thread
        if wire is None or thread is None:
            return
        self._closing = True
        self._inbox.close()
        self._nudge()
        thread.join()
        with self._lock:
            self._wire, self._thread, self._up = None, None, False
            self._backlog.clear()
            os.close(self._wake)
            self._wake = -1
        wire.close()

    def _transmit(self, wire: Wire, data: bytes) -> bool:
        """Write at once where that keeps the order; else leave it to the thread."""
        if self._backlog:
            return self._backlog.push(data)
        try:
            written = wire.write(data)
        except BlockingIOError:
            written = 0
        except OSError:  # the thread learns from reading whether this is the end
            return False
        if written < len(data):
            self._backlog.push(memoryview(data)[written:])
            self._nudge()
        return True

    def _nudge(self) -> None:
        """Have the thread look again at what it should wait for."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _serve(self, wire: Wire) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(wire, 0)
        while not self._closing:
            wanted = 0 if self._inbox.holds_back() else select.POLLIN
            if self._backlog:
                wanted |= select.POLLOUT
            poll.modify(wire, wanted)
            ready = dict(poll.poll())
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if ready.get(wire.fileno(), 0) & ~select.POLLOUT:  # an end is told even when not asked
                try:
                    self._take_in(wire)
                except WireGone as gone:
                    self._lose(gone)
                    return
            self._flush(wire)

    def _take_in(self, wire: Wire) -> None:
        frames = wire.read()
        self.stats.rx_invalid = wire.invalid
        self._inbox.put(frames)

    def _flush(self, wire: Wire) -> None:
        with self._lock:
            try:
                while self._backlog:
                    self._backlog.take(wire.write(self._backlog.head()))
            except BlockingIOError:
                pass
            except OSError:
                self.stats.tx_dropped += len(self._backlog)
                self._backlog.clear()

    def _lose(self, gone: WireGone) -> None:
        with self._lock:
            self._up = False
            self._backlog.clear()
        if not self._closing:
            self.problem = f"{gone}; the machine goes on without this link"
            _log.warning("%s", self.problem)

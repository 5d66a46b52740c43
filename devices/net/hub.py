"""A repeater between machines of one process: every port hears what the others send.

Frames of one sender arrive everywhere in the order they were sent. Each machine gets them at a safe
point of its own, so a run of several machines repeats as far as their turns do.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from devices.net.frames import is_frame
from devices.net.link import Inbox, NetStats, Post, Receive


class Hub:
    """Ports that are plugged in, in that order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._ports: tuple[HubPort, ...] = ()

    @property
    def ports(self) -> tuple[HubPort, ...]:
        return self._ports

    def plug(self, port: HubPort) -> None:
        with self._lock:
            self._ports = (*self._ports, port)

    def unplug(self, port: HubPort) -> None:
        with self._lock:
            self._ports = tuple(other for other in self._ports if other is not port)


class Hubs:
    """Hubs by name: one lives as long as a link to it does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hubs: WeakValueDictionary[str, Hub] = WeakValueDictionary()

    def named(self, name: str) -> Hub:
        """The hub of that name, a new one if nothing has it."""
        with self._lock:
            hub = self._hubs.get(name)
            if hub is None:
                hub = self._hubs[name] = Hub(name)
            return hub


class HubPort:
    """One machine's link to a hub."""

    live = True

    def __init__(self, hub: Hub) -> None:
        self.stats = NetStats()
        self.problem: str | None = None
        self._hub = hub
        self._inbox: Inbox | None = None

    def open(self, post: Post, receive: Receive) -> None:
        if self._inbox is not None:
            raise RuntimeError(f"hub {self._hub.name}: this link is open already")
        self._inbox = Inbox(post, receive, self.stats)
        self._hub.plug(self)

    def send(self, frame: bytes) -> None:
        if not is_frame(frame):
            self.stats.tx_invalid += 1
            return
        if self._inbox is None:
            self.stats.tx_dropped += 1
            return
        self.stats.tx_frames += 1
        self.stats.tx_bytes += len(frame)
        for port in self._hub.ports:
            if port is not self:
                port.hear(frame)

    def hear(self, frame: bytes) -> None:
        """Take a frame of another port's. Any thread."""
        inbox = self._inbox
        if inbox is not None:
            inbox.put((frame,))

    def close(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            self._hub.unplug(self)
            inbox.close()

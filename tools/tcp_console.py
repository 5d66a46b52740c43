"""The console on a TCP port: one client at a time sees the output and types."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING

from tools.errors import HostError

if TYPE_CHECKING:
    from hypervisor.machine import Machine

SHOWN = 64 << 10
"""Bytes of earlier output that a new client gets."""
WAITING = 1 << 20
"""Bytes that may wait for a slow client; it loses the oldest beyond, and the guest loses none."""
_BUSY = b"this console has a client already\r\n"
_LIVE = "tcp-console"
_POLLIN, _POLLOUT = select.POLLIN, select.POLLOUT


class TcpConsole:
    """Listens from construction to `close`. `port` is the one that was given for port 0."""

    def __init__(self, machine: Machine, host: str, port: int) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._shown = bytearray()
        self._waiting = bytearray()
        self._client: socket.socket | None = None
        self._closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = error.strerror or error
            raise HostError(f"the console cannot listen on {host}:{port}: {reason}") from None
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        machine.console.sinks.append(self._write)
        machine.live.add(_LIVE)
        machine.log(f"the console listens on {host}:{self.port}")
        self._thread = threading.Thread(target=self._serve, daemon=True, name=_LIVE)
        self._thread.start()

    def close(self) -> None:
        """The client gets what it has room for."""
        self._closing = True
        self._wake_up()
        self._thread.join()
        for each in (self._server, self._wake, self._woken):
            each.close()

    # -- on the machine's thread ------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        with self._lock:
            _append(self._shown, data, SHOWN)
            if self._client is None:
                return
            first = not self._waiting
            _append(self._waiting, data, WAITING)
        if first:
            self._wake_up()

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then it is awake
            self._wake.send(b"\0")

    # -- on a thread of its own -------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._closing:
            ready = self._poll()
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
            if self._server.fileno() in ready:
                self._accept()
            client = self._client
            events = ready.get(client.fileno(), 0) if client is not None else 0
            if events & ~_POLLOUT:
                self._receive()
            self._send()
        self._drop()

    def _poll(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._server, _POLLIN)
        poll.register(self._woken, _POLLIN)
        if self._client is not None:
            poll.register(self._client, _POLLIN | (_POLLOUT if self._waiting else 0))
        return dict(poll.poll())

    def _accept(self) -> None:
        try:
            client, _ = self._server.accept()
        except OSError:  # it has gone again
            return
        client.setblocking(False)
        if self._client is not None:
            with contextlib.suppress(OSError), client:
                client.send(_BUSY)
            return
        with self._lock:
            self._waiting[:] = self._shown
            self._client = client

    def _receive(self) -> None:
        assert self._client is not None
        try:
            data = self._client.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop()
            return
        self._machine.inbox.post(partial(self._machine.console.send, data))

    def _send(self) -> None:
        with self._lock:
            if self._client is None or not self._waiting:
                return
            try:
                sent = self._client.send(self._waiting, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                sent = len(self._waiting)  # a client that is gone; reading will say so
            del self._waiting[:sent]

    def _drop(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            self._waiting.clear()
        if client is not None:
            client.close()


def _append(buffer: bytearray, data: bytes, limit: int) -> None:
    """Add to the end, and keep the last `limit` bytes."""
    buffer += data
    if len(buffer) > limit:
        del buffer[: len(buffer) - limit]

"""Listens for a GDB: one client at a time, on a thread of its own."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from functools import partial

from hypervisor.outcome import Outcome
from tools.control import ClientWork, Control
from tools.errors import HostError
from tools.gdb.packets import Decoder, Signal, encode
from tools.gdb.session import Session

_CHUNK = 1 << 16
_REQUESTS = 64
"""Packets of a client that may wait for the machine; no more is read before."""
_BREATH = 0.1
"""Seconds until the next attempt, where the host could not take a client."""
_SEND_SECONDS = 10.0
"""How long a client may leave an answer unread before it counts as gone."""


def parse_place(text: str) -> tuple[str, int]:
    """`HOST:PORT`, or a port alone on the loopback. Raises ValueError with a sentence."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"'{text}' is not HOST:PORT with a port up to 65535")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


class GdbServer:
    """Serves GDB from construction to `close`. `port` is the one that was given for port 0."""

    def __init__(self, control: Control, host: str, port: int) -> None:
        self._control = control
        self._client: _Client | None = None
        self._closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = error.strerror or error
            raise HostError(f"the GDB server cannot listen on {host}:{port}: {reason}") from None
        self.port: int = self._server.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        control.machine.log(f"gdb: connect with `target remote {host}:{self.port}`")
        self._thread = threading.Thread(target=self._serve, daemon=True, name="gdb")
        self._thread.start()

    def ended(self, outcome: Outcome) -> None:
        """Tell the client how the machine ended. The machine's thread."""
        client = self._client
        if client is not None:
            client.session.ended(outcome)

    def close(self) -> None:
        self._closing = True
        self._wake.send(b"\0")
        self._thread.join()
        for each in (self._server, self._wake, self._woken):
            each.close()

    def _serve(self) -> None:
        while not self._closing:
            if self._ready(self._server):
                try:
                    connection, _ = self._server.accept()
                except OSError:  # it has gone again, or the process may open no more files
                    select.select([self._woken], [], [], _BREATH)
                    continue
                with connection:
                    self._talk(connection)

    def _ready(self, wanted: socket.socket) -> bool:
        """Wait for something to read there; False when the server closes."""
        ready, _, _ = select.select([wanted, self._woken], [], [])
        return wanted in ready and self._woken not in ready

    def _talk(self, connection: socket.socket) -> None:
        client = self._client = _Client(connection, self._control)
        connection.settimeout(_SEND_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        post = ClientWork(self._control, _REQUESTS, lambda: client.gone or self._closing).post
        self._control.post(client.session.begin)
        decoder = Decoder()
        while not client.gone and self._ready(connection):
            try:
                data = connection.recv(_CHUNK)
            except OSError:
                break
            if not data:
                break
            for item in decoder.feed(data):
                if isinstance(item, bytes):
                    client.acknowledge(b"+")
                    post(partial(client.session.handle, item))
                elif item is Signal.INTERRUPT:
                    post(client.session.interrupt)
                elif item is Signal.DAMAGED:
                    client.acknowledge(b"-")
                elif item is Signal.NAK:
                    client.repeat()
        client.gone = True
        self._client = None
        self._control.post(client.session.close)


class _Client:
    """A connection, used by the machine's thread and the server's."""

    def __init__(self, connection: socket.socket, control: Control) -> None:
        self.gone = False
        self._connection = connection
        self._lock = threading.Lock()
        self._last = b""
        self.session = Session(control, self._send)

    def acknowledge(self, sign: bytes) -> None:
        if not self.session.no_acks:
            self._transmit(sign)

    def repeat(self) -> None:
        self._transmit(self._last)

    def _send(self, contents: bytes) -> None:
        self._last = encode(contents)
        self._transmit(self._last)

    def _transmit(self, data: bytes) -> None:
        if self.gone or not data:
            return
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(data)
            return
        self.gone = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

"""Listens for monitors and QMP clients, each on a thread of its own.

A client that does not read what it is sent is dropped: the machine waits for nobody. One that
sends no more, as a pipe's end does, gets the answers to what it has sent.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hypervisor.events import Reset
from hypervisor.outcome import Outcome
from tools.control import ClientWork, Control
from tools.errors import HostError
from tools.monitor.actions import Actions
from tools.monitor.qmp import QmpSession, encode
from tools.monitor.text import PROMPT, TextMonitor

_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 16
_WAITING = 32 << 20
"""Bytes that may wait for a client to read them: more than a burst of events or long answers."""
_REQUESTS = 64
"""Requests of a client that may wait for the machine; no more is read before."""
_MOST_CLIENTS = 16
"""At one place and at a time; each may have _WAITING bytes of the host's memory."""
_STALLED = 60.0
"""Seconds that a client which sends no more has to take its answers, and with them its place."""
_LEAVING = 1.0
"""Seconds that clients have to take their last answers, when the server closes."""
_BREATH = 0.1
"""Seconds until the next attempt, where the host could not take a client."""


class PlaceError(ValueError):
    """A place to listen that cannot be: one sentence."""


@dataclass(frozen=True)
class Place:
    """`unix:PATH` or `tcp:HOST:PORT`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        kind, _, rest = text.partition(":")
        if kind == "unix" and rest:
            return cls(path=rest)
        host, _, port = rest.rpartition(":")
        if kind == "tcp" and port.isascii() and port.isdigit() and int(port) < 1 << 16:
            return cls(host=host.removeprefix("[").removesuffix("]") or "127.0.0.1", port=int(port))
        raise PlaceError(f"'{text}' is not unix:PATH or tcp:HOST:PORT")

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:{self.host}:{self.port}"


class Server:
    """Accepts clients from construction to `close`; `talk` serves one. A client too many is sent
    the sentence that says so, as `refusal` puts it."""

    def __init__(
        self,
        control: Control,
        place: Place,
        talk: Callable[[Connection], None],
        refusal: Callable[[str], bytes],
    ) -> None:
        self._control = control
        self.place = place
        self._talk = talk
        self._refusal = refusal
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._closing = False
        try:
            self._server = _listen(place)
        except OSError as error:
            raise HostError(f"cannot listen on {place}: {error.strerror or error}") from None
        if not place.path:
            self.place = Place(host=place.host, port=self._server.getsockname()[1])
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="monitor")
        self._thread.start()

    def connections(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def close(self) -> None:
        self._closing = True
        self._wake.send(b"\0")
        self._thread.join()
        clients = self.connections()
        for connection in clients:
            connection.finish()
        deadline = time.monotonic() + _LEAVING
        for connection in clients:
            connection.flush(_until(deadline))
        for connection in clients:
            connection.drop()
        deadline = time.monotonic() + _LEAVING
        for connection in clients:
            connection.thread.join(_until(deadline))
        for each in (self._server, self._wake, self._woken):
            each.close()
        if self.place.path:
            with contextlib.suppress(OSError):
                os.unlink(self.place.path)

    def _serve(self) -> None:
        while not self._closing:
            select.select([self._server, self._woken], [], [])
            if self._closing:
                break
            try:
                client, _ = self._server.accept()
            except OSError:  # it has gone again, or the process may open no more files
                select.select([self._woken], [], [], _BREATH)
                continue
            if len(self.connections()) >= _MOST_CLIENTS:
                self._refuse(client)
                continue
            connection = Connection(client, self._control)
            connection.thread = threading.Thread(
                target=self._run, args=(connection,), daemon=True, name="monitor client"
            )
            with self._lock:
                self._connections.add(connection)
            connection.thread.start()

    def _refuse(self, client: socket.socket) -> None:
        sentence = f"{self.place} has {_MOST_CLIENTS} clients, and that is all it takes"
        client.setblocking(False)
        with client, contextlib.suppress(OSError):
            client.send(self._refusal(sentence))

    def _run(self, connection: Connection) -> None:
        try:
            self._talk(connection)
            connection.finish()
            connection.flush(_STALLED)
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)


class Connection:
    """A client. `send` never waits."""

    thread: threading.Thread
    """Reads what the client sends."""

    def __init__(self, client: socket.socket, control: Control) -> None:
        self._socket = client
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.session: Any = None
        self.gone = False
        """Nothing reaches the client any more, and nothing is done for it."""
        self._settled = threading.Event()
        self._control = control
        self.post = ClientWork(control, _REQUESTS, lambda: self.gone).post
        self._writer = threading.Thread(target=self._write, daemon=True, name="monitor output")
        self._writer.start()

    def receive(self) -> bytes:
        """What came, b"" when nothing more will."""
        try:
            return self._socket.recv(_CHUNK)
        except OSError:
            return b""

    def send(self, data: bytes) -> None:
        """From any thread. A client that does not read is dropped."""
        if self.gone:
            return
        with self._lock:
            self._waiting += len(data)
            fits = self._waiting <= _WAITING
        if fits:
            self._outgoing.put(data)
        else:
            self.drop()

    def settle(self) -> None:
        """On the client's own thread: until all that was posted is done, or the client dropped."""
        self._control.post(self._settled.set)
        self._settled.wait()

    def finish(self) -> None:
        """Nothing is sent any more but what was until now."""
        self._outgoing.put(None)

    def flush(self, timeout: float | None = None) -> None:
        """After `finish`: until the client has what was sent, or is dropped."""
        self._writer.join(timeout)

    def drop(self) -> None:
        self.gone = True
        self._settled.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._outgoing.put(None)

    def close(self) -> None:
        """The end, on the client's own thread: nobody reads or writes any more."""
        self.drop()
        self._writer.join()
        self._socket.close()

    def _write(self) -> None:
        while (data := self._outgoing.get()) is not None:
            try:
                self._socket.sendall(data)
            except OSError:
                self.drop()
                break
            with self._lock:
                self._waiting -= len(data)


class QmpServer:
    """QMP at a place."""

    def __init__(self, control: Control, actions: Actions, place: Place) -> None:
        self._control = control
        self._actions = actions
        self._reset = actions.machine.events.subscribe(Reset, lambda event: self._tell("RESET"))
        control.on_pause.append(self._paused)
        control.on_resume.append(lambda: self._tell("RESUME"))
        control.on_end.append(self._ended)
        self._server = Server(control, place, self._talk, _refused)
        self.place = self._server.place

    def close(self) -> None:
        self._reset.cancel()
        self._server.close()

    def _talk(self, connection: Connection) -> None:
        session = QmpSession(
            self._actions,
            lambda message: connection.send(encode(message)),
            self._tell,
        )
        connection.session = session
        attach, detach = self._actions.accesses.attach, self._actions.accesses.detach
        self._control.post(attach)
        session.begin()
        while data := connection.receive():
            for request in session.feed(data):
                connection.post(partial(session.handle, request))
        connection.settle()
        self._control.post(session.close)
        self._control.post(detach)

    def _sessions(self) -> list[QmpSession]:
        return [c.session for c in self._server.connections() if c.session is not None]

    def _tell(self, name: str, data: dict[str, Any] | None = None) -> None:
        for session in self._sessions():
            session.event(name, data)

    def _paused(self, outcome: Outcome) -> None:
        for session in self._sessions():
            session.paused(outcome)

    def _ended(self, outcome: Outcome) -> None:
        guest = outcome.kind in ("power-off", "failed")
        reason = "guest-shutdown" if outcome.kind == "power-off" else "host-qmp-quit"
        if outcome.kind == "failed":
            reason = "guest-panic"
        data = {"guest": guest, "reason": reason, "sentence": outcome.sentence}
        self._tell("SHUTDOWN", data)


class MonitorServer:
    """The text monitor at a place."""

    def __init__(self, control: Control, actions: Actions, place: Place) -> None:
        self._control = control
        self._actions = actions
        self._server = Server(control, place, self._talk, lambda said: f"{said}\n".encode())
        self.place = self._server.place

    def close(self) -> None:
        self._server.close()

    def _talk(self, connection: Connection) -> None:
        presence = Presence(self._control, self._actions)
        lines = Lines(connection.post, TextMonitor(self._actions), connection.send)
        self._control.post(presence.begin)
        while data := connection.receive():
            lines.feed(data)
        connection.settle()
        self._control.post(presence.end)


class Presence:
    """Somebody is at a monitor: a guest that waits may be typed to, and a machine that fails is
    kept for a look."""

    def __init__(self, control: Control, actions: Actions) -> None:
        self._control = control
        self._accesses = actions.accesses
        self._name = f"monitor {id(self):#x}"

    def begin(self) -> None:
        self._accesses.attach()
        self._control.debuggers += 1
        self._control.machine.live.add(self._name)

    def end(self) -> None:
        self._accesses.detach()
        self._control.debuggers -= 1
        self._control.machine.live.discard(self._name)


class Lines:
    """The text monitor's dialogue: lines in, answers and prompts out. `post` has work done on the
    machine's thread, `send` takes bytes."""

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        monitor: TextMonitor,
        send: Callable[[bytes], None],
    ) -> None:
        self._post = post
        self._monitor = monitor
        self._send = send
        self._pending = bytearray()
        send(PROMPT.encode())

    def feed(self, data: bytes) -> None:
        """What was typed."""
        self._pending += data
        *lines, rest = self._pending.split(b"\n")
        self._pending = bytearray(rest)
        for line in lines:
            self._post(partial(self._answer, bytes(line)))
        if len(self._pending) > _LONGEST_LINE:
            self._pending.clear()
            self._send(f"a line has at most {_LONGEST_LINE} bytes\n{PROMPT}".encode())

    def _answer(self, line: bytes) -> None:
        try:
            text = self._monitor.answer(line.decode(errors="replace").strip())
        except Exception as error:  # a device's hook, say: the machine goes on
            text = f"{type(error).__name__}: {error}"
        self._send((text + "\n" if text else "").encode() + PROMPT.encode())


def _refused(sentence: str) -> bytes:
    return encode({"error": {"class": "GenericError", "desc": sentence}})


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _listen(place: Place) -> socket.socket:
    if not place.path:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        return socket.create_server((place.host, place.port), family=family)
    path = Path(place.path)
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(place.path):
        path.unlink()  # of a run that was killed
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.bind(place.path)
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True

"""Far ends of the console: the terminal, a file, a TCP port, or nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import termios
import threading
import tty
from typing import Protocol

from hypervisor.device import BackendError
from hypervisor.machine import Machine

ESCAPE = b"\x01"
HELP = b"\r\nCtrl-A x: leave   Ctrl-A Ctrl-A: send Ctrl-A   Ctrl-A h: this help\r\n"
_SEND_BUFFER = 1 << 20


class ConsoleEnd(Protocol):
    def close(self) -> None: ...


def attach(machine: Machine, spec: str, *, scripted: bool) -> ConsoleEnd:
    """Connect the machine's console to `spec`: stdio, none, file:PATH or tcp:HOST:PORT.

    scripted: input comes from a script, so standard input is read only if it is a terminal.
    """
    kind, _, rest = spec.partition(":")
    if kind == "stdio" and not rest:
        return Stdio(machine, scripted)
    if kind == "none" and not rest:
        return Nowhere()
    if kind == "file" and rest:
        return File(machine, rest)
    if kind == "tcp" and rest:
        host, _, port = rest.rpartition(":")
        if host and port.isdigit() and int(port) < 65536:
            return Tcp(machine, host, int(port))
    raise BackendError(f"'{spec}' is no console; say stdio, none, file:PATH or tcp:HOST:PORT")


class Nowhere:
    def close(self) -> None:
        """Nothing was opened."""


class File:
    """Output to a file, as it comes."""

    def __init__(self, machine: Machine, path: str) -> None:
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise BackendError(
                f"the console file {path} cannot be written: {error.strerror}"
            ) from None
        machine.console.sinks.append(self._file.write)

    def close(self) -> None:
        self._file.close()


class Stdio:
    """The terminal this program runs in: raw, with Ctrl-A as escape."""

    def __init__(self, machine: Machine, scripted: bool) -> None:
        self._machine = machine
        self._saved: list[object] | None = None
        self._escaped = False
        machine.console.sinks.append(self._write)
        terminal = sys.stdin is not None and sys.stdin.isatty()
        if terminal:
            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
        if terminal or not scripted:
            machine.live.add("stdin")
            threading.Thread(target=self._read, daemon=True, name="stdin").start()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError):
            while view:
                view = view[os.write(1, view) :]

    def _read(self) -> None:
        machine = self._machine
        while True:
            try:
                data = os.read(0, 4096)
            except OSError:
                data = b""
            if not data:
                machine.inbox.post(lambda: machine.live.discard("stdin"))
                return
            typed = self._unescape(data) if self._saved is not None else data
            if typed:
                machine.inbox.post(lambda typed=typed: machine.console.send(typed))

    def _unescape(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            key = bytes([byte])
            if self._escaped:
                self._escaped = False
                if key in b"xX":
                    self._machine.stop()
                elif key in b"hH?":
                    os.write(1, HELP)
                elif key == ESCAPE:
                    out += key
            elif key == ESCAPE:
                self._escaped = True
            else:
                out += key
        return bytes(out)

    def close(self) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)


class Tcp:
    """A listening port; one client at a time sees the output and types."""

    def __init__(self, machine: Machine, host: str, port: int) -> None:
        self._machine = machine
        self._client: socket.socket | None = None
        try:
            self._server = socket.create_server((host, port))
        except OSError as error:
            raise BackendError(
                f"the console cannot listen on {host}:{port}: {error.strerror}"
            ) from None
        self.port: int = self._server.getsockname()[1]
        machine.console.sinks.append(self._write)
        machine.live.add("tcp-console")
        threading.Thread(target=self._serve, daemon=True, name="tcp-console").start()

    def _write(self, data: bytes) -> None:
        client = self._client
        if client is not None:
            with contextlib.suppress(OSError):  # a slow or gone client loses output, not the guest
                client.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _serve(self) -> None:
        machine = self._machine
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._client = client
            with contextlib.suppress(OSError), client:
                while data := client.recv(4096):
                    machine.inbox.post(lambda data=data: machine.console.send(data))
            self._client = None

    def close(self) -> None:
        self._server.close()
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

"""Far ends of the machine's console: the terminal, a file, a TCP port, or nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tools.ending import Ending
from tools.errors import HostError

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class ConsoleEnd(Protocol):
    def close(self) -> None:
        """Let go of what was opened; a terminal is as it was."""


class SpecError(ValueError):
    """What --console names is no console: one sentence."""


@dataclass(frozen=True)
class Spec:
    """`stdio`, `none`, `file` with a path, or `tcp` with host and port."""

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Raises SpecError."""
        kind, colon, rest = text.partition(":")
        if kind in ("stdio", "none") and not colon:
            return cls(kind)
        if kind == "file" and rest:
            return cls(kind, path=rest)
        if kind == "tcp" and rest:
            host, _, port = rest.rpartition(":")
            if host and port.isascii() and port.isdigit() and int(port) < 1 << 16:
                return cls(kind, host=host.removeprefix("[").removesuffix("]"), port=int(port))
            raise SpecError(f"'{rest}' is not HOST:PORT with a port up to 65535")
        raise SpecError(f"'{text}' is no console; say stdio, none, file:PATH or tcp:HOST:PORT")


def attach(machine: Machine, spec: Spec, ending: Ending, *, typed: bool) -> ConsoleEnd:
    """Connect the machine's console. `typed`: standard input goes to the guest. Raises
    HostError."""
    if spec.kind == "stdio":
        from tools.terminal import Stdio

        return Stdio(machine, ending, typed=typed)
    if spec.kind == "tcp":
        from tools.tcp_console import TcpConsole

        return TcpConsole(machine, spec.host, spec.port)
    return File(machine, spec.path) if spec.kind == "file" else Nowhere()


class Nowhere:
    def close(self) -> None:
        """Nothing was opened."""


class File:
    """Output to a file, as it comes."""

    def __init__(self, machine: Machine, path: str) -> None:
        self._path = path
        self._log = machine.log
        try:
            self._file: int | None = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            raise HostError(
                f"the console file {path} cannot be written: {error.strerror}"
            ) from None
        machine.console.sinks.append(self._write)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view and self._file is not None:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            # The guest goes on: it did nothing wrong, and its output is also kept in memory.
            self.close()
            self._log(f"the console file {self._path} ends here: {error.strerror}")

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

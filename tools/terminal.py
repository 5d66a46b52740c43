"""Standard input and output as the machine's console. On a terminal it is raw, and Ctrl-A is the
one key that the guest does not get."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import termios
import threading
import tty
from functools import partial
from typing import TYPE_CHECKING, Any

from tools.ending import Ending

if TYPE_CHECKING:
    from hypervisor.machine import Machine

ESCAPE = 0x01
HELP = b"\r\nCtrl-A x: leave   Ctrl-A Ctrl-A: send Ctrl-A   Ctrl-A h: this help\r\n"
_INPUT, _OUTPUT = 0, 1
_LIVE = "stdin"
_CHUNK = 4096
"""A pipe that poll calls writable takes as much without blocking."""
_FILE_LIMIT = 1 << 20


class Escapes:
    """Takes Ctrl-A and the key after it out of what is typed."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._escaped = False

    def filter(self, typed: bytes) -> bytes:
        """What of `typed` is for the guest."""
        out = bytearray()
        for key in typed:
            if not self._escaped:
                self._escaped = key == ESCAPE
                if not self._escaped:
                    out.append(key)
                continue
            self._escaped = False
            if key == ESCAPE:
                out.append(key)
            elif key in b"xX":
                self._ending.stop()
            elif key in b"hH?":
                with contextlib.suppress(OSError):
                    os.write(_OUTPUT, HELP)
        return bytes(out)


class Stdio:
    """The console on standard input and output.

    typed: what comes on standard input goes to the guest. What is there from the start (a file)
    is typed at once and makes no run differ from another.
    """

    def __init__(self, machine: Machine, ending: Ending, *, typed: bool) -> None:
        self._machine = machine
        self._ending = ending
        self._saved: list[Any] | None = None
        self._thread: threading.Thread | None = None
        self._escapes = Escapes(ending)
        self._broken = False
        self._writable = select.poll()
        self._writable.register(_OUTPUT, select.POLLOUT)
        machine.console.sinks.append(self._write)
        if typed:
            self._open_input()

    def close(self) -> None:
        """The terminal is as it was, and what is printed next begins a line."""
        if self._thread is not None:
            os.close(self._wake)
            self._thread.join()
            self._thread = None
        if self._saved is not None:
            # Not waiting for the output to drain: a terminal may have stopped taking it.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(_INPUT, termios.TCSANOW, self._saved)
            self._saved = None
        last = bytes(self._machine.console.output[-1:])
        if os.isatty(_OUTPUT) and last not in (b"", b"\n"):
            self._write(b"\n")

    # -- the guest's output, on the machine's thread ----------------------------------------------

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._broken:
            # A reader may be slow for as long as the run may last, and no longer.
            if not self._writable.poll(100):
                self._broken = self._ending.due
                continue
            try:
                view = view[os.write(_OUTPUT, view[:_CHUNK]) :]
            except OSError as error:
                self._broken = True
                if not isinstance(error, BrokenPipeError):
                    self._machine.log(f"standard output ends here: {error.strerror}")

    # -- what is typed, on a thread of its own ----------------------------------------------------

    def _open_input(self) -> None:
        if os.isatty(_INPUT):
            self._saved = termios.tcgetattr(_INPUT)
            tty.setraw(_INPUT, termios.TCSANOW)
        elif (there := _from_the_start()) is not None:
            self._machine.console.send(there)
            return
        stop, self._wake = os.pipe2(os.O_CLOEXEC)
        self._machine.live.add(_LIVE)
        self._thread = threading.Thread(
            target=self._read, args=(stop,), daemon=True, name="console input"
        )
        self._thread.start()

    def _read(self, stop: int) -> None:
        machine = self._machine
        waiting = select.poll()
        waiting.register(_INPUT, select.POLLIN)
        waiting.register(stop, select.POLLIN)
        while stop not in (ready := dict(waiting.poll())):
            try:
                data = os.read(_INPUT, _CHUNK) if _INPUT in ready else b""
            except OSError:
                data = b""
            if not data:
                machine.inbox.post(lambda: machine.live.discard(_LIVE))
                break
            typed = self._escapes.filter(data) if self._saved is not None else data
            if typed:
                machine.inbox.post(partial(machine.console.send, typed))
        os.close(stop)


def nothing_to_come() -> bool:
    """Whether standard input is /dev/null."""
    status = os.fstat(_INPUT)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


def _from_the_start() -> bytes | None:
    """All of standard input where it is a file or /dev/null; None where it comes in time."""
    if nothing_to_come():
        return b""
    if stat.S_ISREG(os.fstat(_INPUT).st_mode):
        with open(_INPUT, "rb", closefd=False) as file:
            return file.read(_FILE_LIMIT)
    return None

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
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tools.ending import Ending

if TYPE_CHECKING:
    from hypervisor.machine import Machine

ESCAPE = 0x01
HELP = (
    b"\r\nCtrl-A x: leave   Ctrl-A c: monitor, and back   Ctrl-A Ctrl-A: send Ctrl-A"
    b"   Ctrl-A h: this help\r\n"
)
_INPUT, _OUTPUT = 0, 1
_LIVE = "stdin"
_CHUNK = 4096
"""A pipe that poll calls writable takes as much without blocking."""
_FILE_LIMIT = 1 << 20


class Escapes:
    """Takes Ctrl-A and the key after it out of what is typed."""

    def __init__(self, ending: Ending, switch: Callable[[], None] = lambda: None) -> None:
        self._ending = ending
        self._switch = switch
        self._escaped = False

    def filter(self, typed: bytes) -> bytes:
        """What of `typed` is for the guest."""
        return b"".join(self.parts(typed))

    def parts(self, typed: bytes) -> Iterator[bytes]:
        """The same in pieces: Ctrl-A c comes between what was typed before it and after."""
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
            elif key in b"cC":
                yield bytes(out)
                out.clear()
                self._switch()
            elif key in b"hH?":
                with contextlib.suppress(OSError):
                    os.write(_OUTPUT, HELP)
        yield bytes(out)


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
        self._escapes = Escapes(ending, self._switch)
        self.monitor: Callable[[Callable[[bytes], None]], Typed] | None = None
        """Makes the monitor behind Ctrl-A c, which is given what shows its answers."""
        self._editor: LineEditor | None = None
        self._in_monitor = False
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
            for typed in self._escapes.parts(data) if self._saved is not None else (data,):
                if not typed:
                    continue
                if self._in_monitor and self._editor is not None:
                    self._editor.type(typed)
                else:
                    machine.inbox.post(partial(machine.console.send, typed))
        os.close(stop)

    def _switch(self) -> None:
        """Ctrl-A c: from the guest to the monitor, or back."""
        if self.monitor is None:
            return
        self._in_monitor = not self._in_monitor
        self._show(b"\n" if self._in_monitor else b"\nthe guest's console:\n")
        if self._in_monitor and self._editor is None:
            self._editor = LineEditor(self.monitor(self._show), self._show)
        elif self._in_monitor and self._editor is not None:
            self._editor.type(b"\r")

    def _show(self, data: bytes) -> None:
        """The monitor's words, on a raw terminal."""
        with contextlib.suppress(OSError):
            os.write(_OUTPUT, data.replace(b"\n", b"\r\n"))


class Typed(Protocol):
    """What takes lines as they are typed."""

    def feed(self, data: bytes) -> None: ...


class LineEditor:
    """Echoes what is typed on a raw terminal, and hands whole lines on."""

    def __init__(self, lines: Typed, show: Callable[[bytes], None]) -> None:
        self._lines = lines
        self._show = show
        self._line = bytearray()

    def type(self, keys: bytes) -> None:
        for key in keys:
            if key in b"\r\n":
                self._show(b"\n")
                self._lines.feed(bytes(self._line) + b"\n")
                self._line.clear()
            elif key in (0x7F, 0x08):
                if self._line:
                    self._line.pop()
                    self._show(b"\x08 \x08")
            elif key == 0x15:  # Ctrl-U
                self._show(b"\x08 \x08" * len(self._line))
                self._line.clear()
            elif 0x20 <= key < 0x7F:
                self._line.append(key)
                self._show(bytes((key,)))


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

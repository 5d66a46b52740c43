"""Attaches monitors to a run, as its command line asks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from tools.control import Control
from tools.terminal import Stdio

if TYPE_CHECKING:
    from tools.monitor.actions import Actions
    from tools.monitor.server import Lines, Place


@contextmanager
def monitored(
    control: Control, monitor: str | None, qmp: str | None, console: object = None
) -> Iterator[None]:
    """Meanwhile monitors may connect at these places (`unix:PATH`, `tcp:HOST:PORT`; the text one
    may be `stdio`), and a terminal that is the `console` has one behind Ctrl-A c. Raises HostError
    and click.BadParameter."""
    with ExitStack() as stack:
        if isinstance(console, Stdio):
            console.monitor = lambda send: _behind_the_console(control, send)
        if monitor is None and qmp is None:
            yield
            return
        from tools.monitor.actions import Actions
        from tools.monitor.server import MonitorServer, QmpServer

        actions = Actions(control)
        log = control.machine.log
        if qmp is not None:
            server = QmpServer(control, actions, _place(qmp, "'--qmp'"))
            stack.callback(server.close)
            log(f"qmp: listening on {server.place}")
        if monitor == "stdio":
            _serve_stdio(control, actions)
        elif monitor is not None:
            text = MonitorServer(control, actions, _place(monitor, "'--monitor'"))
            stack.callback(text.close)
            log(f"monitor: listening on {text.place}")
        yield


def _place(text: str, option: str) -> Place:
    from tools.monitor.server import Place, PlaceError

    try:
        return Place.parse(text)
    except PlaceError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _behind_the_console(control: Control, send: Callable[[bytes], None]) -> Lines:
    """What Ctrl-A c leads to, made at its first use by the thread that reads the keys."""
    from tools.monitor.actions import Actions
    from tools.monitor.server import Lines
    from tools.monitor.text import TextMonitor

    actions = Actions(control)
    control.post(actions.accesses.attach)
    return Lines(control.post, TextMonitor(actions), send)


def _serve_stdio(control: Control, actions: Actions) -> None:
    """The monitor on standard input and output, until the input ends."""
    from tools.monitor.server import Lines, Presence
    from tools.monitor.text import TextMonitor

    def send(data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(1, view) :]
        except OSError:  # nobody reads any more
            return

    def read() -> None:
        while data := _read(0):
            lines.feed(data)
        control.post(presence.end)

    lines = Lines(control.post, TextMonitor(actions), send)
    presence = Presence(control, actions)
    presence.begin()
    threading.Thread(target=read, daemon=True, name="monitor input").start()


def _read(file: int) -> bytes:
    try:
        return os.read(file, 4096)
    except OSError:
        return b""

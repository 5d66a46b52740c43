"""`hypervisor inspect`."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tools.errors import HostError
from tools.run_command import overrides_option

_SECONDS = 60
"""How long a machine may take to be built."""


@click.command()
@click.argument("what", metavar="MACHINE.yaml|SOCKET")
@overrides_option
@click.option("--paused", is_flag=True, help="Begin with the machine stopped.")
def inspect(what: str, overrides: tuple[str, ...], paused: bool) -> int:
    """Look into a machine on the terminal: devices and their registers, harts, interrupts, console.

    Runs the MACHINE, or attaches to one that runs with --qmp unix:SOCKET. F5 runs and stops, F10
    steps, F7 steps back, F8 rewinds, F9 sets a breakpoint, Ctrl-Q leaves.
    """
    try:
        from tools.inspector.app import Inspector
    except ImportError:
        raise HostError(
            "the inspector needs the package textual: pip install 'hypervisor[inspect]'"
        ) from None
    path = what.removeprefix("unix:")
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        app = Inspector(path)
        code = app.run()
    else:
        with _machine(what, overrides, paused) as path:
            app = Inspector(path, owns=True)
            code = app.run()
    if app.failure:
        raise HostError(app.failure)
    return code or 0


@contextmanager
def _machine(what: str, overrides: tuple[str, ...], paused: bool) -> Iterator[str]:
    """A machine of the inspector's own, as a process; the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="hypervisor-") as folder:
        path = os.path.join(folder, "qmp")
        settings = [word for each in overrides for word in ("--set", each)]
        arguments = ["run", what, *settings, "--console", "none", "--qmp", f"unix:{path}"]
        if paused:
            arguments.append("--paused")
        with (Path(folder) / "messages").open("w+b") as messages:
            child = subprocess.Popen(
                [sys.executable, "-m", "tools.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )
            try:
                _await_socket(path, child, messages.name)
                yield path
            finally:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(2)
                child.terminate()
                child.wait()


def _await_socket(path: str, child: subprocess.Popen[bytes], messages: str) -> None:
    end = time.monotonic() + _SECONDS
    while not os.path.exists(path):
        if child.poll() is not None or time.monotonic() > end:
            said = Path(messages).read_text(errors="replace").strip()
            raise HostError(said or "the machine did not begin")
        time.sleep(0.05)

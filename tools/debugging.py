"""Attaches to a run the debuggers that its command line or its description asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tools.control import Control


@contextmanager
def debugging(control: Control, gdb: str | None, *, wait: bool) -> Iterator[None]:
    """Meanwhile GDB may connect at `gdb` (HOST:PORT), by default where the description says.
    `wait`: the machine is paused until a debugger lets it go on. Raises HostError."""
    machine = control.machine
    options = machine.description.debug
    place = gdb or options.gdb
    if place is None:
        if wait:
            raise click.UsageError("--gdb-wait needs --gdb")
        yield
        return
    from hypervisor.history import History
    from tools.gdb.server import GdbServer, parse_place

    try:
        host, port = parse_place(place)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--gdb'") from None
    if wait or options.wait:
        control.pause()
    machine.history = History(machine)
    server = GdbServer(control, host, port)
    control.on_end.append(server.ended)
    try:
        yield
    finally:
        server.close()
        machine.history.close()

"""Attaches to a run the debuggers that its command line or its description asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from tools.control import Control

if TYPE_CHECKING:
    from hypervisor.machine import Machine


@contextmanager
def debugging(
    control: Control, gdb: str | None, *, wait: bool, history: bool = False
) -> Iterator[None]:
    """Meanwhile GDB may connect at `gdb` (HOST:PORT), by default where the description says.
    `wait`: the machine is paused until a debugger lets it go on. `history`: it can be taken back,
    as it can with GDB. Raises HostError."""
    machine = control.machine
    options = machine.description.debug
    place = gdb or options.gdb
    if place is None:
        if wait or options.wait:
            raise click.UsageError("waiting for GDB needs --gdb, or debug.gdb in the description")
        with _kept(machine) if history else nullcontext():
            yield
        return
    from tools.gdb.server import GdbServer, parse_place

    try:
        host, port = parse_place(place)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--gdb'") from None
    if wait or options.wait:
        control.pause()
    with _kept(machine):
        server = GdbServer(control, host, port)
        control.on_end.append(server.ended)
        try:
            yield
        finally:
            server.close()


@contextmanager
def _kept(machine: Machine) -> Iterator[None]:
    """Meanwhile the machine keeps its history."""
    from hypervisor.history import History

    history = machine.history = History(machine)
    try:
        yield
    finally:
        history.close()

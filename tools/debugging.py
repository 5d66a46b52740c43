"""Attaches to a run the debuggers that its command line or its description asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    as it can with GDB unless it writes to files of the host. Raises HostError and HistoryError."""
    machine = control.machine
    options = machine.description.debug
    place = gdb or options.gdb
    if place is None:
        if wait or options.wait:
            raise click.UsageError("waiting for GDB needs --gdb, or debug.gdb in the description")
        with _kept(machine, history):
            yield
        return
    from tools.gdb.server import GdbServer, parse_place

    try:
        host, port = parse_place(place)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--gdb'") from None
    if wait or options.wait:
        control.pause()
    with _kept(machine, history or _can_go_back(machine)):
        server = GdbServer(control, host, port)
        control.on_end.append(server.ended)
        try:
            yield
        finally:
            server.close()


def _can_go_back(machine: Machine) -> bool:
    from hypervisor.history import why_not

    reason = why_not(machine)
    if reason:
        machine.log(f"gdb: {reason}")
    return not reason


@contextmanager
def _kept(machine: Machine, wanted: bool) -> Iterator[None]:
    """Meanwhile the machine keeps its history, if that is wanted."""
    if wanted:
        from hypervisor.history import History

        machine.history = History(machine)
    try:
        yield
    finally:
        if machine.history is not None:
            machine.history.close()

"""`hypervisor profile`, as it is said on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from tools.run_command import (
    ScriptCommand,
    overrides_option,
    restore_option,
    send_option,
    stats_option,
    timeout_option,
    until_option,
)

_FILE = click.Path(path_type=Path, dir_okay=False)


def _period(ctx: click.Context, option: click.Parameter, value: str) -> int:
    from hypervisor.device.options import parse_duration
    from hypervisor.profile.sampler import SHORTEST

    try:
        period = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if period < SHORTEST:
        raise click.BadParameter(f"'{value}' is less than {SHORTEST // 1000} us")
    return int(period)


@click.command(cls=ScriptCommand)
@click.argument("machine", metavar="MACHINE.yaml")
@overrides_option
@click.option(
    "--console",
    default="none",
    metavar="WHERE",
    help="none (default), stdio, file:PATH, or tcp:HOST:PORT (one client at a time).",
)
@until_option
@send_option
@timeout_option
@stats_option
@restore_option
@click.option(
    "--period",
    default="100us",
    callback=_period,
    metavar="TIME",
    help="Executed code between samples, in virtual time (default 100us).",
)
@click.option(
    "--symbols",
    multiple=True,
    metavar="FILE[@ADDRESS]",
    help="Names for more code: an ELF program (loaded ADDRESS bytes off) or a System.map.",
)
@click.option("--exact", is_flag=True, help="Count all code too, for exact figures of functions.")
@click.option("--top", default=30, metavar="N", help="Functions to show (default 30).")
@click.option(
    "--folded", type=_FILE, metavar="FILE", help="Write stacks as flame graphs take them."
)
@click.option("--speedscope", type=_FILE, metavar="FILE.json", help="Write stacks for speedscope.")
@click.option(
    "--drcov", type=_FILE, metavar="FILE", help="Write which code was executed, as drcov."
)
@click.option(
    "--lcov",
    type=_FILE,
    metavar="FILE.info",
    help="Write how often each line and branch was executed, for programs compiled with -g.",
)
@click.pass_obj
def profile(
    script: list[tuple[str, bytes]],
    machine: str,
    overrides: tuple[str, ...],
    console: str,
    until: tuple[str, ...],
    send: tuple[str, ...],
    timeout: float | None,
    stats: Path | None,
    restore: Path | None,
    period: int,
    symbols: tuple[str, ...],
    exact: bool,
    top: int,
    folded: Path | None,
    speedscope: Path | None,
    drcov: Path | None,
    lcov: Path | None,
) -> int:
    """Run a machine, and say where its time went: by function, mode, device and interrupt.

    Exit codes are those of `run`. The figures are printed however the run ends.
    """
    from tools.profile import Outputs, profile_machine
    from tools.run import Request

    request = Request(machine, overrides, console, script, timeout, stats, restore)
    outputs = Outputs(top, folded, speedscope, drcov, lcov)
    return profile_machine(request, period, symbols, exact, outputs)

"""`hypervisor run`, as it is said on the command line."""

from __future__ import annotations

import math
import re
from pathlib import Path

import click
from click.core import augment_usage_errors

_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|[nrt0e\\]|.|$)", re.DOTALL)
_NAMED = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "e": b"\x1b", "\\": b"\\"}

overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B.C=VALUE", help="Override a value."
)


def parse_text(value: str) -> bytes:
    r"""Text with escapes: `\n`, `\r`, `\t`, `\e`, `\0`, `\\` and `\xNN` stand for their bytes.

    Raises click.BadParameter.
    """
    if not value:
        raise click.BadParameter("it is empty")
    parts = []
    position = 0
    for match in _ESCAPE.finditer(value):
        said = match[1]
        if said not in _NAMED and len(said) != 3:
            raise click.BadParameter(rf"there is no escape '{match[0]}'; a backslash is '\\'")
        parts.append(value[position : match.start()].encode("utf-8", "surrogateescape"))
        parts.append(_NAMED.get(said) or bytes([int(said[1:], 16)]))
        position = match.end()
    parts.append(value[position:].encode("utf-8", "surrogateescape"))
    return b"".join(parts)


def _seconds(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e9:
        raise click.BadParameter(f"'{value}' is not a number of seconds above zero")
    return seconds


class ScriptCommand(click.Command):
    """Keeps the order of --until and --send: click itself groups values by option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        texts = {name: iter(given.get(name) or ()) for name in ("until", "send")}
        script = []
        for option in order:
            if option.name in texts:
                with augment_usage_errors(ctx, option):
                    script.append((option.name, parse_text(next(texts[option.name]))))
        ctx.obj = script
        return super().parse_args(ctx, args)


until_option = click.option(
    "--until",
    multiple=True,
    metavar="TEXT",
    help="Wait until the guest prints TEXT. The last one ends the run, with exit code 0.",
)
send_option = click.option("--send", multiple=True, metavar="TEXT", help=r"Type TEXT; \n is Enter.")
timeout_option = click.option(
    "--timeout", callback=_seconds, metavar="SECONDS", help="Give up after this host time."
)
stats_option = click.option(
    "--stats",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write figures of the run, however it ends.",
)
restore_option = click.option(
    "--restore",
    type=click.Path(path_type=Path),
    metavar="SNAPSHOT",
    help="Go on from a snapshot of this machine.",
)


trace_option = click.option(
    "--trace",
    multiple=True,
    metavar="FILTER",
    help="Trace events: KIND or KIND:SUBJECT, with commas between. 'all' are nearly all.",
)
trace_to_option = click.option(
    "--trace-to",
    metavar="FILE",
    help="FILE.pftrace for Perfetto, .txt for text, else one for `hypervisor trace`. "
    "Standard error unless given.",
)


def filter_of(trace: tuple[str, ...], trace_to: str | None) -> str | None:
    """One filter for all --trace. Raises click.BadParameter for --trace-to alone."""
    if trace_to is not None and not trace:
        raise click.BadParameter("needs --trace", param_hint="'--trace-to'")
    return ",".join(trace) or None


@click.command(cls=ScriptCommand)
@click.argument("machine", metavar="MACHINE.yaml")
@overrides_option
@click.option(
    "--console",
    default="stdio",
    metavar="WHERE",
    help="stdio (default), none, file:PATH, or tcp:HOST:PORT (one client at a time).",
)
@until_option
@send_option
@timeout_option
@stats_option
@restore_option
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a snapshot when the run ends by --until, by --timeout or by you.",
)
@click.option(
    "--screenshot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write what the display shows when the run ends.",
)
@click.option(
    "--gdb",
    metavar="HOST:PORT",
    help="Let GDB connect there; :PORT is on the loopback.",
)
@click.option("--gdb-wait", is_flag=True, help="Run nothing before GDB says so.")
@trace_option
@trace_to_option
@click.option("--history", is_flag=True, help="Keep states, so that the machine can be taken back.")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all that comes in from outside, for `hypervisor replay`.",
)
@click.option(
    "--monitor",
    metavar="WHERE",
    help="Let a monitor connect: stdio, unix:PATH or tcp:HOST:PORT. On a terminal, Ctrl-A c.",
)
@click.option("--qmp", metavar="WHERE", help="Serve QMP: unix:PATH or tcp:HOST:PORT.")
@click.option("--paused", is_flag=True, help="Run nothing before a monitor says so.")
@click.pass_obj
def run(
    script: list[tuple[str, bytes]],
    machine: str,
    overrides: tuple[str, ...],
    console: str,
    until: tuple[str, ...],
    send: tuple[str, ...],
    timeout: float | None,
    stats: Path | None,
    restore: Path | None,
    snapshot: Path | None,
    screenshot: Path | None,
    gdb: str | None,
    gdb_wait: bool,
    trace: tuple[str, ...],
    trace_to: str | None,
    record: Path | None,
    history: bool,
    monitor: str | None,
    qmp: str | None,
    paused: bool,
) -> int:
    """Run a machine. --until and --send are taken in the order given.

    On a terminal Ctrl-A x leaves. Exit code: 0 the guest powered off, or the last --until was met;
    1 the guest failed; 2 the description is wrong; 3 the host cannot do it; 124 the time ran out;
    128 and a signal's number where that signal ended it.
    """
    events = filter_of(trace, trace_to)
    from tools.run import Request
    from tools.run import run as run_machine

    return run_machine(
        Request(
            *(machine, overrides, console, script, timeout, stats, restore, snapshot, screenshot),
            *(gdb, gdb_wait),
            trace=events,
            trace_to=trace_to,
            record=record,
            history=history,
            monitor=monitor,
            qmp=qmp,
            paused=paused,
        )
    )

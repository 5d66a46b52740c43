"""The command line: `hypervisor run|check|...`. Commands import what they need when they run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

EXIT_DESCRIPTION, EXIT_HOST = 2, 3


class _RunCommand(click.Command):
    """Keeps the raw arguments: click groups an option's values, and a script is one sequence."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = list(args)
        return super().parse_args(ctx, args)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hypervisor")
def cli() -> None:
    """Boot unmodified operating systems from one YAML machine description."""


@cli.command(cls=_RunCommand)
@click.argument("machine", metavar="MACHINE.yaml")
@click.option("--set", "overrides", multiple=True, metavar="A.B.C=VALUE", help="Override a value.")
@click.option("--console", default="stdio", metavar="stdio|none|file:PATH|tcp:HOST:PORT")
@click.option("--until", multiple=True, metavar="TEXT", help="Wait until the guest prints TEXT.")
@click.option("--send", multiple=True, metavar="TEXT", help=r"Type TEXT (\n is Enter).")
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up after this host time.")
@click.option("--stats", type=click.Path(path_type=Path), metavar="FILE.json")
@click.option("--restore", type=click.Path(path_type=Path), metavar="SNAPSHOT")
@click.pass_context
def run(
    ctx: click.Context,
    machine: str,
    overrides: tuple[str, ...],
    console: str,
    until: tuple[str, ...],
    send: tuple[str, ...],
    timeout: float | None,
    stats: Path | None,
    restore: Path | None,
) -> None:
    """Run a machine. --until and --send are taken in the order given.

    Exit code: 0 powered off, or the last --until was met; 1 the guest failed; 2 the description
    is wrong; 3 the host cannot do it; 124 the time ran out.
    """
    from tools.run import run as run_machine

    steps = script_steps(ctx.obj)
    sys.exit(run_machine(machine, overrides, console, steps, timeout, stats, restore))


def script_steps(arguments: list[str]) -> list[Any]:
    """The --until and --send options of a command line as one script, in order."""
    from hypervisor.console import Step
    from tools.run import parse_text

    steps = []
    rest = iter(arguments)
    for argument in rest:
        name, given, value = argument.partition("=")
        if name in ("--until", "--send"):
            text = parse_text(value if given else next(rest, ""))
            steps.append(Step("until" if name == "--until" else "send", text))
    return steps


def main() -> None:
    """Entry point of the console script: errors of known kinds become one sentence."""
    try:
        cli.main(standalone_mode=True)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        click.echo(str(error), err=True)
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """By class name, so that nothing is imported to print an error."""
    names = {base.__name__ for base in type(error).__mro__}
    if "DescriptionError" in names:
        return EXIT_DESCRIPTION
    if names & {"BackendError", "BootError", "EngineError", "SnapshotError", "ImageError"}:
        return EXIT_HOST
    return None

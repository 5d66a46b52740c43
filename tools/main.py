"""The command line. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import traceback

import click

from tools import (
    device_commands,
    disk_commands,
    gpu_commands,
    image_commands,
    machine_commands,
    profile_command,
    replay_command,
    run_command,
    symbol_commands,
    trace_commands,
)
from tools.errors import BUG, Interrupted, exit_code
from tools.inspector import command as inspector_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hypervisor")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Boot unmodified operating systems from one YAML machine description.

    Exit codes: 0 done; 1 the guest failed; 2 the description or the arguments are wrong; 3 the
    host cannot do it; 124 the time ran out.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


for command in (
    run_command.run,
    profile_command.profile,
    replay_command.replay,
    machine_commands.check,
    machine_commands.schema,
    machine_commands.devices,
    device_commands.device,
    machine_commands.dtb,
    symbol_commands.symbols,
    machine_commands.screenshot,
    image_commands.image,
    disk_commands.disk,
    gpu_commands.gpu,
    trace_commands.trace,
    inspector_command.inspect,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script: foreseen errors become their sentences."""
    # Of what modules and the description make, nothing is garbage: no need to look ten times a
    # start, nor once more when the process ends.
    gc.set_threshold(100_000)
    open_standard_streams()
    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Take one command line; the exit code. Never raises."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        # Whoever read the output has gone; nothing is left to tell. The interpreter must not
        # find out again when it flushes.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, Interrupted) as error:
        code = exit_code(error)
        if code is None:
            traceback.print_exc()
            return BUG
        click.echo(str(error), err=True)
        return code


def _run(arguments: list[str]) -> int:
    try:
        result = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    with contextlib.suppress(ValueError, AttributeError):
        sys.stdout.flush()
    return result if isinstance(result, int) else 0


def open_standard_streams() -> None:
    """Where a standard stream is closed, the next file opened would take its number, and the
    console would be written into a disk or into guest RAM."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    main()

"""`hypervisor replay`: a recorded run, made again."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import click

from tools.run_command import filter_of, timeout_option, trace_option, trace_to_option


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--console",
    default="stdio",
    metavar="WHERE",
    help="stdio (default), none or file:PATH: where the output goes.",
)
@click.option("--gdb", metavar="HOST:PORT", help="Let GDB connect there.")
@click.option("--gdb-wait", is_flag=True, help="Run nothing before GDB says so.")
@trace_option
@trace_to_option
@click.option(
    "--restore",
    type=click.Path(path_type=Path),
    metavar="SNAPSHOT",
    help="Where the snapshot is now that the recording begins at, if not where it was.",
)
@timeout_option
def replay(
    recording: Path,
    console: str,
    gdb: str | None,
    gdb_wait: bool,
    trace: tuple[str, ...],
    trace_to: str | None,
    restore: Path | None,
    timeout: float | None,
) -> int:
    """Make a recorded run again, bit for bit, and say whether it came to the same end.

    It needs the files that the machine was recorded with, as they were when the recording began:
    others are refused, and none is written to. Nothing comes in from outside, and time passes as
    fast as the host can. Exit code: 0 the machine ended the same;
    1 the run went another way, which is said with the place.
    """
    from hypervisor.config import check_catalogue
    from hypervisor.machine import Machine
    from hypervisor.recording import Replayer, check_files, read_recording
    from tools.console_end import Spec, SpecError, attach
    from tools.control import Control
    from tools.debugging import debugging
    from tools.ending import Ending
    from tools.run import fetch_images, say

    try:
        spec = Spec.parse(console)
    except SpecError as error:
        raise click.BadParameter(str(error), param_hint="'--console'") from None
    events = filter_of(trace, trace_to)
    found = read_recording(recording)
    if found.snapshot is None and restore is not None:
        raise click.UsageError("the recording begins when the machine is switched on: no --restore")
    description = found.description(check_catalogue)
    fetch_images(description)
    check_files(found, description)
    with ExitStack() as stack:
        ending = stack.enter_context(Ending())
        machine = stack.enter_context(Machine(description, offline=True))
        machine.on_message = say
        if found.snapshot is not None:
            machine.restore(found.snapshot.find(restore))
        if events is not None:
            machine.trace(events, trace_to)
        replayer = Replayer(machine, found)
        ending.watch(machine)
        stack.callback(ending.watch, None)
        stack.callback(attach(machine, spec, ending, typed=False).close)
        if timeout is not None:
            ending.deadline = time.monotonic() + timeout
        control = Control(machine, lambda: ending.due)
        stack.enter_context(debugging(control, gdb, wait=gdb_wait))
        outcome = control.run(timeout)
        if outcome.kind == "timeout" or (outcome.kind == "stopped" and ending.due):
            say(outcome.sentence)
            return 128 + ending.signal if ending.signal is not None else outcome.code
        if not found.is_whole and outcome.kind == "replayed":
            say(outcome.sentence)
            return 0
        if replayer.state is None:
            say(f"the run is not the one recorded: it ended before that did: {outcome.sentence}")
            return 1
        if machine.state_sha256() != replayer.state:
            say("the run is not the one recorded: the machine differs at the end")
            return 1
        say("replayed to the recording's end: the machine is the same, bit for bit")
        return 0

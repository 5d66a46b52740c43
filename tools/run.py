"""`hypervisor run`: a machine from power-on to its end, and what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from hypervisor.config import Description, check_catalogue, load_description
from hypervisor.config.description import IMAGE
from hypervisor.config.files import file_references
from hypervisor.console import Step
from tools.console_end import Spec, SpecError, attach
from tools.control import Control
from tools.debugging import debugging
from tools.ending import Ending
from tools.errors import BUG, HostError, Interrupted, exit_code
from tools.monitor.attach import monitored

if TYPE_CHECKING:
    from hypervisor.device import Display
    from hypervisor.machine import Machine
    from hypervisor.outcome import Outcome


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    machine: str
    overrides: tuple[str, ...] = ()
    console: str = "stdio"
    script: tuple[tuple[str, bytes], ...] | list[tuple[str, bytes]] = ()
    """("until" or "send", text), in order."""
    timeout: float | None = None
    stats: Path | None = None
    restore: Path | None = None
    snapshot: Path | None = None
    screenshot: Path | None = None
    gdb: str | None = None
    gdb_wait: bool = False
    trace: str | None = None
    """A filter of events."""
    trace_to: str | None = None
    tool: Callable[[Machine], AbstractContextManager[object]] | None = None
    """What looks at the machine while it runs, and at how it ends."""
    record: Path | None = None
    history: bool = False
    monitor: str | None = None
    """Where the monitor is: stdio, unix:PATH or tcp:HOST:PORT."""
    qmp: str | None = None
    paused: bool = False


def run(request: Request) -> int:
    """Run the machine; the exit code. Raises what Machine.load does, HostError, Interrupted."""
    try:
        console = Spec.parse(request.console)
    except SpecError as error:
        raise click.BadParameter(str(error), param_hint="'--console'") from None
    with ExitStack() as stack:
        stats = _Stats(request.stats)
        stack.callback(stats.close)
        ending = stack.enter_context(Ending())
        try:
            return _run(request, console, stats, ending)
        except (Exception, Interrupted) as error:
            code = exit_code(error)
            stats.write({"exit": code or BUG, "outcome": "error", "sentence": str(error)})
            raise


def _run(request: Request, console: Spec, stats: _Stats, ending: Ending) -> int:
    from hypervisor.machine import Machine

    begun = time.perf_counter()
    if request.snapshot is not None:
        check_output("snapshot", request.snapshot)
    if request.screenshot is not None:
        check_output("screenshot", request.screenshot)
    description = _describe(request)
    fetch_images(description)
    with ExitStack() as stack:
        files = {}
        if request.record is not None:
            from hypervisor.recording import Recorder, file_digests

            files = file_digests(description)
        machine = stack.enter_context(Machine(description))
        machine.on_message = say
        for message in machine.messages:
            say(message)
        if request.screenshot is not None:
            display_of(machine, "'--screenshot'")
        if request.restore is not None:
            machine.restore(request.restore)
        if request.trace is not None:
            machine.trace(request.trace, request.trace_to)
        recorder = None
        if request.record is not None:
            recorder = Recorder(machine, request.record, files, request.restore)
            stack.callback(recorder.abandon)
        outcome = _run_attached(machine, request, console, ending)
        if recorder is not None:
            recorder.close()
        wall = time.perf_counter() - begun
        code = outcome.code
        if outcome.kind == "stopped" and ending.signal is not None:
            code = 128 + ending.signal
        if outcome.kind not in ("power-off", "until"):
            say(outcome.sentence)
        if outcome.report:
            click.echo(outcome.report, err=True)
        stats.write(_figures(machine, outcome, code, wall), machine)
        if request.snapshot is not None:
            _snapshot(machine, outcome, request.snapshot)
        if request.screenshot is not None:
            write_screenshot(machine, request.screenshot)
        return code


def _describe(request: Request) -> Description:
    """The machine's description; for a recording with what the host would choose, chosen."""
    load = partial(load_description, check_image=check_catalogue)
    if request.record is None:
        return load(request.machine, request.overrides)
    check_output("recording", request.record)
    path = request.machine
    if os.path.exists(path):  # else it is one of those that are installed
        path = os.path.abspath(path)
    description = load(path, request.overrides)
    if request.restore is not None:  # what the host chooses was chosen for the snapshot's machine
        return description
    chosen = list(request.overrides)
    if description.boot.rng_seed == "host":
        chosen.append(f"boot.rng_seed={secrets.randbits(63)}")
    if description.clock.epoch == "host":
        now = datetime.fromtimestamp(description.epoch / 1e9, UTC)
        chosen.append(f"clock.epoch={now.isoformat()}")
    return load(path, chosen)


def _run_attached(machine: Machine, request: Request, console: Spec, ending: Ending) -> Outcome:
    """Run with the console attached, which is let go of however the run ends."""
    steps = [Step("until" if kind == "until" else "send", text) for kind, text in request.script]
    # A script that ends in --until leaves nothing to type, and one that does not leaves the guest
    # to who is at the terminal.
    typed = not steps or (steps[-1].action == "send" and os.isatty(0))
    with ExitStack() as stack:
        ending.watch(machine)
        stack.callback(ending.watch, None)
        if request.monitor == "stdio" and console.kind == "stdio":
            console = Spec("none")
        end = attach(machine, console, ending, typed=typed)
        stack.callback(end.close)
        machine.console.script(steps)
        if request.timeout is not None:
            ending.deadline = time.monotonic() + request.timeout
        control = Control(machine, lambda: ending.due)
        if request.tool is not None:
            stack.enter_context(request.tool(machine))
        if request.paused:
            by_keys = console.kind == "stdio" and typed and os.isatty(0)
            gdb = request.gdb or machine.description.debug.gdb
            if not (by_keys or request.monitor or request.qmp or gdb):
                raise click.UsageError(
                    "--paused waits for somebody who lets the machine go on: add --monitor, --qmp "
                    "or --gdb, or run it on a terminal (Ctrl-A c)"
                )
            control.pause()
        with (
            debugging(control, request.gdb, wait=request.gdb_wait, history=request.history),
            monitored(control, request.monitor, request.qmp, end),
        ):
            return control.run(timeout=request.timeout)


def fetch_images(description: Description) -> None:
    """Have every image of the description in the cache, with progress shown. Raises ImageError."""
    parts = [description.boot, *(entry.options for entry in description.devices.values())]
    wanted = {str(file) for part in parts for _, file in file_references(part)}
    images = sorted(file for file in wanted if file.startswith(IMAGE))
    if images:
        from hypervisor.images import Images
        from tools.progress import progress

        with progress() as report:
            catalogue = Images(progress=report)
            for reference in images:
                catalogue.path(reference)


def say(message: str) -> None:
    """A message for the user, on standard error, which may be a raw terminal or gone."""
    raw = sys.stderr is not None and sys.stderr.isatty()
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"hypervisor: {message}\r" if raw else f"hypervisor: {message}", err=True)


def display_of(machine: Machine, asked: str) -> Display:
    """The machine's display; click.BadParameter for what was `asked` where it has none."""
    try:
        return machine.gpu
    except LookupError as error:
        raise click.BadParameter(str(error), param_hint=asked) from None


def write_screenshot(machine: Machine, path: Path) -> None:
    """Write what the machine shows; HostError where the file cannot be."""
    try:
        machine.gpu.screenshot(path)
    except OSError as error:
        raise HostError(f"the screenshot {path} cannot be written: {error.strerror}") from None


def check_output(what: str, path: Path) -> None:
    """Find out before a run that its result cannot be written: HostError."""
    directory = path.parent
    if path.is_dir() or not os.access(directory, os.W_OK | os.X_OK) or not directory.is_dir():
        reason = "it is a directory" if path.is_dir() else f"{directory} cannot be written to"
        raise HostError(f"the {what} {path} cannot be written: {reason}")


def _snapshot(machine: Machine, outcome: Outcome, path: Path) -> None:
    if outcome.kind in ("power-off", "failed"):
        say(f"no snapshot was written to {path}: the guest's run is over")
        return
    from tools.progress import progress

    with progress() as report:
        report(f"writing the snapshot {path}", None)
        machine.snapshot(path)


class _Stats:
    """The file for --stats: opened before the run, so that what cannot be written fails early."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = path.open("w", encoding="utf-8")
            except OSError as error:
                raise HostError(f"{path} cannot be written: {error.strerror}") from None

    def write(self, figures: dict[str, Any], machine: Machine | None = None) -> None:
        """Write once; later figures are of what went wrong afterwards, and lose."""
        file, self._file = self._file, None
        if file is None:
            return
        if machine is not None:
            figures["state_sha256"] = machine.state_sha256()
        try:
            with file:
                file.write(json.dumps(figures, indent=2) + "\n")
        except OSError as error:
            raise HostError(f"{self._path} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _figures(machine: Machine, outcome: Outcome, code: int, wall: float) -> dict[str, Any]:
    first = machine.loop.first_instruction_at
    return {
        "exit": code,
        "outcome": outcome.kind,
        "sentence": outcome.sentence,
        "wall_s": round(wall, 4),
        "startup_s": None if first is None else round(first - process_start(), 3),
        **machine.stats(),
    }


def process_start() -> float:
    """When this process began, seconds since 1970 (to the kernel's 10 ms)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")

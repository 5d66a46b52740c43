"""`hypervisor run`: a machine from power-on to its end, and what became of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypervisor.console import Step
from hypervisor.machine import Machine, Outcome
from tools import terminal


def run(
    path: str,
    overrides: Sequence[str],
    console: str,
    steps: list[Step],
    timeout: float | None,
    stats: Path | None,
    snapshot: Path | None = None,
) -> int:
    """Run the machine described at `path`; the exit code. Raises what Machine.load raises."""
    begun = time.perf_counter()
    with Machine.load(path, overrides) as machine:
        machine.on_message = _say
        for message in machine.messages:
            _say(message)
        if snapshot is not None:
            machine.restore(snapshot)
        end = terminal.attach(machine, console, scripted=bool(steps))
        _stop_on_signals(machine)
        machine.console.script(steps)
        try:
            outcome = machine.run(timeout=timeout)
        finally:
            end.close()
        wall = time.perf_counter() - begun
        if outcome.kind != "power-off":
            _say(outcome.sentence)
        if outcome.report:
            print(outcome.report, file=sys.stderr)
        if stats is not None:
            _write_stats(machine, outcome, wall, stats)
        return outcome.code


def parse_text(text: str) -> bytes:
    r"""A TEXT argument: `\n`, `\r`, `\t`, `\\` and `\xNN` stand for their bytes."""
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1", "ignore")


def _say(message: str) -> None:
    newline = "\r\n" if sys.stdin is not None and sys.stdin.isatty() else "\n"
    sys.stderr.write(f"hypervisor: {message}{newline}")
    sys.stderr.flush()


def _stop_on_signals(machine: Machine) -> None:
    """SIGINT and SIGTERM end the run at a safe point. Python runs signal handlers on the main
    thread only, which may be deep in guest code, so a thread waits for them instead."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        machine.stop()

    threading.Thread(target=wait, daemon=True, name="signals").start()


def _write_stats(machine: Machine, outcome: Outcome, wall: float, path: Path) -> None:
    first = machine.first_instruction_at
    figures: dict[str, Any] = {
        "exit": outcome.code,
        "outcome": outcome.kind,
        "wall_s": round(wall, 4),
        "startup_s": None if first is None else round(first - process_start(), 3),
        **machine.stats(),
        "state_sha256": machine.state_sha256(),
    }
    path.write_text(json.dumps(figures, indent=2) + "\n")


def process_start() -> float:
    """When this process began, seconds since 1970 (to the kernel's 10 ms)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")

"""What the debugging tools cost: not attached, tracing, going back, snapshots.

`python -m tests.perf.debugging TASK FOLDER MACHINE [OVERRIDE]...` is one measurement in a process
of its own; it prints JSON.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypervisor import Machine
from hypervisor.config import check_catalogue, load_description
from hypervisor.history import History
from hypervisor.images import Images
from hypervisor.time.clock import to_units
from tests.perf import emulators, guests
from tests.perf.bare import BareMachine
from tests.perf.child import BenchmarkError
from tests.perf.table import Row
from tools.control import Control
from tools.debugging import debugging
from tools.monitor.attach import monitored

GUEST_SECONDS = 30
STEPS_BACK = 5
PROMPT = "\n# "
WORK = "while :; do i=$((i+1)); done\n"
FILL = "mkdir /ram; mount -t tmpfs -o size=400m none /ram; " + (
    "dd if=/dev/urandom of=/ram/a bs=1M count=16 2>/dev/null; "
    "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do cat /ram/a >/ram/$n; done; echo filled\n"
)
"""256 MB that do not compress, each page of them different from its neighbours."""


def rows(runs: int, folder: Path) -> list[Row]:
    guest = guests.power_off_guest(Images())
    boots = _boots(runs, folder, guest)
    shell = guests.Guest(guest.machine, guest.kernel, guest.initrd, guests.COMMAND_LINE)
    back = _task("back", folder, shell)
    kept = [_task("snapshot", folder, shell) for _ in range(runs)]
    bare = boots["bare"]
    return [
        Row("boot with no tool attached, beside a run loop without tools", "%",
            _more(boots["plain"], bare), target=2),
        Row("the same with monitor and QMP listening", "%", _more(boots["listening"], bare)),
        Row("the same with GDB listening, which keeps a history", "%",
            _more(boots["gdb"], bare)),
        Row("boot with MMIO traced, times one without", "x",
            _times(boots["mmio"], boots["plain"]), target=2),
        Row(f"step back after {GUEST_SECONDS} s of guest time", "s", back["first"], target=2),
        Row("the steps back after that", "s", back["next"]),
        *(
            Row(f"{what} of a 512 MB guest, {how}", "s",
                statistics.median(each[f"{what} {how}"] for each in kept), target=target)
            for how in ("booted", "filled")
            for what, target in (("snapshot", 2), ("restore", 1))
        ),
    ]  # fmt: skip


def _boots(runs: int, folder: Path, guest: guests.Guest) -> dict[str, list[float]]:
    """Seconds of the processor's for the same boot in each way, as often as there are runs."""
    ways = ("bare", "plain", "listening", "gdb", "mmio")
    found: dict[str, list[float]] = {way: [] for way in ways}
    executed = set()
    for _ in range(runs):
        for way in ways:
            figures = _task(way, folder, guest)
            found[way].append(figures["cpu"])
            executed.add(figures["executed"])
    if len(executed) != 1:
        raise BenchmarkError(f"tools changed the run: {sorted(executed)} bytes were executed")
    return found


def _times(these: list[float], those: list[float]) -> float:
    """How often one takes the other, each beside its neighbour in time."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def _more(these: list[float], those: list[float]) -> float:
    """Per cent."""
    return 100 * (_times(these, those) - 1)


def _task(task: str, folder: Path, guest: guests.Guest) -> dict[str, Any]:
    words = [task, str(folder), *emulators.description_of(guest, None)]
    found: dict[str, Any] = json.loads(emulators.run([sys.executable, "-m", __name__, *words]))
    return found


# -- one measurement --------------------------------------------------------------------------


def _boot(way: str, folder: Path, words: list[str]) -> dict[str, Any]:
    """User and system time from the first instruction to the end of the run."""
    build = BareMachine if way == "bare" else Machine
    description = load_description(words[0], words[1:], check_image=check_catalogue)
    with ExitStack() as stack:
        machine = stack.enter_context(build(description))
        control = Control(machine)
        gdb = "127.0.0.1:0" if way == "gdb" else None
        stack.enter_context(debugging(control, gdb, wait=False))
        if way == "listening":
            places = (f"unix:{folder / name}" for name in ("monitor", "qmp"))
            stack.enter_context(monitored(control, *places))
        begun = _processor_time()
        tracers = [machine.trace("mmio", folder / "boot.hvt")] if way == "mmio" else []
        outcome = control.run(emulators.TIMEOUT)
        for tracer in tracers:
            tracer.close()
        took = _processor_time() - begun
        if outcome.kind != "power-off":
            raise BenchmarkError(outcome.sentence)
        return {"cpu": took, "executed": machine.clock.executed}


def _back(folder: Path, words: list[str]) -> dict[str, Any]:
    """Wall time of steps back in a shell that has worked since the history began."""
    with Machine.load(words[0], words[1:]) as machine:
        machine.console.expect(PROMPT, emulators.TIMEOUT)
        machine.history = History(machine)
        machine.console.send(WORK)
        machine.run_to(machine.clock.cell.units + to_units(GUEST_SECONDS * 1_000_000_000))
        times = [_seconds(machine.history.step_back) for _ in range(STEPS_BACK)]
        return {"first": times[0], "next": statistics.median(times[1:])}


def _snapshot(folder: Path, words: list[str]) -> dict[str, Any]:
    """Wall time of snapshots to a file, and of restores, with a guest's RAM nearly empty and more
    than half full of what does not compress."""
    path = folder / "snapshot"
    times = {}
    with Machine.load(words[0], words[1:]) as machine:
        for how in ("booted", "filled"):
            machine.console.expect(PROMPT, emulators.TIMEOUT)
            times[f"snapshot {how}"] = _seconds(lambda: machine.snapshot(path))
            times[f"restore {how}"] = _seconds(lambda: machine.restore(path))
            machine.console.send(FILL)
    return times


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    task, folder, *words = sys.argv[1:]
    tasks = {"back": _back, "snapshot": _snapshot}
    work = tasks.get(task)
    path = Path(folder)
    print(json.dumps(_boot(task, path, words) if work is None else work(path, words)))


if __name__ == "__main__":
    main()

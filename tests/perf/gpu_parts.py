"""python -m tests.perf.gpu_parts: where the time of an empty kernel goes, on the ring and in Linux.

Host's wall time, us for each launch. Functions are timed where one part hands over to the next, so
all together takes a little longer than in the table of the benchmark.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu.core.context import Context
from gpu.core.gpu import Gpu
from gpu.host.process import Worker
from gpu.testing import GuestBench
from hypervisor import Machine
from hypervisor.cpu.engine import Engine
from hypervisor.device import Device
from hypervisor.images import Images
from tests.perf import guests
from tests.perf.emulators import description_of
from tests.perf.gpu import LAUNCHES, Ring

Function = tuple[type, str]
SUBMIT, COMPLETE = (Context, "submit"), (Gpu, "_complete")
SEND, RECEIVE = (Worker, "send"), (Worker, "receive")
RUN, LOAD, STORE = (Engine, "start"), (Device, "read"), (Device, "write")


class Parts:
    """Seconds within functions, without what they call of one another."""

    def __init__(self, *functions: Function) -> None:
        self._functions = functions
        self._present: list[float] = []
        self.clear()

    def clear(self) -> None:
        self.own = dict.fromkeys(self._functions, 0.0)

    def __enter__(self) -> Parts:
        self._originals = [getattr(owner, name) for owner, name in self._functions]
        for function, original in zip(self._functions, self._originals, strict=True):
            setattr(*function, self._timed(function, original))
        return self

    def __exit__(self, *error: object) -> None:
        for function, original in zip(self._functions, self._originals, strict=True):
            setattr(*function, original)

    def _timed(self, function: Function, original: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            self._present.append(0.0)
            begun = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                took = time.perf_counter() - begun
                self.own[function] += took - self._present.pop()
                if self._present:
                    self._present[-1] += took

        return timed


def on_the_ring() -> dict[str, float]:
    """Medians of LAUNCHES, in seconds, by part."""
    found: dict[str, list[float]] = {}
    with Parts(SUBMIT, COMPLETE, SEND, RECEIVE) as parts, GuestBench() as bench:
        bench.bench.is_watched = False
        with Ring(bench) as ring:
            for _ in range(LAUNCHES):
                parts.clear()
                whole = ring.launch()
                for name, seconds in {
                    "registers and descriptor": whole - sum(parts.own.values()),
                    "reading, checks, planning": parts.own[SUBMIT],
                    "message to the worker": parts.own[SEND],
                    "until the worker has answered": parts.own[RECEIVE],
                    "completion": parts.own[COMPLETE],
                    "all": whole,
                }.items():
                    found.setdefault(name, []).append(seconds)
    return {name: statistics.median(each) for name, each in found.items()}


def in_linux(folder: Path) -> dict[str, float]:
    """Means, in seconds, by part."""
    description, *overrides = description_of(guests.gpu_guest(Images(), folder), None)
    functions = SUBMIT, COMPLETE, SEND, RECEIVE, RUN, LOAD, STORE
    with Parts(*functions) as parts, Machine.load(description, overrides) as machine:
        machine.run(until="<begin launches>", timeout=300)
        parts.clear()
        begun = time.perf_counter()
        machine.run(until="<end launches>", timeout=300)
        whole = time.perf_counter() - begun
    own = parts.own
    found = {
        "the guest's code: library, driver, scheduler": own[RUN],
        "its accesses to virtio-gpu and the interrupt controller": own[LOAD] + own[STORE],
        "reading, checks, planning": own[SUBMIT],
        "message to the worker": own[SEND],
        "until the worker has answered": own[RECEIVE],
        "completion: answers, fence, interrupt": own[COMPLETE],
        "the run loop": whole - sum(own.values()),
        "all": whole,
    }
    return {name: seconds / guests.LAUNCHES for name, seconds in found.items()}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="parts-") as folder:
        for where, found in (("ring", on_the_ring()), ("Linux", in_linux(Path(folder)))):
            for name, seconds in found.items():
                print(f"{where:5}  {1e6 * seconds:6.0f}  {name}")


if __name__ == "__main__":
    main()

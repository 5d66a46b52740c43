"""One machine in a process of its own: `python -m tests.perf.child MACHINE [OVERRIDE]...`.

Runs it to its end and prints, as JSON, when each marker was printed by the guest (host's clock,
seconds) and what the process took of the host's memory.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from hypervisor import Machine
from tests.perf.guests import MARKER


class BenchmarkError(Exception):
    """A guest did not do what it was to be timed at."""


class Marks:
    """A sink for a guest's output that notes when its markers arrived."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._line = bytearray()

    def __call__(self, data: bytes) -> None:
        now = time.monotonic()
        self._line += data
        if b"\n" in data:
            for kind, name in MARKER.findall(self._line):
                self.times.setdefault(f"{kind.decode()} {name.decode()}", now)
            del self._line[: self._line.rindex(b"\n") + 1]

    def between(self, name: str) -> float:
        """Seconds from a begin marker to its end marker; BenchmarkError where one is missing."""
        try:
            return self.times[f"end {name}"] - self.times[f"begin {name}"]
        except KeyError as error:
            raise BenchmarkError(f"the guest did not print <{error.args[0]}>") from None


def memory_status(pid: int | str = "self") -> dict[str, int]:
    """The figures of /proc/PID/status that are memory, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) << 10 for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}


def main() -> None:
    marks = Marks()
    with Machine.load(sys.argv[1], sys.argv[2:]) as machine:
        machine.console.sinks.append(marks)
        outcome = machine.run(timeout=300)
        status = memory_status()
        if outcome.kind != "power-off":
            sys.exit(f"{outcome.sentence}\n{machine.console.text[-2000:]}")
        figures = {
            "times": marks.times,
            "peak": status["VmHWM"],
            "ram": status["RssShmem"],
            "stats": machine.stats(),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

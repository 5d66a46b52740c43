"""Runs one machine in a process of its own and prints what it was at named moments, as JSON.

    python scenario.py '{"machine": FILE, "overrides": [...], "steps": [["expect", "# "], ...]}'

Steps: `expect TEXT`, `send TEXT`, `until NANOSECONDS` (virtual), `mark NAME`, `snapshot FILE`,
`restore FILE`, `launched KERNEL`, `hook block|code` and `finish` (run to the guest's end).
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

from hypervisor import Machine
from hypervisor.cpu import library
from hypervisor.cpu.native import compile_ir

HOST_SECONDS = 400
"""Longest stretch of host time one step may take."""
STEP = 200_000
"""Nanoseconds of virtual time between two looks."""

KINDS = {"block": library.HOOK_BLOCK, "code": library.HOOK_CODE}

COUNTER = """
define void @count(ptr %uc, i64 %address, i32 %size, ptr %counter) {
  %old = load i64, ptr %counter
  %new = add i64 %old, 1
  store i64 %new, ptr %counter
  ret void
}
"""


class Scenario:
    """A machine and what was noted of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.marks: dict[str, Any] = {}
        self.snapshots: dict[str, Any] = {}
        self.outcome: dict[str, Any] = {}
        self.counters: list[ctypes.c_uint64] = []

    def expect(self, text: str) -> None:
        self.machine.console.expect(text, timeout=HOST_SECONDS)

    def send(self, text: str) -> None:
        self.machine.console.send(text)

    def until(self, nanoseconds: int) -> None:
        timer = self.machine.clock.timer("scenario", self.machine.stop)
        timer.arm(nanoseconds)
        outcome = self.machine.run(timeout=HOST_SECONDS)
        assert outcome.kind == "stopped", outcome

    def mark(self, name: str) -> None:
        machine = self.machine
        self.marks[name] = {
            "virtual_ns": machine.clock.now(),
            "executed_bytes": machine.clock.executed,
            "executed_bytes_by_hart": [hart.executed for hart in machine.cpu],
            "console_written": machine.console.written,
            "console_sha256": machine.console.sha256,
            "state_sha256": machine.state_sha256(),
        }

    def snapshot(self, path: str) -> None:
        begun = time.perf_counter()
        self.machine.snapshot(path)
        self.snapshots[path] = round(time.perf_counter() - begun, 3)

    def restore(self, path: str) -> None:
        begun = time.perf_counter()
        self.machine.restore(path)
        self.snapshots[path] = round(time.perf_counter() - begun, 3)

    def launched(self, kernel: str) -> None:
        """Until gpu0 has a kernel of that name, and commands, under way."""
        gpu: Any = self.machine.devices["gpu0"]
        core = gpu.core
        while kernel not in core.observation.kernels:
            self.until(self.machine.clock.now() + STEP)
        assert any(any(context.rings.values()) for context in core.contexts.values())

    def hook(self, kind: str) -> None:
        """Call native code for every block or instruction from now on."""
        address = compile_ir(COUNTER, ("count",))["count"]
        for hart in self.machine.cpu:
            counter = ctypes.c_uint64()
            self.counters.append(counter)
            hart.engine.hook(KINDS[kind], address, ctypes.addressof(counter))
            hart.flush()

    def finish(self) -> None:
        outcome = self.machine.run(timeout=HOST_SECONDS)
        self.outcome = {"kind": outcome.kind, "code": outcome.code, "sentence": outcome.sentence}


def main() -> None:
    spec = json.loads(sys.argv[1])
    begun = time.perf_counter()
    with Machine.load(spec["machine"], spec["overrides"]) as machine:
        scenario = Scenario(machine)
        try:
            for name, *arguments in spec["steps"]:
                getattr(scenario, name)(*arguments)
        except BaseException:
            sys.stderr.write(machine.console.text[-3000:])
            raise
        result = {
            "marks": scenario.marks,
            "snapshots": scenario.snapshots,
            "outcome": scenario.outcome,
            "hooked": sum(counter.value for counter in scenario.counters),
            "resets": machine.resets,
            "messages": machine.messages,
            "console": machine.console.text,
            "wall_s": round(time.perf_counter() - begun, 2),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

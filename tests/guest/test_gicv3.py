"""Linux on four cores whose interrupt controller is a GICv3: its registers are instructions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIG = str(Path(__file__).parents[2] / "configs" / "aarch64-gicv3.yaml")
PROMPT = "\n# "


def use_and_power_off(machine: Machine) -> str:
    """Interrupts of all kinds; what Linux counted of them."""
    machine.console.send("taskset 8 true; cat /proc/interrupts\n")
    counts = machine.console.expect(PROMPT, timeout=100)
    machine.console.send("poweroff -f\n")
    outcome = machine.run(timeout=100)
    assert (outcome.kind, machine.messages) == ("power-off", [])
    return counts


def test_runs_are_equal_bit_for_bit_also_from_a_snapshot(
    boot_machine: Callable[..., Machine],
) -> None:
    machine, repeated, restored = (boot_machine(CONFIG) for _ in range(3))

    machine.console.expect(PROMPT, timeout=400)
    saved = machine.snapshot()
    counts = use_and_power_off(machine)
    repeated.console.expect(PROMPT, timeout=400)
    use_and_power_off(repeated)
    restored.restore(saved)
    use_and_power_off(restored)

    assert "smp: Brought up 1 node, 4 CPUs" in machine.console.text
    assert counts.count("GICv3") >= 2
    assert repeated.state_sha256() == machine.state_sha256()
    assert restored.state_sha256() == machine.state_sha256()

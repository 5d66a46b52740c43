"""A pytest fixture for guest tests, active wherever the hypervisor is installed.

def test_guest_has_two_disks(boot_machine):
    m = boot_machine("my-board.yaml", "cpu.harts=2")
    m.console.expect("# ")
    m.console.send("ls /sys/block\\n")
    assert "vdb" in m.console.expect("# ")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hypervisor import Machine


@pytest.fixture
def boot_machine(request: pytest.FixtureRequest) -> Iterator[Callable[..., Machine]]:
    """`boot_machine(path, *overrides)` builds a machine, closed when the test ends. When the
    test fails, the end of each console is added to its report."""
    from hypervisor import Machine

    machines: list[Machine] = []

    def boot(path: str, *overrides: str) -> Machine:
        machine = Machine.load(path, overrides)
        machines.append(machine)
        return machine

    yield boot
    for number, machine in enumerate(machines):
        text = machine.console.text[-4000:]
        request.node.add_report_section("call", f"console of machine {number}", text)
        machine.close()

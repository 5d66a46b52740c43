"""A machine is snapshotted while its disk is at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIGS = Path(__file__).parents[2] / "configs"
WRITE = "dd if=/dev/zero of=/root/z bs=64k count=100 oflag=direct; md5sum /root/z; echo wri''tten\n"
LONG = 5000


def finish(machine: Machine) -> tuple[str, str, int]:
    machine.console.expect("\nwritten", timeout=200)
    return machine.state_sha256(), machine.console.sha256, machine.clock.executed


@pytest.mark.parametrize("arch", ["riscv64", "aarch64"])
def test_snapshot_with_a_disk_request_in_flight_ends_the_same(arch: str) -> None:
    config = CONFIGS / f"{arch}-disk.yaml"
    with Machine.load(config) as machine:
        machine.console.expect("\n# ", timeout=200)
        machine.console.send(WRITE)
        moments = iter(range(LONG))
        while machine.host.next_completion is None and next(moments, None) is not None:
            machine.run(timeout=0.003)
        assert machine.host.next_completion is not None
        snapshot = machine.snapshot()
        end = finish(machine)
        machine.restore(snapshot)
        assert finish(machine) == end

    with Machine.load(config) as other:
        other.restore(snapshot)
        assert finish(other) == end

"""Four harts: all of them work, and they agree about memory, code and time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

Ask = Callable[..., str]
Restored = Callable[..., Machine]
ARCHITECTURES = ("riscv64", "aarch64")
SOAK = 20
ROUNDS = 2_000_000
BYTES_OF_A_ROUND = 8
"""At least: a load, an addition, a store and a branch of two bytes each."""


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_linux_counts_four_harts(arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(4, arch)

    assert ask(machine, "nproc").strip() == "4"
    assert ask(machine, "cat /sys/devices/system/cpu/online").strip() == "0-3"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_each_hart_executes_its_share_of_a_pinned_load(
    arch: str, restored: Restored, ask: Ask
) -> None:
    machine = restored(4, arch)
    before = machine.stats()["executed_bytes_by_hart"]

    answer = ask(machine, f"/usr/test/spin 4 {ROUNDS}")

    after = machine.stats()["executed_bytes_by_hart"]
    shares = [new - old for new, old in zip(after, before, strict=True)]
    assert answer.strip() == "spin done"
    assert min(shares) >= ROUNDS * BYTES_OF_A_ROUND


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_harts_go_offline_and_come_back(arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(4, arch)
    switch = "for n in 1 2 3; do echo {} > /sys/devices/system/cpu/cpu$n/online; done; nproc"

    assert ask(machine, switch.format(0)).strip().endswith("1")
    assert machine.cpu[3].stopped
    assert ask(machine, switch.format(1)).strip().endswith("4")
    assert not machine.cpu[3].stopped
    assert ask(machine, "/usr/test/spin 4 20000").strip() == "spin done"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("harts", [1, 4])
def test_lock_ipi_and_code_stress_passes(
    harts: int, arch: str, restored: Restored, ask: Ask
) -> None:
    machine = restored(harts, arch)

    answer = ask(machine, "/usr/test/stress 1")

    assert f"stress passed on {harts} harts" in answer, answer
    assert answer.count(": ok") == 15


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_stress_passes_many_times_with_equal_digests(
    arch: str, restored: Restored, ask: Ask
) -> None:
    ends = []
    for _ in range(SOAK):
        machine = restored(4, arch)
        answer = ask(machine, "/usr/test/stress 1", timeout=1200)
        ends.append((answer, machine.state_sha256()))
        machine.close()

    assert "stress passed on 4 harts" in ends[0][0]
    assert len(ends) == SOAK
    assert set(ends) == {ends[0]}

"""Time in the guest is the machine's own: exact, and never waited for when nothing is live."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

Ask = Callable[..., str]
Restored = Callable[..., Machine]
SECOND = 1_000_000_000


def test_date_is_the_description_s_epoch(restored: Restored, ask: Ask) -> None:
    machine = restored(1)

    seconds = int(ask(machine, "date +%s"))

    assert seconds == (machine.clock.epoch + machine.clock.now()) // SECOND


def test_sleep_takes_virtual_time_only(restored: Restored, ask: Ask) -> None:
    machine = restored(1)
    begun, virtual = time.monotonic(), machine.clock.now()

    ask(machine, "sleep 100")

    assert 100 * SECOND <= machine.clock.now() - virtual < 100.2 * SECOND
    assert time.monotonic() - begun < 60


def test_uptime_is_virtual_time(restored: Restored, ask: Ask) -> None:
    machine = restored(4)

    uptime = float(ask(machine, "cat /proc/uptime").split()[0])

    # Since the kernel read the clock first: a little later than power-on.
    assert machine.clock.now() / SECOND - 1.0 < uptime < machine.clock.now() / SECOND


@pytest.mark.parametrize("arch", ["riscv64", "aarch64"])
def test_rtc_agrees_with_the_kernel_s_clock(arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(1, arch)

    rtc, clock = ask(machine, "cat /sys/class/rtc/rtc0/since_epoch; date +%s").split()

    assert abs(int(rtc) - int(clock)) <= 1


@pytest.mark.parametrize(("arch", "timer"), [("riscv64", "riscv-timer"), ("aarch64", "arch_timer")])
def test_timer_ticks_on_a_busy_hart(arch: str, timer: str, restored: Restored, ask: Ask) -> None:
    machine = restored(1, arch)
    count = f"awk '/{timer}/ {{print $2}}' /proc/interrupts"
    virtual = machine.clock.now()

    answer = ask(machine, f"{count}; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; {count}")

    before, after = map(int, answer.split())
    ticks_of_4_ms = (machine.clock.now() - virtual) / 4_000_000
    assert ticks_of_4_ms * 0.7 < after - before < ticks_of_4_ms * 1.3

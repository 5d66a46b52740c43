"""Debian's kernel boots to a shell that answers, reboots and powers off."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIGS = Path(__file__).parents[2] / "configs"
ARCHITECTURES = ("riscv64", "aarch64")
Ask = Callable[..., str]
Restored = Callable[..., Machine]
Command = Callable[..., "subprocess.CompletedProcess[str]"]

SUSPICIOUS = re.compile(
    r"\b(warning|bug|fail(ed|ure|s)?|unknown|errors?|invalid|unable|cannot|unexpected|oops|"
    r"timed out|bogus|deprecated|missing|not found)\b",
    re.IGNORECASE,
)
HARMLESS = (
    *("DMI not present or invalid", "efi: UEFI not found"),
    *("KASLR disabled due to lack of seed", "hw perfevents", "ARM_SMCCC_ARCH_WORKAROUND"),
)
"""What these kernels say on any machine without EFI, seed for KASLR, and so on."""
DRIVERS = {
    "riscv64": {
        "of_serial": "10000000.serial",
        "goldfish_rtc": "101000.rtc",
        "riscv-plic": "c000000",
        "syscon-poweroff": "poweroff",
        "syscon-reboot": "reboot",
    },
    "aarch64": {
        "../../amba/drivers/uart-pl011": "9000000.serial",
        "../../amba/drivers/rtc-pl031": "9010000.rtc",
        "../../amba/drivers/pl061_gpio": "9030000.gpio",
    },
}
"""Of each device, by driver."""


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shipped_machine_answers_and_powers_off(
    arch: str, hypervisor_run: Command, tmp_path: Path
) -> None:
    stats = tmp_path / "stats.json"

    result = hypervisor_run(
        CONFIGS / f"{arch}-debian.yaml",
        *("--until", r"\n# ", "--send", r"echo $((6*7)) is the answer\n"),
        *("--until", "42 is the answer", "--send", r"poweroff -f\n"),
        *("--timeout", 300, "--stats", stats),
    )

    figures = json.loads(stats.read_text())
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert "userspace up" in result.stdout
    assert "hypervisor:" not in result.stderr  # what fetches an image may say so
    assert figures["exit"] == 0
    assert figures["outcome"] == "power-off"
    assert figures["executed_bytes"] > 1_000_000_000
    assert len(figures["console_sha256"]) == len(figures["state_sha256"]) == 64
    assert 0 < figures["startup_s"] < figures["wall_s"] + 60


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("harts", [1, 4])
def test_kernel_complains_of_nothing(harts: int, arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(harts, arch)

    log = ask(machine, "dmesg")

    complaints = [
        line
        for line in log.splitlines()
        if SUSPICIOUS.search(line) and not any(known in line for known in HARMLESS)
    ]
    assert complaints == []
    assert f"smp: Brought up 1 node, {harts} CPU" in log
    assert machine.messages == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_device_is_found_by_its_driver(arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(1, arch)

    for driver, device in DRIVERS[arch].items():
        assert device in ask(machine, f"ls /sys/bus/platform/drivers/{driver}")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_reboot_boots_again_to_the_shell(arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(1, arch)
    ask(machine, "touch /tmp/before")

    machine.console.send("reboot\n")
    machine.console.expect("Linux version", timeout=300)
    machine.console.expect("\n# ", timeout=300)

    assert machine.resets == 1
    assert "before" not in ask(machine, "ls /tmp")
    machine.console.send("poweroff -f\n")
    outcome = machine.run(timeout=60)
    assert (outcome.kind, outcome.code) == ("power-off", 0)


def test_leaving_the_shell_powers_off(restored: Restored) -> None:
    machine = restored(1)

    machine.console.send("exit\n")
    outcome = machine.run(timeout=60)

    assert (outcome.kind, outcome.code) == ("power-off", 0)


def test_output_of_many_lines_arrives_whole(restored: Restored, ask: Ask) -> None:
    machine = restored(1)

    answer = ask(machine, "seq 1 3000")

    assert answer.split() == [str(n) for n in range(1, 3001)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_long_line_typed_at_once_is_received_whole(arch: str, restored: Restored, ask: Ask) -> None:
    machine = restored(4, arch)
    words = " ".join(f"word{n}" for n in range(300))

    machine.console.send("echo ready; cat > /tmp/words\n")
    machine.console.expect("\nready")
    machine.console.send(f"{words}\n\x04")
    machine.console.expect("\n# ")

    assert ask(machine, "wc -w < /tmp/words").strip() == "300"


def test_figures_of_a_run_add_up(restored: Restored, ask: Ask) -> None:
    machine = restored(4)
    ask(machine, "true")

    figures: dict[str, Any] = machine.stats()

    assert sum(figures["executed_bytes_by_hart"]) == figures["executed_bytes"]
    assert figures["mmio"]["uart0"]["writes"] > 0
    assert figures["virtual_ns"] > 1_000_000_000

"""The power button of a machine with a GPIO controller: Linux sees the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIG = str(Path(__file__).parents[2] / "configs" / "aarch64-debian.yaml")
PROMPT = "\n# "
LISTEN = (
    "echo lis''tening; hexdump -v -e '24/1 \"%02x \"' -n 24 /dev/input/event0; echo pre''ssed\n"
)
PRESSED = "01 00 74 00 01 00 00 00"
"""The end of a struct input_event: type EV_KEY, code KEY_POWER (116), value 1."""
A_SECOND = 1_000_000_000 * 32 // 25


def test_linux_sees_the_key(
    boot_machine: Callable[..., Machine], build: Callable[[str], Path]
) -> None:
    initrd = build("arm64-keys.yaml")
    kernel = "boot.kernel=image:debian-arm64-current/linux"
    machine = boot_machine(CONFIG, kernel, f"boot.initrd={initrd}")
    machine.console.expect(PROMPT, timeout=400)

    machine.console.send(LISTEN)
    machine.console.expect("listening", timeout=100)
    machine.run_to(machine.clock.cell.units + A_SECOND)
    machine.power_button()
    seen = machine.console.expect("pressed", timeout=100)

    assert PRESSED in seen


def test_machine_without_a_button_says_so(boot_machine: Callable[..., Machine]) -> None:
    machine = boot_machine(CONFIG, "devices.gpio.power_button=false")

    with pytest.raises(LookupError, match="the machine has no power button"):
        machine.power_button()

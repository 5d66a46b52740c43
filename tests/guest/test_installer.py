"""Debian's installer, from its own initial RAM disk, on the serial console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIG = str(Path(__file__).parents[2] / "configs" / "aarch64-debian.yaml")
INSTALLER = "boot.initrd=image:debian-arm64/installer"


def test_installer_comes_up_and_takes_keys(boot_machine: Callable[..., Machine]) -> None:
    machine = boot_machine(CONFIG, INSTALLER, "boot.command_line=console=ttyAMA0 TERM=vt102")

    machine.console.expect("Choose the language to be used", timeout=500)
    machine.console.expect("activates buttons", timeout=100)
    machine.console.send("\t")
    redrawn = machine.console.expect("<Go Back>", timeout=100)  # where the cursor is now

    assert "English" in redrawn
    assert machine.messages == []

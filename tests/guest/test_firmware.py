"""Debian's OpenSBI and U-Boot: to the prompt, and on to Linux on an ext4 disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIGS = Path(__file__).parents[2] / "configs"
FIRMWARE = str(CONFIGS / "riscv64-firmware.yaml")
ARM64 = str(CONFIGS / "aarch64-firmware.yaml")
CHECKED = {
    "riscv64": "dmesg | grep -c 'SBI implementation ID=0x1 '",
    "arm64": "dmesg | grep -c 'psci: PSCIv1.0 detected in firmware'",
}

Ask = Callable[..., str]
Boot = Callable[..., Machine]


@pytest.mark.parametrize("harts", [1, 4])
@pytest.mark.parametrize("kind", ["fw_dynamic", "fw_jump"])
def test_opensbi_starts_u_boot(kind: str, harts: int, boot_machine: Boot) -> None:
    machine = boot_machine(FIRMWARE, f"boot.firmware=image:opensbi/{kind}", f"cpu.harts={harts}")

    banner = machine.console.expect("U-Boot 20", timeout=100)
    prompt(machine)
    machine.console.send("sbi\n")

    assert "OpenSBI v" in banner
    assert f"Platform HART Count         : {harts}\r\n" in banner
    assert "Platform Timer Device       : aclint-mtimer @ 10000000Hz" in banner
    assert "Platform Console Device     : uart8250" in banner
    assert "Platform Shutdown Device    : syscon-poweroff" in banner
    assert "OpenSBI 1." in machine.console.expect("=> ", timeout=100)
    assert machine.messages == []


def test_u_boot_starts_in_machine_mode(boot_machine: Boot) -> None:
    machine = boot_machine(FIRMWARE, "boot.firmware=image:u-boot-riscv64/mmode", "boot.kernel=null")

    prompt(machine)
    machine.console.send("bdinfo\n")
    answer = machine.console.expect("=> ", timeout=100)

    assert "-> size     = 0x0000000020000000" in answer
    assert "OpenSBI" not in machine.console.text


@pytest.mark.parametrize("harts", [1, 4])
def test_u_boot_starts_at_el1(harts: int, boot_machine: Boot) -> None:
    machine = boot_machine(ARM64, f"cpu.harts={harts}")

    prompt(machine)
    machine.console.send("bdinfo\n")
    answer = machine.console.expect("=> ", timeout=100)
    machine.console.send("poweroff\n")
    outcome = machine.run(timeout=60)

    assert "-> size     = 0x0000000020000000" in answer
    assert "Flash: 64 MiB" in machine.console.text
    assert (outcome.kind, outcome.code) == ("power-off", 0)
    assert machine.messages == []


@pytest.mark.parametrize("arch", ["riscv64", "arm64"])
def test_u_boot_boots_linux_from_a_disk(arch: str, boot_machine: Boot, ask: Ask) -> None:
    config = CONFIGS / f"{arch.replace('arm64', 'aarch64')}-uboot-disk.yaml"
    machine = boot_machine(str(config), "cpu.harts=4")

    prompt(machine)
    machine.console.send("virtio info; boot\n")
    loading = machine.console.expect("Starting kernel ...", timeout=200)
    machine.console.expect("\n# ", timeout=400)

    assert "Capacity: 128.0 MB" in loading
    assert "Retrieving file: /boot/linux" in loading
    assert ask(machine, "grep -c ' / ext4 rw' /proc/mounts").strip() == "1"
    assert ask(machine, CHECKED[arch]).strip() == "1"
    assert ask(machine, "nproc").strip() == "4"
    recipe = yaml.safe_load((CONFIGS / "images" / f"{arch}-disk.yaml").read_text())
    menu = recipe["files"]["/boot/extlinux/extlinux.conf"]["text"]
    assert ask(machine, "cat /boot/extlinux/extlinux.conf").strip() == menu.strip()

    ask(machine, "seq 1 5000 >/root/file; sync; echo 3 >/proc/sys/vm/drop_caches")
    reads = machine.stats()["mmio"]["disk0"]["writes"]
    assert ask(machine, "wc -l </root/file").strip() == "5000"
    assert machine.stats()["mmio"]["disk0"]["writes"] > reads

    machine.console.send("poweroff\n")
    outcome = machine.run(timeout=100)
    assert (outcome.kind, outcome.code) == ("power-off", 0)
    assert machine.messages == []


def prompt(machine: Machine) -> None:
    """Press a key before U-Boot boots by itself."""
    machine.console.expect("Hit any key to stop autoboot", timeout=200)
    machine.console.send(" ")
    machine.console.expect("=> ", timeout=100)

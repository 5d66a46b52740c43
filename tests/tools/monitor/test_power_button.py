"""The power button of a machine that has one: an AArch64 board's PL061."""

import pytest

from hypervisor.machine import Machine
from tools.control import Control
from tools.monitor.actions import Actions
from tools.monitor.text import TextMonitor

DESCRIPTION = """machine: button-board
cpu: {arch: aarch64}
memory: {ram: {at: 0x4000_0000, size: 1M}}
boot: {load: [{file: guest.bin, at: 0x4000_0000}], entry: 0x4000_0000}
devices:
  gic: {type: arm.gicv2, at: 0x0800_0000}
  uart0: {type: arm.pl011, at: 0x0900_0000, irq: gic.33, backend: stdio}
  gpio: {type: arm.pl061, at: 0x0903_0000, irq: gic.39}
"""
FOREVER = bytes.fromhex("00000014")
"""b ."""


@pytest.fixture
def monitor(tmp_path):
    (tmp_path / "guest.bin").write_bytes(FOREVER)
    (tmp_path / "board.yaml").write_text(DESCRIPTION)
    with Machine.load(tmp_path / "board.yaml") as machine:
        control = Control(machine)
        control.pause()
        yield TextMonitor(Actions(control))


def test_power_button_is_pressed(monitor):
    gpio = monitor.machine.devices["gpio"]

    said = monitor.answer("system_powerdown")

    assert said == ""
    assert gpio.pressed


def test_views_answer_for_this_architecture_too(monitor):
    assert "(aarch64) is paused" in monitor.answer("info status")
    assert "EL1" in monitor.answer("info registers")
    assert monitor.answer("x/1i $pc") == "=> 0x40000000: b #0x40000000"
    assert "0x40000000 -> 0x40000000 (RAM)" in monitor.answer("translate 0x40000000")
    assert monitor.answer("info irq").splitlines()[1].split()[:2] == ["gic.33", "uart0"]

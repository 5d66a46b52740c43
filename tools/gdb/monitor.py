"""GDB's `monitor` commands: those of the machine's own monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.monitor.actions import Actions
from tools.monitor.text import TextMonitor

if TYPE_CHECKING:
    from tools.control import Control


def answer(control: Control, command: str, hart: int) -> str:
    """What to print for a command; a sentence where there is none such."""
    actions = Actions(control)
    try:
        monitor = TextMonitor(actions)
        monitor.hart = hart
        return monitor.answer(command)
    except Exception as error:  # a device's hook, say: the machine goes on
        return f"{type(error).__name__}: {error}"

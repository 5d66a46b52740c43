"""GDB's `monitor` commands, where no monitor of the machine's is attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.report import describe_hart

if TYPE_CHECKING:
    from tools.control import Control

_HELP = """\
info registers    the registers of the hart that is looked at
info harts        what each hart does
translate ADDR    the guest-physical address of a virtual one
time              virtual time
help              this list
"""


def answer(control: Control, command: str, hart: int) -> str:
    """What to print for a command; a sentence where there is none such."""
    machine = control.machine
    words = command.split()
    match words:
        case ["info", "registers"]:
            return describe_hart(machine.cpu[hart], machine.programs)
        case ["info", "harts"]:
            lines = [describe_hart(each, machine.programs).splitlines()[0] for each in machine.cpu]
            return "\n".join(lines)
        case ["translate", text]:
            try:
                address = int(text, 0)
            except ValueError:
                return f"'{text}' is not an address"
            found = machine.cpu[hart].translate(address)
            return f"{address:#x} is not mapped" if found is None else f"{address:#x} -> {found:#x}"
        case ["time"]:
            return f"{machine.clock.now() / 1e9:.9f} s"
        case ["help"] | []:
            return _HELP
    return f"there is no command '{command}'; `monitor help` lists them"

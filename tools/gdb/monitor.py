"""GDB's `monitor` commands, where no monitor of the machine's is attached."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hypervisor.report import describe_hart

if TYPE_CHECKING:
    from tools.control import Control

_HELP = """\
info registers    the registers of the hart that is looked at
info harts        what each hart does
translate ADDR    the guest-physical address of a virtual one
time              virtual time
rewind TIME       go back so much virtual time, such as 5ms
rewind to-last-write ADDR
                  go back to before the store that wrote 8 bytes at a virtual address last
history           how far back the machine can be taken
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
        case ["rewind", *rest]:
            return _rewind(control, rest, hart)
        case ["history"]:
            return _describe_history(control)
        case ["help"] | []:
            return _HELP
    return f"there is no command '{command}'; `monitor help` lists them"


def _rewind(control: Control, words: list[str], hart: int) -> str:
    from hypervisor.history import HistoryError
    from hypervisor.stops import StopError

    history = control.machine.history
    if history is None:
        return "no history is kept"
    try:
        match words:
            case ["to-last-write", text]:
                stop = history.to_last_write(int(text, 0), hart=hart).stop
                assert stop is not None
                return f"hart {stop.hart} at {stop.pc:#x} is about to store {stop.value:#x}"
            case [text]:
                history.rewind(parse_time(text))
                return f"at {control.machine.clock.now() / 1e9:.9f} s"
    except (ValueError, HistoryError, StopError) as error:
        return str(error)
    return "say `rewind 5ms` or `rewind to-last-write ADDRESS`"


def parse_time(text: str) -> int:
    """`5ms` -> ns; units are ns, us, ms and s. Raises ValueError with a sentence."""
    for unit, factor in (("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000)):
        number = text.removesuffix(unit)
        if number != text:
            with contextlib.suppress(ValueError):
                return int(float(number) * factor)
            break
    raise ValueError(f"'{text}' is not a time such as 5ms")


def _describe_history(control: Control) -> str:
    history = control.machine.history
    if history is None:
        return "no history is kept"
    return (
        f"back to {history.beginning / 1e9:.6f} s, by {history.states} states in "
        f"{history.size >> 20} MiB; the machine is {'in its past' if history.is_past else 'live'}"
    )

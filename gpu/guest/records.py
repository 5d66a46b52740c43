"""What gpu.protocol declares, in the order of its declaration: for all that is generated of it."""

from __future__ import annotations

import inspect
import re

from gpu import protocol
from gpu.protocol import COMMANDS, Answer, Command, NoAnswer, Record


def commands() -> list[type[Command]]:
    """Every command by rising opcode."""
    return [COMMANDS[opcode] for opcode in sorted(COMMANDS)]


def records() -> list[type[Record]]:
    """What the device writes and the guest reads: answers, and what is no command."""
    found = []
    for kind in vars(protocol).values():
        if not inspect.isclass(kind) or not issubclass(kind, Record) or issubclass(kind, Command):
            continue
        if kind.__name__.startswith("_") or kind in (Record, Answer, NoAnswer):
            continue
        if kind not in found:
            found.append(kind)
    return found


def limits() -> dict[str, int]:
    """The numbers that both sides must know, by name."""
    return {
        name: value
        for name, value in vars(protocol.limits).items()
        if isinstance(value, int) and re.fullmatch(r"[A-Z][A-Z_0-9]*", name)
    }


def snake(name: str) -> str:
    """`MemFlags` as `mem_flags`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def document(kind: type) -> str:
    """A class's docstring as one line; empty where it has none of its own."""
    return " ".join((vars(kind).get("__doc__") or "").split())

"""Every command's handler, and the ids among its fields."""

from __future__ import annotations

from dataclasses import dataclass

from gpu.core.commands import copies, images, kernels, launches, memory, programs, queues
from gpu.core.commands.registry import HANDLERS, Handler
from gpu.protocol import (
    COMMANDS,
    Command,
    Enqueue,
    Finish,
    GetError,
    GetEventStatus,
    Release,
)
from gpu.protocol.fields import Blob, Counted, New, Ref


@dataclass(frozen=True, slots=True)
class Plan:
    """How a command is checked and done."""

    handler: Handler
    is_always: bool
    """Whether a context without its device can be given it."""
    is_enqueued: bool
    new: tuple[tuple[str, New], ...]
    one: tuple[tuple[str, Ref], ...]
    several: tuple[tuple[str, Ref], ...]
    blobs: tuple[tuple[str, Blob], ...]


def _plan(command: type[Command]) -> Plan:
    roles = [
        (field.name, field.role, isinstance(field.spec, Counted)) for field in command.layout.fields
    ]
    return Plan(
        HANDLERS[command],
        command in (GetError, Release, GetEventStatus),
        issubclass(command, Enqueue | Finish),
        tuple((name, role) for name, role, _ in roles if isinstance(role, New)),
        tuple((name, role) for name, role, many in roles if isinstance(role, Ref) and not many),
        tuple((name, role) for name, role, many in roles if isinstance(role, Ref) and many),
        tuple((name, role) for name, role, _ in roles if isinstance(role, Blob)),
    )


PLANS: dict[type[Command], Plan] = {
    command: _plan(command) for command in COMMANDS.values() if not command.front_end
}
"""Of every command of the core."""

_MODULES = (
    copies,
    images,
    kernels,
    launches,
    memory,
    programs,
    queues,
)
"""Imported for the handlers that they register."""

__all__ = ["PLANS", "Plan"]

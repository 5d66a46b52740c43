"""Every command's handler, and the ids among its fields."""

from __future__ import annotations

from gpu import (
    copy_commands,
    image_commands,
    kernel_commands,
    memory_commands,
    program_commands,
    queue_commands,
)
from gpu.protocol import COMMANDS, Command
from gpu.protocol_fields import Blob, Counted, New, Ref
from gpu.registry import HANDLERS

ROLES: dict[type[Command], tuple[tuple[str, New | Ref | Blob, bool], ...]] = {
    command: tuple(
        (field.name, field.role, isinstance(field.spec, Counted))
        for field in command.layout.fields
        if field.role is not None
    )
    for command in COMMANDS.values()
}
"""The fields of a command that are ids: name, role, and whether it is a list."""

_MODULES = (
    copy_commands,
    image_commands,
    kernel_commands,
    memory_commands,
    program_commands,
    queue_commands,
)
"""Imported for the handlers that they register."""

__all__ = ["HANDLERS", "ROLES"]

"""Which function serves which command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu.core.objects import Object, RefusedError
from gpu.core.schedule import Schedule
from gpu.core.work import Producer
from gpu.opencl import Status
from gpu.protocol import Command

Found = dict[str, Any]
"""What a command's ids name: objects, lists of them, and blobs, by the field's name."""
Handler = Callable[[Schedule, Any, Found], Producer | None]
HANDLERS: dict[type[Command], Handler] = {}


def handles(*commands: type[Command]) -> Callable[[Handler], Handler]:
    """Decorates what serves these commands: it checks everything before it changes anything."""

    def register(handler: Handler) -> Handler:
        for command in commands:
            HANDLERS[command] = handler
        return handler

    return register


def refuse(status: Status) -> RefusedError:
    return RefusedError(status)


def check_scope(thing: Object, *others: Object | None) -> None:
    """Things of different OpenCL contexts do not meet."""
    for other in others:
        if other is not None and other.scope is not thing.scope:
            raise RefusedError(Status.INVALID_CONTEXT)


def check_range(offset: int, size: int, limit: int) -> None:
    """Refuse what does not lie within `limit` bytes."""
    if offset + size > limit:
        raise RefusedError(Status.INVALID_VALUE)

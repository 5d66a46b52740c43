"""A machine's QMP socket, from the inspector's side."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

_LONGEST = 64 << 20
"""Bytes of one message."""


class LinkError(Exception):
    """The machine cannot be reached, or refuses: one sentence."""


class Link:
    """Asks and is told. `on_event` gets each event's name and data."""

    def __init__(self, path: str, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        self.path = path
        self.is_open = False
        self._on_event = on_event
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and negotiate. Raises LinkError."""
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                self.path, limit=_LONGEST
            )
            greeting = json.loads(await self._reader.readline())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LinkError(f"no machine answers at {self.path}: {reason}") from None
        if not isinstance(greeting, dict) or "QMP" not in greeting:
            raise LinkError(f"{self.path} is not the QMP socket of a machine")
        self.is_open = True
        self._task = asyncio.create_task(self._read())
        await self.ask("qmp_capabilities")
        names = {each["name"] for each in await self.ask("query-commands")}
        if "x-devices" not in names:
            raise LinkError(f"{self.path} belongs to another program: it has no x-devices")

    async def ask(self, command: str, **arguments: Any) -> Any:
        """What a command returns. Raises LinkError for an error, or when the machine has gone."""
        if not self.is_open:
            raise LinkError("the machine has gone")
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command, "arguments": named, "id": number}
        try:
            self._writer.write(json.dumps(request).encode() + b"\n")
            await self._writer.drain()
            return await answer
        except OSError:
            raise LinkError("the machine has gone") from None
        finally:
            self._answers.pop(number, None)

    async def close(self) -> None:
        self.is_open = False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._writer.close()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError):
            pass
        finally:
            self.is_open = False
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LinkError("the machine has gone"))
            self._on_event("GONE", {})

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._on_event(message["event"], message.get("data", {}))
            return
        answer = self._answers.get(message.get("id", 0))
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(LinkError(message["error"]["desc"]))
        else:
            answer.set_result(message["return"])

"""One client's QMP session (QEMU's "QEMU Machine Protocol Specification").

Everything but `feed` runs on the machine's thread, between runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.events import KINDS, Event, Subscription
from hypervisor.outcome import Outcome
from hypervisor.trace import Filter
from hypervisor.trace.file import fields_of, kind_of
from tools.monitor.actions import Actions
from tools.monitor.errors import MonitorError
from tools.monitor.json_stream import Garbage, JsonStream
from tools.monitor.qmp_commands import COMMANDS, version_of
from tools.monitor.text import TextMonitor

if TYPE_CHECKING:
    from hypervisor.machine import Machine

MOST_EVENTS = 2000
"""Trace events that are sent in one second of host time; the rest is counted."""


class QmpSession:
    """`send` takes an object for the client, from any thread. `broadcast` tells all clients of an
    event."""

    actions: Actions
    machine: Machine

    def __init__(
        self,
        actions: Actions,
        send: Callable[[dict[str, Any]], None],
        broadcast: Callable[[str], None],
    ) -> None:
        self.actions = actions
        self.machine = actions.machine
        self.text = TextMonitor(actions)
        self.broadcast = broadcast
        self._send = send
        self._stream = JsonStream()
        self._input = f"qmp client {id(self):#x}"
        self._ready = False
        self._subscriptions: list[Subscription] = []
        self._window = 0.0
        self._sent = 0
        self._lost = 0
        self._follows = False
        self._keeps = False

    def begin(self) -> None:
        """Greet the client."""
        self._send({"QMP": {"version": version_of(), "capabilities": []}})

    def feed(self, data: bytes) -> list[dict[str, Any] | Garbage]:
        """Requests in what the client sent, for `handle`."""
        return list(self._stream.feed(data))

    def handle(self, request: dict[str, Any] | Garbage) -> None:
        """Answer one request. What goes wrong is the client's to read and no more."""
        if isinstance(request, Garbage):
            self._error("GenericError", request.reason, None)
            return
        tag = {"id": request["id"]} if "id" in request else {}
        try:
            result = self._execute(request)
        except MonitorError as error:
            self._error("GenericError", str(error), tag)
        except LookupError as error:
            self._error("CommandNotFound", str(error.args[0]), tag)
        except Exception as error:  # a device's hook, say: the machine goes on
            self._error("GenericError", f"{type(error).__name__}: {error}", tag)
        else:
            self._send({"return": {} if result is None else result, **tag})

    def event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Tell the client of something, once it has negotiated."""
        if self._ready:
            now = time.time_ns() // 1000
            stamp = {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}
            said = {"event": name, "timestamp": stamp}
            self._send(said | ({"data": data} if data is not None else {}))

    def close(self) -> None:
        """The client has gone."""
        self.watch_events(None)
        self.keep_failed(False)
        self.machine.live.discard(self._input)
        if self._follows:
            self._follows = False
            self.machine.console.sinks.remove(self._printed)

    # -- what commands use --------------------------------------------------------------------

    def negotiate(self) -> None:
        if self._ready:
            raise LookupError("Capabilities negotiation is already complete, command ignored")
        self._ready = True
        self.machine.live.add(self._input)  # it may type, and the guest may wait for that

    def quit(self) -> None:
        self.actions.quit()

    def watch_events(self, choice: Filter | None) -> None:
        """Send what a filter chooses from now on, and nothing else."""
        while self._subscriptions:
            self._subscriptions.pop().cancel()
        if choice is not None:
            events = self.machine.events
            self._subscriptions = [
                events.subscribe(KINDS[kind], self._traced, choice.where(kind))
                for kind in choice.kinds
                if kind in KINDS
            ]

    def keep_failed(self, wanted: bool) -> None:
        """Have a machine that fails pause, so that it can be looked at, instead of ending."""
        if wanted != self._keeps:
            self._keeps = wanted
            self.actions.control.debuggers += 1 if wanted else -1

    def follow_console(self) -> None:
        if not self._follows:
            self._follows = True
            self.machine.console.sinks.append(self._printed)

    def paused(self, outcome: Outcome) -> None:
        data: dict[str, Any] = {"reason": outcome.kind, "sentence": outcome.sentence}
        if outcome.stop is not None:
            data |= {"hart": outcome.stop.hart, "pc": outcome.stop.pc}
        self.event("STOP", data)

    # -- inside -------------------------------------------------------------------------------

    def _execute(self, request: dict[str, Any]) -> Any:
        name, arguments = request.get("execute"), request.get("arguments", {})
        if unknown := request.keys() - {"execute", "arguments", "id"}:
            raise MonitorError(f"QMP input member '{min(unknown)}' is unexpected")
        if not isinstance(name, str):
            raise MonitorError("QMP input lacks member 'execute'")
        if not isinstance(arguments, dict):
            raise MonitorError("QMP input member 'arguments' must be an object")
        if not self._ready and name != "qmp_capabilities":
            raise LookupError("Expecting capabilities negotiation with 'qmp_capabilities'")
        command = COMMANDS.get(name)
        if command is None:
            raise LookupError(f"The command {name} has not been found")
        if name == "qmp_capabilities":
            arguments = {key: value for key, value in arguments.items() if key != "enable"}
        command.check(arguments)
        return command.function(self, arguments)

    def _error(self, kind: str, reason: str, tag: dict[str, Any] | None) -> None:
        self._send({"error": {"class": kind, "desc": reason}, **(tag or {})})

    def _traced(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._window >= 1:
            self._window, self._sent = now, 0
        self._sent += 1
        if self._sent > MOST_EVENTS:
            self._lost += 1
            return
        data = {"time": event.time, "kind": kind_of(event), "subject": event.subject}
        fields = {name: _plain(value) for name, value in fields_of(event).items()}
        self.event("X_TRACE", data | {"fields": fields, "text": str(event), "lost": self._lost})

    def _printed(self, data: bytes) -> None:
        self.event("X_CONSOLE", {"text": data.decode("latin-1")})


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def encode(message: dict[str, Any]) -> bytes:
    """A message as it goes over the socket."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\r\n"

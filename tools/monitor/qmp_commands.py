"""The commands of QMP: QEMU's own where they mean something here, and ours, which begin with `x-`.

Each has its arguments declared, from which calls are checked and `query-qmp-schema` answers.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hypervisor.events import KINDS
from hypervisor.trace import Filter, FilterError
from tools.monitor import views
from tools.monitor.errors import MonitorError

if TYPE_CHECKING:
    from tools.monitor.qmp import QmpSession

Arguments = Mapping[str, Any]
_TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool}
EVENTS = ("STOP", "RESUME", "RESET", "SHUTDOWN", "POWERDOWN", "X_TRACE", "X_CONSOLE")


@dataclass(frozen=True)
class QmpCommand:
    """A command; `arguments` by name: `str`, `int` or `bool`, with a `*` before an optional one."""

    name: str
    function: Callable[[QmpSession, Arguments], Any]
    arguments: Mapping[str, str] = field(default_factory=dict)

    def check(self, given: Arguments) -> None:
        """Raises MonitorError for what does not fit."""
        known = {name.removeprefix("*"): kind for name, kind in self.arguments.items()}
        for name, value in given.items():
            if name not in known:
                raise MonitorError(f"Parameter '{name}' is unexpected")
            wanted = _TYPES[known[name]]
            if type(value) is not wanted:
                raise MonitorError(f"Invalid parameter type for '{name}', expected: {known[name]}")
        for name in self.arguments:
            if not name.startswith("*") and name not in given:
                raise MonitorError(f"Parameter '{name}' is missing")


def version_of() -> dict[str, Any]:
    """The greeting's version: this program's numbers, where clients look for QEMU's."""
    numbers = [int(part) for part in version("hypervisor").split(".")[:3]]
    keys = ("major", "minor", "micro")
    return {"qemu": dict(zip(keys, numbers, strict=True)), "package": "hypervisor"}


def _status(session: QmpSession, given: Arguments) -> Any:
    paused = session.actions.control.paused
    return {"status": "paused" if paused else "running", "running": not paused}


def _cpus(session: QmpSession, given: Arguments) -> Any:
    arch = session.machine.description.cpu.arch
    return [
        {
            "cpu-index": hart.index,
            "qom-path": f"/harts/{hart.index}",
            "thread-id": 0,
            "target": arch,
        }
        for hart in session.machine.cpu
    ]


def _human(session: QmpSession, given: Arguments) -> Any:
    """As in QEMU, what is wrong with the command is in its text. Lines end as there."""
    text = session.text
    if "cpu-index" in given:
        text.hart = views.hart_of(session.machine, given["cpu-index"]).index
    answer = text.answer(given["command-line"])
    return answer.replace("\n", "\r\n") + ("\r\n" if answer else "")


def _power_down(session: QmpSession, given: Arguments) -> Any:
    session.actions.power_down()
    session.broadcast("POWERDOWN")


def _screendump(session: QmpSession, given: Arguments) -> Any:
    """QEMU's default is PPM; we write PNG only, and say so to whom wants another."""
    if given.get("format", "png") != "png":
        raise MonitorError(f"Parameter 'format' is png here, not {given['format']}")
    session.actions.screenshot(given["filename"])


def _memory(session: QmpSession, given: Arguments) -> Any:
    data = session.actions.memory(given["address"], given["size"], given.get("hart"))
    return {"data": base64.b64encode(data).decode()}


def _breakpoint(session: QmpSession, given: Arguments) -> Any:
    point = session.actions.break_at(given["place"])
    return {"number": point.number, "address": point.address}


def _watchpoint(session: QmpSession, given: Arguments) -> Any:
    kind = given.get("kind", "write")
    if kind not in ("read", "write", "access"):
        raise MonitorError("Parameter 'kind' is none of read, write, access")
    point = session.actions.watch(given["address"], given["size"], kind, given.get("hart"))
    return {"number": point.number, "address": point.address}


def _breakpoints(session: QmpSession, given: Arguments) -> Any:
    return [
        {"number": point.number, "address": point.address, "kind": type(point).__name__.lower()}
        for point in session.machine.breakpoints
    ]


def _watch_events(session: QmpSession, given: Arguments) -> Any:
    """Have events come as X_TRACE to this client; an empty filter ends it."""
    try:
        session.watch_events(Filter.parse(given["events"]) if given["events"] else None)
    except FilterError as error:
        raise MonitorError(str(error)) from None


def _console(session: QmpSession, given: Arguments) -> Any:
    """The console's text so far; with `follow` what comes from now on as X_CONSOLE."""
    if given.get("follow"):
        session.follow_console()
    return {"text": session.machine.console.text[-65536:]}


def _poke(session: QmpSession, given: Arguments) -> Any:
    session.actions.poke(given["register"], given["value"])


def _registers(session: QmpSession, given: Arguments) -> Any:
    return views.registers(session.machine, given["device"], session.actions.accesses)


def _walk(session: QmpSession, given: Arguments) -> Any:
    return views.walk(session.machine, given.get("hart", 0), given["address"])


def _disassemble(session: QmpSession, given: Arguments) -> Any:
    count = given.get("count", 8)
    if not 0 < count <= 1000:
        raise MonitorError("Parameter 'count' must be 1 to 1000")
    return session.actions.disassemble(given.get("hart", 0), given.get("address"), count)


def _look(session: QmpSession, given: Arguments) -> Any:
    """Everything that an inspector shows, of one moment."""
    machine, name = session.machine, given.get("device", "")
    return {
        "status": views.status(machine) | {"paused": session.actions.control.paused},
        "devices": views.devices(machine),
        "registers": views.registers(machine, name, session.actions.accesses) if name else [],
        "harts": views.harts(machine),
        "interrupts": views.interrupts(machine),
        "virtqueues": views.virtqueues(machine),
        "gpu": list(views.displays(machine)),
        "code": session.actions.disassemble(machine.turns.index, None, 12),
    }


def _view(view: Callable[[Any], Any]) -> Callable[[QmpSession, Arguments], Any]:
    return lambda session, given: view(session.machine)


def _schema(session: QmpSession, given: Arguments) -> Any:
    """Introspection (QEMU's SchemaInfo): commands, their arguments, and events."""
    entries: list[dict[str, Any]] = [
        {"name": name, "meta-type": "builtin", "json-type": json_type}
        for name, json_type in (("str", "string"), ("int", "int"), ("bool", "boolean"))
    ]
    entries.append({"name": "any", "meta-type": "builtin", "json-type": "value"})
    for command in COMMANDS.values():
        entries.append(
            {
                "name": command.name,
                "meta-type": "command",
                "arg-type": f"{command.name}-arg",
                "ret-type": "any",
            }
        )
        members = [
            {
                "name": n.removeprefix("*"),
                "type": kind,
                **({"default": None} if n[0] == "*" else {}),
            }
            for n, kind in command.arguments.items()
        ]
        entry = {"name": f"{command.name}-arg", "meta-type": "object", "members": members}
        entries.append(entry)
    entries += [{"name": name, "meta-type": "event", "arg-type": "any"} for name in EVENTS]
    return entries


def _names(session: QmpSession, given: Arguments) -> Any:
    return [{"name": name} for name in sorted(COMMANDS)]


COMMANDS: dict[str, QmpCommand] = {
    command.name: command
    for command in (
        QmpCommand("qmp_capabilities", lambda session, given: session.negotiate()),
        QmpCommand("query-version", lambda session, given: version_of()),
        QmpCommand("query-commands", _names),
        QmpCommand("query-qmp-schema", _schema),
        QmpCommand("query-name", lambda s, given: {"name": s.machine.description.machine}),
        QmpCommand("query-status", _status),
        QmpCommand("query-cpus-fast", _cpus),
        QmpCommand("stop", lambda session, given: session.actions.stop()),
        QmpCommand("cont", lambda session, given: session.actions.cont()),
        QmpCommand("system_reset", lambda session, given: session.actions.reset()),
        QmpCommand("system_powerdown", _power_down),
        QmpCommand("quit", lambda session, given: session.quit()),
        QmpCommand("screendump", _screendump, {"filename": "str", "*format": "str"}),
        QmpCommand("human-monitor-command", _human, {"command-line": "str", "*cpu-index": "int"}),
        QmpCommand("x-status", _view(views.status)),
        QmpCommand("x-look", _look, {"*device": "str"}),
        QmpCommand("x-devices", _view(views.devices)),
        QmpCommand("x-device", _registers, {"device": "str"}),
        QmpCommand("x-harts", _view(views.harts)),
        QmpCommand(
            "x-hart-registers",
            lambda s, given: views.hart_registers(s.machine, given.get("hart", 0)),
            {"*hart": "int"},
        ),
        QmpCommand("x-memory-map", _view(views.memory_map)),
        QmpCommand("x-interrupts", _view(views.interrupts)),
        QmpCommand("x-timers", _view(views.timers)),
        QmpCommand("x-virtqueues", _view(views.virtqueues)),
        QmpCommand("x-gpu", lambda session, given: list(views.displays(session.machine))),
        QmpCommand("x-memory", _memory, {"address": "int", "size": "int", "*hart": "int"}),
        QmpCommand(
            "x-disassemble", _disassemble, {"*address": "int", "*count": "int", "*hart": "int"}
        ),
        QmpCommand("x-translate", _walk, {"address": "int", "*hart": "int"}),
        QmpCommand("x-poke", _poke, {"register": "str", "value": "int"}),
        QmpCommand(
            "x-peek",
            lambda session, given: {"value": session.actions.peek(given["register"])},
            {"register": "str"},
        ),
        QmpCommand("x-step", lambda s, g: s.actions.step(g.get("hart", 0)), {"*hart": "int"}),
        QmpCommand(
            "x-step-back",
            lambda s, g: {"sentence": s.actions.step_back(g.get("hart", s.machine.turns.index))},
            {"*hart": "int"},
        ),
        QmpCommand(
            "x-rewind",
            lambda s, given: {"sentence": s.actions.rewind(given["nanoseconds"])},
            {"nanoseconds": "int"},
        ),
        QmpCommand("x-breakpoint-add", _breakpoint, {"place": "str"}),
        QmpCommand(
            "x-watchpoint-add",
            _watchpoint,
            {"address": "int", "size": "int", "*kind": "str", "*hart": "int"},
        ),
        QmpCommand("x-breakpoints", _breakpoints),
        QmpCommand(
            "x-breakpoint-remove",
            lambda session, given: session.actions.delete(given["number"]),
            {"number": "int"},
        ),
        QmpCommand(
            "x-keep-failed", lambda s, given: s.keep_failed(given["keep"]), {"keep": "bool"}
        ),
        QmpCommand("x-event-kinds", lambda session, given: sorted(KINDS)),
        QmpCommand("x-watch-events", _watch_events, {"events": "str"}),
        QmpCommand("x-console", _console, {"*follow": "bool"}),
        QmpCommand(
            "x-type", lambda s, given: s.actions.type(given["text"].encode()), {"text": "str"}
        ),
        QmpCommand(
            "x-trace",
            lambda s, given: s.actions.trace(given["events"], given.get("file")),
            {"events": "str", "*file": "str"},
        ),
        QmpCommand("x-trace-off", lambda s, given: {"ended": s.actions.trace_off()}),
        QmpCommand(
            "x-snapshot", lambda s, given: s.actions.snapshot(given["file"]), {"file": "str"}
        ),
    )
}

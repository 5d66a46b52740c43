"""The monitor as text: a command a line, answers for people to read."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tools.monitor import views
from tools.monitor.dump import dump, parse_format
from tools.monitor.errors import MonitorError
from tools.monitor.tables import columns, fields_of, seconds

if TYPE_CHECKING:
    from tools.monitor.actions import Actions

PROMPT = "(hypervisor) "


@dataclass(frozen=True)
class Command:
    """One command: what it is called with, and what it does."""

    name: str
    usage: str
    help: str
    function: Callable[..., str | None]


class TextMonitor:
    """Answers commands about one machine; `hart` is the one that is looked at."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.machine = actions.machine
        self.hart = 0

    def answer(self, line: str) -> str:
        """What to print for a line; never raises for what a user typed."""
        try:
            return self._answer(line)
        except MonitorError as error:
            return str(error)

    def _answer(self, line: str) -> str:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise MonitorError(f"the line cannot be read: {error}") from None
        if not words:
            return ""
        name, _, suffix = words[0].partition("/")
        command = COMMANDS.get(name)
        if command is None or (suffix and name not in ("x", "xp")):
            raise MonitorError(f"there is no command '{words[0]}'; `help` lists them")
        arguments = [suffix, *words[1:]] if name in ("x", "xp") else words[1:]
        try:
            inspect.signature(command.function).bind(self, *arguments)
        except TypeError:
            raise MonitorError(f"usage: {command.name} {command.usage}".rstrip()) from None
        return command.function(self, *arguments) or ""

    def number(self, text: str) -> int:
        try:
            return int(text, 0)
        except ValueError:
            raise MonitorError(f"'{text}' is not a number") from None

    # -- running ------------------------------------------------------------------------------

    def _help(self, name: str | None = None) -> str:
        if name is None:
            rows = [(f"{c.name} {c.usage}".rstrip(), c.help) for c in COMMANDS.values()]
            return columns(rows)
        if name not in COMMANDS:
            raise MonitorError(f"there is no command '{name}'")
        command = COMMANDS[name]
        return f"{command.name} {command.usage}\n{command.help}"

    def _stop(self) -> None:
        self.actions.stop()

    def _cont(self) -> None:
        self.actions.cont()

    def _step(self, hart: str | None = None) -> None:
        self.actions.step(self.hart if hart is None else self.number(hart))

    def _reset(self) -> None:
        self.actions.reset()

    def _power_down(self) -> None:
        self.actions.power_down()

    def _quit(self) -> None:
        self.actions.quit()

    def _select(self, index: str) -> None:
        number = self.number(index)
        views.hart_of(self.machine, number)
        self.hart = number

    # -- looking ------------------------------------------------------------------------------

    def _info(self, what: str, *rest: str) -> str:
        view = INFO.get(what)
        if view is None:
            raise MonitorError(f"there is no `info {what}`; there are {', '.join(INFO)}")
        try:
            inspect.signature(view).bind(self, *rest)
        except TypeError:
            raise MonitorError(f"`info {what}` does not take '{' '.join(rest)}'") from None
        return view(self, *rest)

    def _status(self) -> str:
        state = "paused" if self.actions.control.paused else "running"
        found = views.status(self.machine)
        time = seconds(found["virtual_ns"])
        if found["past"]:
            time += ", in its past"
        return (
            f"{found['machine']} ({found['arch']}) is {state} at {time}, {found['resets']} resets"
        )

    def _devices(self) -> str:
        header = ("DEVICE", "TYPE", "ADDRESS", "IRQ", "LEVEL", "READS", "WRITES")
        rows: list[tuple[str, ...]] = [header]
        for each in views.devices(self.machine):
            at = "" if each["at"] is None else f"{each['at']:#x}"
            level = "" if each["irq"] is None else "high" if each["level"] else "low"
            counts = (str(each["reads"]), str(each["writes"]))
            rows.append((each["name"], each["type"], at, each["irq"] or "", level, *counts))
            rows += [(f"  {line}", *[""] * 6) for line in each["state"]]
        return columns(rows)

    def _harts(self) -> str:
        rows: list[tuple[str, ...]] = [("", "HART", "STATE", "PC", "FUNCTION", "EXECUTED")]
        for each in views.harts(self.machine):
            mark = "*" if each["hart"] == self.hart else ""
            place = (f"{each['pc']:#x}", each["function"] or "", f"{each['executed']} bytes")
            rows.append((mark, str(each["hart"]), each["state"], *place))
        return columns(rows)

    def _registers(self, hart: str | None = None) -> str:
        from hypervisor.report import describe_hart

        index = self.hart if hart is None else self.number(hart)
        return describe_hart(views.hart_of(self.machine, index), self.machine.programs)

    def _mtree(self) -> str:
        return "\n".join(
            f"{each['begin']:016x}-{each['end'] - 1:016x}  {each['what']}"
            for each in views.memory_map(self.machine)
        )

    def _irq(self) -> str:
        found = views.interrupts(self.machine)
        names = ("pending", "active", "enabled", "priority")
        rows: list[tuple[str, ...]] = [
            ("INPUT", "DEVICE", "LEVEL", "RAISED", *map(str.upper, names))
        ]
        for each in found:
            states = [_shown(each.get(name)) for name in names]
            level = "high" if each["level"] else "low"
            rows.append((each["input"], each["device"], level, str(each["count"]), *states))
        return columns(rows)

    def _events(self) -> str:
        rows = [("DUE", "IN", "TIMER")]
        for each in views.timers(self.machine):
            rows.append((seconds(each["deadline"]), f"{each['in']} ns", each["name"]))
        return columns(rows) if len(rows) > 1 else "no timer is armed"

    def _virtqueues(self) -> str:
        names = ("QUEUE", "READY", "SIZE", "DESCRIPTORS", "DRIVER", "DEVICE")
        rows: list[tuple[str, ...]] = [(*names, "AVAILABLE", "TAKEN", "USED", "IN FLIGHT")]
        for each in views.virtqueues(self.machine):
            rings = [f"{each[ring]:#x}" for ring in ("descriptors", "driver", "device_ring")]
            counts = [str(each[c]) for c in ("available", "taken", "used", "in_flight")]
            name, ready = f"{each['device']}.{each['queue']}", "yes" if each["ready"] else "no"
            rows.append((name, ready, str(each["size"]), *rings, *counts))
        return columns(rows) if len(rows) > 1 else "no virtio devices"

    def _gpu(self) -> str:
        found = list(views.displays(self.machine))
        if not found:
            return "no GPU"
        return "\n".join(
            "\n".join([f"{each['device']} ({each['type']})", *(f"  {s}" for s in each["state"])])
            for each in found
        )

    def _breakpoints(self) -> str:
        points = list(self.machine.breakpoints)
        return "\n".join(str(point) for point in points) or "none is set"

    def _traces(self) -> str:
        return (
            "\n".join(
                f"{tracer.filter.text} to {tracer.to or 'standard error'}"
                for tracer in self.machine.tracers
            )
            or "none is made"
        )

    def _device(self, name: str) -> str:
        rows: list[tuple[str, ...]] = [("OFFSET", "REGISTER", "VALUE", "FIELDS", "LAST ACCESS")]
        for each in views.registers(self.machine, name, self.actions.accesses):
            last, value, fields = "", f"{each['value']:#x}", fields_of(each["fields"])
            if (seen := each["last"]) is not None:
                arrow = "<-" if seen["write"] else "->"
                last = f"{arrow} {seen['value']:#x} at {seconds(seen['time'])}"
            if each["computed"]:
                value, fields = "(when read)", fields_of(each["last_fields"])
            rows.append((f"{each['offset']:#06x}", each["name"], value, fields, last))
        device = views.device_of(self.machine, name)
        return "\n".join([f"{name}: {device.summary}", *device.describe(), columns(rows)])

    def _examine(self, form: str, place: str) -> str:
        return self._dump(form, place, self.hart)

    def _examine_physical(self, form: str, place: str) -> str:
        return self._dump(form, place, None)

    def _dump(self, form: str, place: str, hart: int | None) -> str:
        count, letter, size = parse_format(form)
        address = self._place(place)
        if letter == "i":
            if hart is None:
                raise MonitorError("instructions are shown by virtual address: x/i")
            return "\n".join(self.actions.disassemble(hart, address, count))
        data = self.actions.memory(address, count * size, hart)
        return dump(data, address, letter, size)

    def _place(self, text: str) -> int:
        """An address as `Actions.address` takes it, or `$REGISTER`."""
        if not text.startswith("$"):
            return self.actions.address(text)
        registers = views.hart_registers(self.machine, self.hart)
        if text[1:] not in registers:
            raise MonitorError(f"hart {self.hart} has no register '{text[1:]}'")
        return registers[text[1:]]

    def _disassemble(self, place: str | None = None, count: str = "10") -> str:
        address = None if place is None else self._place(place)
        number = self.number(count)
        if not 0 < number <= 1000:
            raise MonitorError("1 to 1000 instructions are disassembled at once")
        return "\n".join(self.actions.disassemble(self.hart, address, number))

    def _translate(self, place: str) -> str:
        found = views.walk(self.machine, self.hart, self._place(place))
        lines = [
            f"level {step['level']}: entry at {step['at']:#x} is {step['entry']:#x}"
            for step in found["steps"]
        ]
        if found["physical"] is None:
            lines.append(f"{found['virtual']:#x} is not mapped")
        else:
            if not lines:
                lines.append("no translation in this mode")
            lines.append(f"{found['virtual']:#x} -> {found['physical']:#x} ({found['what']})")
        return "\n".join(lines)

    # -- changing -----------------------------------------------------------------------------

    def _poke(self, assignment: str) -> None:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise MonitorError("usage: poke DEVICE.REGISTER[.FIELD]=VALUE")
        self.actions.poke(name, self.number(value))

    def _peek(self, name: str) -> str:
        return f"{name} = {self.actions.peek(name):#x}"

    def _break(self, place: str) -> str:
        point = self.actions.break_at(place)
        return f"breakpoint {point.number} at {point.address:#x}"

    def _watch(self, place: str, size: str = "8", kind: str = "write") -> str:
        if kind not in ("read", "write", "access"):
            raise MonitorError(f"'{kind}' is none of read, write, access")
        point = self.actions.watch(self._place(place), self.number(size), kind, self.hart)
        return f"watchpoint {point.number} at {point.address:#x}"

    def _delete(self, number: str) -> None:
        self.actions.delete(self.number(number))

    def _history(self, switch: str | None = None) -> str:
        if switch not in (None, "on", "off"):
            raise MonitorError("usage: history [on|off]")
        if switch is not None:
            self.actions.keep_history(switch == "on")
            return f"history is {switch}"
        return self.actions.history()

    def _rewind(self, to: str, place: str | None = None) -> str:
        from hypervisor.device.options import parse_duration

        if to == "to-last-write" and place is not None:
            return self.actions.to_last_write(self._place(place), self.hart)
        try:
            return self.actions.rewind(parse_duration(to))
        except ValueError as error:
            raise MonitorError(str(error)) from None

    def _back(self) -> str:
        return self.actions.back()

    def _step_back(self) -> str:
        return self.actions.step_back(self.hart)

    def _trace(self, events: str, to: str | None = None) -> str:
        if events == "off":
            return f"{self.actions.trace_off()} traces ended"
        self.actions.trace(events, to)
        return f"tracing {events} to {to or 'standard error'}"

    def _snapshot(self, path: str) -> str:
        self.actions.snapshot(path)
        return f"written to {path}"

    def _screendump(self, path: str) -> str:
        self.actions.screenshot(path)
        return f"written to {path}"

    def _type(self, *words: str) -> None:
        self.actions.type(" ".join(words).encode() + b"\n")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


_M = TextMonitor
INFO: dict[str, Callable[..., str]] = {
    "status": _M._status,
    "devices": _M._devices,
    "harts": _M._harts,
    "registers": _M._registers,
    "mtree": _M._mtree,
    "irq": _M._irq,
    "events": _M._events,
    "virtqueues": _M._virtqueues,
    "gpu": _M._gpu,
    "breakpoints": _M._breakpoints,
    "traces": _M._traces,
}

COMMANDS = {
    command.name: command
    for command in (
        Command("help", "[COMMAND]", "this list, or one command", _M._help),
        Command("info", "WHAT", f"show {', '.join(INFO)}", _M._info),
        Command("device", "NAME", "every register of a device, and its last access", _M._device),
        Command("stop", "", "pause the machine", _M._stop),
        Command("cont", "", "let it go on", _M._cont),
        Command("step", "[HART]", "one instruction of a hart", _M._step),
        Command("hart", "NUMBER", "the hart that commands are about", _M._select),
        Command("x", "/NFU ADDR", "memory by virtual address: x/8xw $sp, x/5i $pc", _M._examine),
        Command("xp", "/NFU ADDR", "memory by physical address", _M._examine_physical),
        Command("disassemble", "[ADDR] [COUNT]", "instructions, from pc on", _M._disassemble),
        Command("translate", "ADDR", "the page walk for a virtual address", _M._translate),
        Command("poke", "DEV.REG[.FIELD]=VALUE", "store to a register as a guest", _M._poke),
        Command("peek", "DEV.REG[.FIELD]", "load a register as a guest", _M._peek),
        Command("break", "ADDR|FUNCTION", "stop before an instruction", _M._break),
        Command("watch", "ADDR [SIZE] [KIND]", "stop before a read, write or access", _M._watch),
        Command("delete", "NUMBER", "remove a breakpoint or watchpoint", _M._delete),
        Command("history", "[on|off]", "keep states to go back to; how far that is", _M._history),
        Command(
            "rewind", "TIME | to-last-write ADDR", "go back: rewind 5ms, to a store", _M._rewind
        ),
        Command("back", "", "go back to the breakpoint that was met last", _M._back),
        Command("step_back", "", "go back by one instruction", _M._step_back),
        Command("trace", "FILTER [FILE] | off", "trace events, as run --trace does", _M._trace),
        Command("snapshot", "FILE", "write a snapshot", _M._snapshot),
        Command("screendump", "FILE", "write the display's picture (PNG)", _M._screendump),
        Command("type", "TEXT", "type a line to the guest's console", _M._type),
        Command("system_reset", "", "reset the machine", _M._reset),
        Command("system_powerdown", "", "press the power button", _M._power_down),
        Command("quit", "", "end the run", _M._quit),
    )
}

"""The inspector's screen, on textual."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import (
    DataTable,
    Footer,
    Header,
    Input,
    RichLog,
    Static,
    TabbedContent,
    TabPane,
)

from tools.inspector.link import Link, LinkError
from tools.inspector.tables import LiveTable
from tools.inspector.timeline import Timeline

_REFRESH = 0.5
"""Seconds between looks at a machine that runs."""
_EVENTS = "all,!mmio,!timer"


class Inspector(App[int]):
    """Shows the machine at a QMP socket. `owns`: the machine ends with the inspector."""

    TITLE = "hypervisor"
    CSS = """
    #left { width: 46; }
    #devices { height: 1fr; }
    #harts { height: 8; }
    #registers { height: 1fr; }
    #lower { height: 45%; }
    #console { height: 1fr; }
    #command { dock: bottom; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("f5", "run", "Run/stop"),
        Binding("f10", "step", "Step"),
        Binding("f9", "breakpoint", "Break"),
        Binding("f8", "rewind", "Rewind"),
        Binding("f7", "step_back", "Step back"),
        Binding("f2", "monitor", "Monitor"),
        Binding("ctrl+q", "leave", "Leave"),
    ]

    def __init__(self, path: str, *, owns: bool = False) -> None:
        super().__init__()
        self._link = Link(path, self._told)
        self._owns = owns
        self._device = ""
        self._paused = False
        self._timeline = Timeline()
        self.failure = ""
        """Why the inspector could not begin."""

    def compose(self) -> ComposeResult:
        yield Header()
        with Horizontal():
            with Vertical(id="left"):
                yield LiveTable(("DEVICE", "IRQ", "LEVEL", "READS", "WRITES"), id="devices")
                yield LiveTable(("HART", "STATE", "PC"), id="harts")
            yield LiveTable(("REGISTER", "VALUE", "FIELDS", "LAST"), id="registers")
        with TabbedContent(id="lower"):
            with TabPane("Console", id="console-pane"):
                yield RichLog(id="console", wrap=True, max_lines=5000)
                yield Input(placeholder="type to the guest; Enter sends the line", id="typed")
            with TabPane("Events", id="events-pane"):
                yield RichLog(id="events", max_lines=5000)
            with TabPane("Interrupts", id="interrupts-pane"):
                yield LiveTable(
                    ("INPUT", "DEVICE", "LEVEL", "RAISED", "PENDING", "ACTIVE", "ENABLED"),
                    id="interrupts",
                )
            with TabPane("Virtqueues", id="virtqueues-pane"):
                yield LiveTable(
                    ("QUEUE", "READY", "SIZE", "AVAILABLE", "TAKEN", "USED", "IN FLIGHT"),
                    id="virtqueues",
                )
            with TabPane("Code", id="code-pane"):
                yield Static(id="code", markup=False)
            with TabPane("GPU", id="gpu-pane"):
                yield Static(id="gpu", markup=False)
            with TabPane("Monitor", id="monitor-pane"):
                yield RichLog(id="answers", max_lines=5000)
                yield Input(placeholder="a monitor command; help lists them", id="command")
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._follow_machine(), name="link")

    async def _follow_machine(self) -> None:
        """Connect, and look at the machine from then on."""
        ask = self._link.ask
        try:
            await self._link.open()
            await ask("x-keep-failed", keep=True)
            if self._owns:
                await ask("human-monitor-command", command_line="history on")
            await ask("x-watch-events", events=_EVENTS)
            console = await ask("x-console", follow=True)
        except LinkError as error:
            self.failure = str(error)
            self.exit(3)
            return
        self._show_console(console["text"])
        while self._link.is_open:
            await self.refresh_views()
            await asyncio.sleep(_REFRESH)

    # -- looking ------------------------------------------------------------------------------

    async def refresh_views(self) -> None:
        """Look at everything once."""
        device = self._device
        try:
            found = await self._link.ask("x-look", device=device)
        except LinkError:
            return
        if not self.is_running or device != self._device:
            return
        self._show(found)

    def _show(self, found: dict[str, Any]) -> None:
        status = found["status"]
        self._paused = status["paused"]
        state = "paused" if self._paused else "running"
        self.sub_title = f"{status['machine']}  {state} at {status['virtual_ns'] / 1e9:.6f} s"
        if not self._device and found["devices"]:
            self._device = found["devices"][0]["name"]
        self._table("devices").show([_device_row(each) for each in found["devices"]])
        self._table("registers").show([_register_row(each) for each in found["registers"]])
        self._table("harts").show([_hart_row(each) for each in found["harts"]])
        self._table("interrupts").show([_line_row(each) for each in found["interrupts"]])
        self._table("virtqueues").show([_queue_row(each) for each in found["virtqueues"]])
        self.query_one("#code", Static).update("\n".join(found["code"]))
        lines = [line for each in found["gpu"] for line in (each["device"], *each["state"])]
        width = max(self.size.width - 50, 20)
        self.query_one("#gpu", Static).update("\n".join([*self._timeline.draw(width), *lines]))

    def _table(self, name: str) -> LiveTable:
        return self.query_one(f"#{name}", LiveTable)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        name = event.row_key.value if event.row_key is not None else None
        if event.data_table.id == "devices" and name and name != self._device:
            self._device = name
            self._table("registers").forget()
            self.run_worker(self.refresh_views())

    def _told(self, name: str, data: dict[str, Any]) -> None:
        """An event of the machine's."""
        if not self.is_running:
            return
        log = self.query_one("#events", RichLog)
        if name == "X_CONSOLE":
            self._show_console(data["text"])
        elif name == "X_TRACE":
            log.write(f"{data['time'] / 1e9:.9f} {data['text']}")
            if data["kind"] == "gpu":
                self._timeline.take(data)
        elif name == "GONE":
            log.write("the machine has gone")
            self.sub_title = "the machine has gone"
        else:
            log.write(f"{name} {data.get('sentence', '')}".rstrip())
            self.run_worker(self.refresh_views())

    def _show_console(self, text: str) -> None:
        for line in text.replace("\r", "").splitlines():
            self.query_one("#console", RichLog).write(line)

    # -- doing --------------------------------------------------------------------------------

    def do(self, command: str, **arguments: Any) -> None:
        """Begin a command. Its failure is shown."""
        self.run_worker(self.ask(command, **arguments))

    async def ask(self, command: str, **arguments: Any) -> Any:
        """What a command returns; None where it fails, which is shown."""
        try:
            result = await self._link.ask(command, **arguments)
        except LinkError as error:
            self.notify(str(error), severity="error")
            return None
        await self.refresh_views()
        return result

    def action_run(self) -> None:
        self.do("cont" if self._paused else "stop")

    def action_step(self) -> None:
        self.do("x-step")

    def action_step_back(self) -> None:
        self.do("x-step-back")

    def action_breakpoint(self) -> None:
        self._begin("break ")

    def action_rewind(self) -> None:
        self._begin("rewind ")

    def action_monitor(self) -> None:
        self._begin("")

    def _begin(self, text: str) -> None:
        """Have a monitor command typed, of which the beginning is there."""
        self.query_one("#lower", TabbedContent).active = "monitor-pane"
        command = self.query_one("#command", Input)
        command.value = text
        command.cursor_position = len(text)
        command.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        text, event.input.value = event.value, ""
        if event.input.id == "typed":
            self.do("x-type", text=text + "\n")
        else:
            self.run_worker(self._answer(text))

    async def _answer(self, text: str) -> None:
        answers = self.query_one("#answers", RichLog)
        answers.write(f"> {text}")
        answer = await self.ask("human-monitor-command", command_line=text)
        for line in (answer or "").splitlines():
            answers.write(line)

    async def action_leave(self) -> None:
        """End, and with it the machine if it is the inspector's own."""
        await self.leave()
        self.exit(0)

    async def leave(self) -> None:
        if self._owns:
            with contextlib.suppress(LinkError):
                await self._link.ask("quit")
        await self._link.close()


def _device_row(each: dict[str, Any]) -> tuple[str, ...]:
    level = "" if each["irq"] is None else "high" if each["level"] else "low"
    return (each["name"], each["irq"] or "", level, str(each["reads"]), str(each["writes"]))


def _hart_row(each: dict[str, Any]) -> tuple[str, ...]:
    return (str(each["hart"]), each["state"], each["function"] or f"{each['pc']:#x}")


def _line_row(each: dict[str, Any]) -> tuple[str, ...]:
    flags = ["yes" if each.get(n) else "no" for n in ("pending", "active", "enabled")]
    level = "high" if each["level"] else "low"
    return (each["input"], each["device"], level, str(each["count"]), *flags)


def _queue_row(each: dict[str, Any]) -> tuple[str, ...]:
    counts = [str(each[name]) for name in ("size", "available", "taken", "used", "in_flight")]
    return (f"{each['device']}.{each['queue']}", "yes" if each["ready"] else "no", *counts)


def _register_row(each: dict[str, Any]) -> tuple[str, ...]:
    last = each["last"]
    value, fields, seen = f"{each['value']:#x}", each["fields"], ""
    if each["computed"]:
        value, fields = "" if last is None else f"{last['value']:#x}", each["last_fields"]
    if last is not None:
        seen = f"{'<-' if last['write'] else '->'} {last['value']:#x} at {last['time'] / 1e9:.6f} s"
    decoded = " ".join(n if v == 1 else f"{n}={v:#x}" for n, v in fields.items() if v)
    return (each["name"], value, decoded, seen)

"""The inspector, with textual's pilot on a running machine."""

import asyncio

import pytest
from textual.widgets import Input, RichLog, TabbedContent

from tools.inspector.app import Inspector
from tools.inspector.tables import CHANGED, LiveTable
from tools.inspector.timeline import Timeline


@pytest.fixture
def inspect(running):
    """`inspect(work)` runs the coroutine function `work(app, pilot)` on the inspector."""

    def run(work):
        async def main():
            app = Inspector(running.qmp.place.path)
            async with app.run_test(size=(140, 45)) as pilot:
                await until(pilot, lambda: "test-board" in app.sub_title)
                result = await asyncio.wait_for(work(app, pilot), 300)
                await app.leave()
            return app, result

        return asyncio.run(main())

    return run


def column(app, table, name):
    found = app.query_one(f"#{table}", LiveTable)
    return [str(found.get_cell(key, name)) for key in found.rows]


async def until(pilot, condition):
    """Wait for the screen to show it; the test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.05)


def text_of(app, log):
    """What a log shows; it lays nothing out before its tab is in front."""
    app.query_one("#lower", TabbedContent).active = {
        "#console": "console-pane",
        "#events": "events-pane",
        "#answers": "monitor-pane",
    }[log]
    return "\n".join(strip.text for strip in app.query_one(log, RichLog).lines)


def test_devices_harts_and_interrupts_are_shown(inspect):
    async def work(app, pilot):
        tables = (("devices", "DEVICE"), ("harts", "HART"), ("interrupts", "INPUT"))
        return app.sub_title, *(column(app, *each) for each in tables)

    _, (title, devices, harts, inputs) = inspect(work)

    assert devices == ["finisher", "clint", "plic", "uart0", "rng0"]
    assert harts == ["0", "1"]
    assert inputs == ["plic.10", "plic.1"]
    assert "test-board  running at" in title


def test_registers_are_of_the_device_under_the_cursor_and_changes_are_marked(inspect, running):
    async def work(app, pilot):
        table = app.query_one("#devices", LiveTable)
        table.move_cursor(row=3)
        await until(pilot, lambda: "IER" in column(app, "registers", "REGISTER"))
        registers = app.query_one("#registers", LiveTable)
        before = registers.get_cell("SCR", "VALUE")
        await app.ask("x-poke", register="uart0.SCR", value=0x5A)
        after = registers.get_cell("SCR", "VALUE")
        await until(pilot, lambda: registers.get_cell("SCR", "VALUE").style == "")
        return before, after, registers.get_cell("IER", "FIELDS")

    _, (before, after, fields) = inspect(work)

    assert (str(before), str(after), str(fields)) == ("0x0", "0x5a", "ERBFI")
    assert after.style == CHANGED


def test_f5_stops_and_goes_on_and_f10_steps(inspect, running):
    async def work(app, pilot):
        await pilot.press("f5")
        await until(pilot, lambda: "paused at" in app.sub_title)
        count = running.ask(lambda: running.machine.cpu[0].executed)
        await pilot.press("f10")
        await until(pilot, lambda: running.ask(lambda: running.machine.cpu[0].executed) != count)
        stepped = running.ask(lambda: running.machine.cpu[0].executed) - count
        await pilot.press("f5")
        await until(pilot, lambda: "running at" in app.sub_title)
        return stepped

    _, stepped = inspect(work)

    assert stepped in (2, 4)


def test_f7_steps_back_and_f8_rewinds(inspect, running):
    hart = running.machine.cpu[0]

    def place():
        return running.ask(lambda: (hart.executed, hart.pc))

    async def work(app, pilot):
        await app.ask("stop")
        await app.ask("human-monitor-command", command_line="history on")
        before = place()
        await app.ask("x-step")
        await until(pilot, lambda: place() != before)
        await pilot.press("f7")
        await until(pilot, lambda: place() == before)
        await pilot.press("f8")
        command = app.query_one("#command", Input)
        assert command.value == "rewind "
        command.value += "1s"
        await pilot.press("enter")
        await until(pilot, lambda: "history begins" in text_of(app, "#answers"))

    inspect(work)


def test_line_is_typed_to_the_guest_and_its_answer_shown(inspect):
    async def work(app, pilot):
        typed = app.query_one("#typed", Input)
        typed.focus()
        await pilot.press("h", "i", "enter")
        await until(pilot, lambda: "i" in text_of(app, "#console"))
        await until(pilot, lambda: "ack plic.10 (uart0)" in text_of(app, "#events"))

    inspect(work)


def test_breakpoint_is_set_and_met(inspect, running):
    async def work(app, pilot):
        pc = running.ask(lambda: running.machine.cpu[0].pc)
        await pilot.press("f9")
        assert app.query_one("#lower", TabbedContent).active == "monitor-pane"
        command = app.query_one("#command", Input)
        assert command.value == "break "
        command.value += hex(pc)
        await pilot.press("enter")
        await until(pilot, lambda: "paused at" in app.sub_title)
        await until(pilot, lambda: "breakpoint 1" in text_of(app, "#answers"))
        stopped = f" stopped at {pc:#x}"  # whichever hart comes there first
        await until(pilot, lambda: stopped in text_of(app, "#events"))

    inspect(work)


def test_wrong_command_is_answered(inspect):
    async def work(app, pilot):
        await pilot.press("f2")
        app.query_one("#command", Input).value = "nonsense"
        await pilot.press("enter")
        await until(pilot, lambda: "there is no command 'nonsense'" in text_of(app, "#answers"))

    inspect(work)


def test_end_of_the_machine_is_shown(inspect, running):
    async def work(app, pilot):
        app.do("quit")
        await until(pilot, lambda: "SHUTDOWN" in text_of(app, "#events"))

    inspect(work)


@pytest.mark.parametrize("path", ["/nowhere/qmp", "/dev/null"])
def test_socket_that_is_none_is_a_sentence(path):
    app = Inspector(path)

    code = asyncio.run(app.run_async(headless=True, size=(80, 24)))

    assert f"no machine answers at {path}" in app.failure
    assert code == 3


def test_gpu_commands_are_bars():
    timeline = Timeline()
    for time, number, end in ((0, 1, False), (50, 1, True), (50, 2, False), (100, 2, True)):
        fields = {"number": number, "is_end": end, "command": f"launch{number}"}
        timeline.take({"time": time, "subject": "gpu0.3d", "fields": fields})

    lines = timeline.draw(21)

    assert lines[0] == f"{'gpu0.3d':<16} {'█' * 21} launch2"
    assert "0.000000 s to" in lines[1]
    assert Timeline().draw(21) == ["no GPU command was seen yet"]

"""QMP, as QEMU's own client package speaks it."""

import asyncio
import contextlib
from itertools import pairwise

import pytest
from qemu.qmp import ExecuteError, QMPClient


@pytest.fixture
def session(running):
    """`session(work)` runs the coroutine function `work(client)` with a connected client."""

    def run(work):
        async def main():
            client = QMPClient("test")
            await client.connect(running.qmp.place.path)
            try:
                return await asyncio.wait_for(work(client), 40)
            finally:
                with contextlib.suppress(EOFError):
                    await client.disconnect()

        return asyncio.run(main())

    return run


async def event(client, name):
    """The next event of that name."""
    while True:
        found = await client.events.get()
        if found["event"] == name:
            return found


def test_machine_is_stopped_and_goes_on(session):
    async def work(client):
        before = await client.execute("query-status")
        await client.execute("stop")
        stop = await event(client, "STOP")
        paused = await client.execute("query-status")
        time = (await client.execute("x-status"))["virtual_ns"]
        later = (await client.execute("x-status"))["virtual_ns"]
        await client.execute("cont")
        resume = await event(client, "RESUME")
        return before, stop, paused, time == later, resume

    before, stop, paused, stands_still, resume = session(work)

    assert before == {"status": "running", "running": True}
    assert stop["data"]["reason"] == "paused"
    assert paused == {"status": "paused", "running": False}
    assert stands_still
    assert {"seconds", "microseconds"} == set(resume["timestamp"])


@pytest.mark.parametrize("stopped", [False, True])
def test_machine_is_reset(session, running, stopped):
    async def work(client):
        if stopped:
            await client.execute("stop")
        await client.execute("system_reset")
        await event(client, "RESET")
        return (await client.execute("x-status"))["resets"]

    assert session(work) == 1


def test_quit_ends_the_run(session, running):
    async def work(client):
        await client.execute("quit")
        return await event(client, "SHUTDOWN")

    shutdown = session(work)
    running.join()

    assert shutdown["data"]["guest"] is False
    assert running.outcome.sentence == "stopped by its monitor"


def test_guests_power_off_is_told(session, running):
    async def work(client):
        await client.execute("x-type", {"text": "q"})
        return await event(client, "SHUTDOWN")

    shutdown = session(work)

    assert shutdown["data"]["guest"] is True
    assert shutdown["data"]["reason"] == "guest-shutdown"


def test_power_button_that_is_not_there_is_said(session):
    async def work(client):
        with pytest.raises(ExecuteError, match="riscv64 machine has no power button"):
            await client.execute("system_powerdown")

    session(work)


def test_human_monitor_command_answers(session):
    async def work(client):
        return await client.execute("human-monitor-command", {"command-line": "info mtree"})

    assert "0000000080000000-00000000800fffff  RAM\r\n" in session(work)


def test_commands_and_schema_are_introspectable(session):
    async def work(client):
        return await client.execute("query-commands"), await client.execute("query-qmp-schema")

    commands, schema = session(work)
    names = {each["name"] for each in commands}
    described = {each["name"]: each for each in schema}

    assert {"stop", "cont", "quit", "x-device", "query-status"} <= names
    assert names <= {n for n, each in described.items() if each["meta-type"] == "command"}
    members = described[described["x-memory"]["arg-type"]]["members"]
    assert {"name": "hart", "type": "int", "default": None} in members
    assert described["STOP"]["meta-type"] == "event"


def test_breakpoint_stops_with_its_place(session):
    async def work(client):
        await client.execute("stop")
        loop = (await client.execute("x-harts"))[0]["pc"]
        point = await client.execute("x-breakpoint-add", {"place": hex(loop)})
        await client.execute("cont")
        await event(client, "RESUME")
        stop = await event(client, "STOP")
        await client.execute("x-breakpoint-remove", {"number": point["number"]})
        return loop, stop["data"], await client.execute("x-breakpoints")

    loop, stop, left = session(work)

    assert (stop["reason"], stop["pc"]) == ("breakpoint", loop)
    assert left == []


def test_step_executes_one_instruction(session):
    async def work(client):
        await client.execute("stop")
        registers = [await client.execute("x-hart-registers")]
        for _ in range(4):
            await client.execute("x-step")
            while (await client.execute("query-status"))["status"] != "paused":
                pass
            registers.append(await client.execute("x-hart-registers"))
        return registers

    registers = session(work)
    counts = [each["s5"] for each in registers]

    assert 1 <= counts[-1] - counts[0] <= 3
    assert all(a["pc"] != b["pc"] for a, b in pairwise(registers))


def test_events_of_the_machine_come_to_who_watches(session):
    async def work(client):
        await client.execute("x-watch-events", {"events": "mmio:uart0,interrupts"})
        await client.execute("x-type", {"text": "k"})
        seen = [await event(client, "X_TRACE") for _ in range(6)]
        await client.execute("x-watch-events", {"events": ""})
        return [each["data"]["text"] for each in seen]

    texts = session(work)

    assert texts[0] == "irq uart0 raised"
    assert any(text.startswith("ack plic.10 (uart0)") for text in texts)
    assert any(text.startswith("mmio uart0.THR <- 0x6b") for text in texts)


def test_console_is_followed(session):
    async def work(client):
        await client.execute("x-console", {"follow": True})
        await client.execute("x-type", {"text": "k"})
        return (await event(client, "X_CONSOLE"))["data"]

    assert session(work) == {"text": "k"}


def test_register_is_poked_and_shown_with_its_last_access(session):
    async def work(client):
        await client.execute("x-watch-events", {"events": "mmio:uart0.THR"})
        await client.execute("x-type", {"text": "k"})
        await event(client, "X_TRACE")
        await client.execute("stop")
        await client.execute("x-poke", {"register": "uart0.SCR", "value": 0x5A})
        found = await client.execute("x-device", {"device": "uart0"})
        peeked = await client.execute("x-peek", {"register": "uart0.SCR"})
        return {each["name"]: each for each in found}, peeked

    registers, peeked = session(work)

    assert registers["SCR"]["value"] == peeked["value"] == 0x5A
    assert registers["RBR"]["last"] == registers["RBR"]["last"] | {"value": 0x6B, "write": False}
    assert registers["IER"]["fields"]["ERBFI"] == 1


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("no-such", {}, "The command no-such has not been found"),
        ("stop", {"now": True}, "Parameter 'now' is unexpected"),
        ("x-memory", {"address": 0}, "Parameter 'size' is missing"),
        ("x-memory", {"address": "0", "size": 4}, "Invalid parameter type for 'address'"),
        ("x-memory", {"address": True, "size": 4}, "Invalid parameter type for 'address'"),
        ("x-memory", {"address": 0, "size": 4}, "4 bytes at 0x0 are not RAM"),
        ("x-memory", {"address": 0, "size": 1 << 40}, "cannot be read at once"),
        ("x-device", {"device": "uart9"}, "no device 'uart9'; there are finisher"),
        ("x-poke", {"register": "uart0.SCR", "value": 999}, "does not fit"),
        ("x-poke", {"register": "uart0", "value": 1}, "is not DEVICE.REGISTER"),
        ("x-hart-registers", {"hart": 7}, "no hart 7; there are 2"),
        ("x-step", {}, "stop it before you step"),
        ("x-step-back", {"hart": 7}, "no hart 7; there are 2"),
        ("x-step-back", {}, "no history is kept"),
        ("x-rewind", {"nanoseconds": -5}, "can only be taken back"),
        ("x-watch-events", {"events": "mimo"}, "did you mean 'mmio'?"),
        ("x-breakpoint-add", {"place": "nowhere"}, "no function of what was booted"),
        ("x-watchpoint-add", {"address": 0, "size": 8}, "are not RAM"),
        ("x-snapshot", {"file": "/nowhere/x"}, "/nowhere"),
        ("x-trace", {"events": "all", "file": "/nowhere/x.txt"}, "cannot be written"),
    ],
)
def test_wrong_command_is_an_error_and_the_session_goes_on(session, command, arguments, sentence):
    async def work(client):
        with pytest.raises(ExecuteError) as caught:
            await client.execute(command, arguments)
        return str(caught.value), await client.execute("query-status")

    said, status = session(work)

    assert sentence in said
    assert status["running"]


def test_two_clients_are_served_and_both_told(session, running):
    async def work(client):
        other = QMPClient("other")
        await other.connect(running.qmp.place.path)
        await other.execute("stop")
        told = await event(client, "STOP")
        await other.disconnect()
        return told

    assert session(work)["event"] == "STOP"

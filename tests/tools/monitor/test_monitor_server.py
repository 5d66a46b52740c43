"""The sockets: dialogues by hand, garbage, and clients that vanish."""

import errno
import json
import os
import random
import socket
import threading
import time

import pytest

from hypervisor.events import MmioAccess, Reset
from tools.errors import HostError
from tools.monitor import server as monitor_server
from tools.monitor.qmp import MOST_EVENTS
from tools.monitor.server import MonitorServer, Place, PlaceError

PROMPT = b"(hypervisor) "


def read_until(client, end):
    data = b""
    while not data.endswith(end):
        part = client.recv(4096)
        if not part:
            raise EOFError(data)
        data += part
    return data


def wait_until(condition):
    """For what happens on another thread; fails where it does not."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(client, line):
    """The answer to a line, without the prompt after it."""
    client.sendall(line.encode() + b"\n")
    return read_until(client, PROMPT).decode().removesuffix(PROMPT.decode())


@pytest.fixture
def monitor(running):
    client = running.connect(running.monitor)
    read_until(client, PROMPT)
    yield lambda line: ask(client, line)
    client.close()


@pytest.fixture
def qmp(running):
    client = running.connect(running.qmp)
    yield client
    client.close()


def receive(client):
    line = b""
    while not line.endswith(b"\r\n"):
        byte = client.recv(1)
        if not byte:
            raise EOFError(line)
        line += byte
    return json.loads(line)


def test_machine_is_stopped_looked_at_and_let_go_on(monitor):
    monitor("stop")

    assert monitor("info status").startswith("test-board (riscv64) is paused at ")
    assert monitor("cont") == ""
    assert " is running at " in monitor("info status")


def test_devices_are_a_table(monitor):
    lines = monitor("info devices").splitlines()

    assert lines[0].split() == ["DEVICE", "TYPE", "ADDRESS", "IRQ", "LEVEL", "READS", "WRITES"]
    assert lines[4].split()[:5] == ["uart0", "ns16550a", "0x10000000", "plic.10", "low"]


def test_interrupts_are_counted(monitor):
    monitor("type hello")
    line = next(line for line in monitor("info irq").splitlines() if "uart0" in line)

    assert line.split()[:2] == ["plic.10", "uart0"]
    assert int(line.split()[3]) >= 1
    assert line.split()[6:] == ["yes", "1"]


def test_registers_are_decoded(monitor):
    shown = monitor("device uart0")

    assert "0x0001  IER       0x1          ERBFI" in shown


def test_memory_and_code_are_shown(monitor):
    monitor("stop")

    assert monitor("xp/2xw 0x80000000").startswith("0000000080000000: ")
    assert monitor("x/2i $pc").startswith("=> 0x80")
    assert monitor("xp/1xg 0x10000000") == "8 bytes at 0x10000000 are not RAM\n"


def test_translation_without_paging_is_said(monitor):
    assert monitor("translate 0x80000000") == (
        "no translation in this mode\n0x80000000 -> 0x80000000 (RAM)\n"
    )


def test_every_view_answers(monitor):
    views = ("status", "devices", "harts", "registers", "mtree", "irq", "events", "virtqueues")
    for view in (*views, "gpu", "breakpoints", "traces"):
        assert "there is no" not in monitor(f"info {view}")
    assert "info WHAT" in monitor("help")


def test_poke_acts_as_a_guests_store(monitor, running):
    monitor("poke uart0.THR=0x21")

    assert running.machine.console.text.endswith("!")


def test_watchpoint_and_breakpoint_are_listed_and_removed(monitor):
    monitor("stop")

    assert monitor("break 0x80000000") == "breakpoint 1 at 0x80000000\n"
    assert monitor("watch 0x80000100 4 access").startswith("watchpoint 2 at")
    assert monitor("info breakpoints").count("\n") == 2
    assert monitor("delete 1") == monitor("delete 2") == ""
    assert monitor("delete 2") == "no breakpoint or watchpoint 2\n"


def test_trace_is_switched_on_and_off(monitor, running, tmp_path):
    to = tmp_path / "a.txt"

    assert monitor(f"trace mmio {to}") == f"tracing mmio to {to}\n"
    monitor("type x")
    wait_until(lambda: "x" in running.ask(lambda: running.machine.console.text))
    assert monitor("trace off") == "1 traces ended\n"
    assert "mmio uart0.THR <- 0x78" in to.read_text()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nonsense", "there is no command 'nonsense'"),
        ("info", "usage: info WHAT"),
        ("info nothing", "there is no `info nothing`"),
        ("info status now", "`info status` does not take 'now'"),
        ("x/8 0", "not RAM"),
        ("x/99999999x 0", "is no format"),
        ("x/0x 0", "is no format"),
        ("poke uart0.SCR", "usage: poke"),
        ("poke uart0.SCR=abc", "'abc' is not a number"),
        ("hart 9", "no hart 9"),
        ("device", "usage: device NAME"),
        ("x/4x $nope", "no register 'nope'"),
        ('device "uart0', "the line cannot be read"),
        ("trace mimo", "did you mean"),
        ("watch 0x80000000 8 sometimes", "none of read, write, access"),
        ("step", "stop it before you step"),
        ("break -1", "no address of 64 bits"),
    ],
)
def test_wrong_line_is_answered_with_a_sentence(monitor, line, sentence):
    assert sentence in monitor(line)


def test_greeting_comes_before_anything_else(qmp):
    greeting = receive(qmp)

    assert greeting["QMP"]["version"]["package"] == "hypervisor"
    assert set(greeting["QMP"]["version"]["qemu"]) == {"major", "minor", "micro"}


def test_nothing_works_before_negotiation(qmp):
    receive(qmp)
    qmp.sendall(b'{"execute": "stop", "id": 7}\r\n')

    answer = receive(qmp)

    assert answer["error"]["class"] == "CommandNotFound"
    assert "qmp_capabilities" in answer["error"]["desc"]
    assert answer["id"] == 7


def test_requests_in_one_packet_are_answered_in_order(qmp):
    receive(qmp)
    qmp.sendall(
        b'{"execute": "qmp_capabilities", "id": 1}{"execute": "query-name", "id": [2]}'
        b'{"execute": "stop", "arguments": [], "id": 3}\n'
    )

    answers = [receive(qmp) for _ in range(3)]

    assert [each["id"] for each in answers] == [1, [2], 3]
    assert answers[1]["return"] == {"name": "test-board"}
    assert "must be an object" in answers[2]["error"]["desc"]


def test_garbage_leaves_the_machine_as_it_is(running):
    """Fuzz: random bytes and broken requests at both sockets; a client afterwards is served."""
    noise = random.Random(5)
    pieces = (b'{"execute": "x-device', b'"arguments": {', b"}", b"\xff", b"\n", b"x/8x 0\n", b'"')
    for number in range(30):
        client = running.connect((running.qmp, running.monitor)[number % 2])
        data = b"".join(
            noise.choice(pieces) if noise.random() < 0.5 else noise.randbytes(noise.randrange(50))
            for _ in range(20)
        )
        client.sendall(data)
        client.close()

    client = running.connect(running.qmp)
    receive(client)
    client.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-status"}')
    answers = [receive(client), receive(client)]
    client.close()

    assert answers[1] == {"return": {"status": "running", "running": True}}


def test_client_that_vanishes_in_a_command_is_forgotten(running):
    for _ in range(5):
        client = running.connect(running.qmp)
        client.sendall(
            b'{"execute": "qmp_capabilities"}'
            b'{"execute": "x-watch-events", "arguments": {"events": "all"}}'
            b'{"execute": "x-keep-failed", "arguments": {"keep": true}}'
            b'{"execute": "x-console", "arguments": {"follow": true}}{"execute": "x-dev'
        )
        client.close()
    other = running.connect(running.monitor)
    read_until(other, PROMPT)
    ask(other, "info status")
    other.close()

    def attached():
        machine = running.machine
        return running.control.debuggers, len(machine.console.sinks), len(machine.live)

    wait_until(lambda: running.ask(attached) == (0, 0, 0))


def everything(client):
    """What comes until the server ends the connection."""
    data = b""
    while part := client.recv(1 << 16):
        data += part
    return data


def test_client_that_ends_its_input_gets_its_requests_done_and_answered(running, tmp_path):
    """As `printf ... | socat` is a client."""
    to = tmp_path / "one.snap"
    client = running.connect(running.qmp)
    snapshot = {"execute": "x-snapshot", "arguments": {"file": str(to)}, "id": 5}

    client.sendall(b'{"execute": "qmp_capabilities"}' + json.dumps(snapshot).encode())
    client.shutdown(socket.SHUT_WR)
    lines = everything(client).splitlines()
    client.close()

    assert json.loads(lines[-1]) == {"return": {}, "id": 5}
    assert to.exists()


def test_lines_of_a_pipe_are_done_and_answered(running, tmp_path):
    to = tmp_path / "one.snap"
    client = running.connect(running.monitor)

    client.sendall(b"stop\n" + b"info status\n" * 100 + f"snapshot {to}\n".encode())
    client.shutdown(socket.SHUT_WR)
    said = everything(client)
    client.close()

    assert said.count(b"is paused at") == 100
    assert said.endswith(PROMPT)
    assert to.exists()


@pytest.mark.parametrize("place", ["qmp", "monitor"])
def test_client_too_many_is_refused_with_a_sentence_until_one_leaves(place, running):
    server = getattr(running, place)
    clients = [running.connect(server) for _ in range(16)]
    greetings = [client.recv(1) for client in clients]

    late = running.connect(server)
    refusal = everything(late)
    late.close()
    clients.pop().close()
    wait_until(lambda: is_taken(running, server))
    for client in clients:
        client.close()

    assert all(greetings)
    assert b"has 16 clients, and that is all it takes" in refusal


def test_client_that_sends_no_more_and_does_not_read_leaves_its_place(running, monkeypatch):
    monkeypatch.setattr(monitor_server, "_STALLED", 0.1)
    server = running.monitor
    clients = [running.connect(server) for _ in range(16)]
    for client in clients:
        read_until(client, PROMPT)
    for connection in server._server.connections():
        connection.send(bytes(8 << 20))

    for client in clients:
        client.shutdown(socket.SHUT_WR)
    wait_until(lambda: is_taken(running, server))

    for client in clients:
        client.close()


def is_taken(running, server):
    client = running.connect(server)
    first = client.recv(4096)
    client.close()
    return b"16 clients" not in first


def test_server_that_cannot_open_files_waits_and_takes_the_client_then(
    bench, tmp_path, monkeypatch
):
    """At the limit of open files a client stays in the queue; looking again must not take all of
    the host's time."""
    refused = iter([OSError(errno.EMFILE, "too many open files")] * 3)
    accept, calls = socket.socket.accept, []

    def limited(listening):
        calls.append(time.monotonic())
        for error in refused:
            raise error
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", limited)
    client = bench.connect(bench.monitor)
    greeting = read_until(client, PROMPT)
    client.close()

    assert greeting == PROMPT
    assert len(calls) == 4
    assert calls[3] - calls[0] >= 0.29


def test_server_with_many_stalled_clients_closes_at_once(bench, tmp_path, monkeypatch):
    """They have a time together to take what was sent."""
    server = MonitorServer(bench.control, bench.actions, Place(path=str(tmp_path / "many")))
    clients = [bench.connect(server) for _ in range(16)]
    for client in clients:
        read_until(client, PROMPT)
    for connection in server._server.connections():
        connection.send(bytes(8 << 20))
    timeouts = []
    join = threading.Thread.join
    monkeypatch.setattr(
        threading.Thread,
        "join",
        lambda one, timeout=None: (timeouts.append(timeout), join(one, timeout)),
    )

    server.close()

    ended = [everything(client) for client in clients]
    assert all(len(each) < 8 << 20 for each in ended)
    writers = [each for each in timeouts if each is not None][:16]
    assert sum(writers) < 2


def test_client_that_does_not_read_is_dropped(running):
    client = running.connect(running.qmp)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(b'{"execute": "qmp_capabilities"}')
    request = b'{"execute": "query-qmp-schema"}'

    with pytest.raises(OSError, match=r"pipe|reset"):
        client.sendall(request * 20_000)
    client.close()

    assert running.ask(running.machine.clock.now) >= 0


def test_burst_of_events_reaches_a_client_that_reads(running, qmp):
    """As many as are sent in a second, before the client has read one."""
    receive(qmp)
    qmp.sendall(
        b'{"execute": "qmp_capabilities"}'
        b'{"execute": "x-watch-events", "arguments": {"events": "power"}}'
    )
    for _ in range(2):
        receive(qmp)
    machine = running.machine
    running.ask(lambda: [machine.events.publish(Reset(n)) for n in range(MOST_EVENTS + 5)])

    seen = [receive(qmp) for _ in range(2 * MOST_EVENTS + 5)]

    traced = [each["data"]["time"] for each in seen if each["event"] == "X_TRACE"]
    assert traced == list(range(MOST_EVENTS))


def test_sockets_of_clients_are_closed_when_they_leave(running):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for _ in range(5):
        client = running.connect(running.monitor)
        read_until(client, PROMPT)
        client.close()

    wait_until(lambda: open_files() <= before)


def test_nothing_is_noted_while_nobody_is_attached(running):
    machine = running.machine

    def followed():
        return running.ask(lambda: machine.events.wants(MmioAccess))

    alone = followed()
    client = running.connect(running.monitor)
    read_until(client, PROMPT)
    ask(client, "info status")
    attached = followed()
    client.close()

    assert (alone, attached) == (False, True)
    wait_until(lambda: not followed())


def test_socket_of_a_run_that_was_killed_is_taken_over(bench, tmp_path):
    path = str(tmp_path / "stale")
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(path)
    dead.close()

    server = MonitorServer(bench.control, bench.actions, Place(path=path))
    server.close()

    assert not (tmp_path / "stale").exists()


@pytest.mark.parametrize("name", ["mon", "no/such/folder"])
def test_place_that_is_taken_or_cannot_be_is_a_sentence(bench, tmp_path, name):
    with pytest.raises(HostError, match="cannot listen on unix:"):
        MonitorServer(bench.control, bench.actions, Place(path=str(tmp_path / name)))


@pytest.mark.parametrize("text", ["", "unix:", "tcp:localhost", "tcp:x:99999", "pipe:a", "stdin"])
def test_place_that_is_none_is_a_sentence(text):
    with pytest.raises(PlaceError, match="is not unix:PATH or tcp:HOST:PORT"):
        Place.parse(text)


def test_history_is_kept_from_when_it_is_asked_for(monitor):
    monitor("stop")

    assert monitor("history on") == "history is on\n"
    assert monitor("history").startswith("back to ")
    assert monitor("history off") == "history is off\n"
    assert "no history is kept" in monitor("history")


@pytest.mark.parametrize("hart", [0, 1])
def test_first_step_is_taken_back(hart, monitor, running):
    one = running.machine.cpu[hart]

    def place():
        return running.ask(lambda: (one.pc, one.executed))

    monitor("stop")
    monitor("history on")
    monitor(f"hart {hart}")
    before = place()
    monitor("step")
    wait_until(lambda: place() != before)

    said = monitor("step_back")

    assert said.startswith(f"hart {hart} is at {before[0]:#x}; it is ")
    assert place() == before


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("rewind 5ms", "no history is kept"),
        ("rewind soon", "is not a time"),
        ("back", "no history is kept"),
        ("history maybe", "usage: history"),
    ],
)
def test_way_back_that_is_not_there_is_said(monitor, line, sentence):
    assert sentence in monitor(line)

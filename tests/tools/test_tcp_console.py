"""The console on a TCP port, with a machine that is nothing but a console."""

import socket
import threading
from types import SimpleNamespace

import pytest

from hypervisor.console import Console
from tools.tcp_console import SHOWN, WAITING, TcpConsole


class Inbox:
    """Runs posts at once, and lets a test wait for them."""

    def __init__(self):
        self.posted = threading.Semaphore(0)

    def post(self, call):
        call()
        self.posted.release()


@pytest.fixture
def machine():
    machine = SimpleNamespace(inbox=Inbox(), live=set(), messages=[])
    machine.console = Console(lambda: None)
    machine.log = machine.messages.append
    return machine


@pytest.fixture
def console(machine):
    console = TcpConsole(machine, "127.0.0.1", 0)
    yield console
    console.close()


@pytest.fixture
def connect(console):
    clients = []

    def connect():
        client = socket.create_connection(("127.0.0.1", console.port), timeout=30)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def receive(client, count):
    data = b""
    while len(data) < count and (more := client.recv(count - len(data))):
        data += more
    return data


def test_port_is_said_and_the_machine_is_live(console, machine):
    assert machine.messages == [f"the console listens on 127.0.0.1:{console.port}"]
    assert machine.live == {"tcp-console"}


def test_client_gets_output_and_what_came_before_it(connect, machine):
    machine.console.write(b"early ")
    client = connect()
    early = receive(client, 6)

    machine.console.write(b"late")

    assert early == b"early "
    assert receive(client, 4) == b"late"


def test_client_types(connect, machine):
    connect().sendall(b"typed")

    assert machine.inbox.posted.acquire(timeout=30)
    assert machine.console.read(99) == b"typed"


def test_second_client_is_told_and_the_first_stays(connect, machine):
    machine.console.write(b"x")
    first = connect()
    receive(first, 1)

    second = connect()
    told = receive(second, 1000)
    machine.console.write(b"y")

    assert told == b"this console has a client already\r\n"
    assert receive(first, 1) == b"y"


def test_next_client_is_served_after_the_first_has_left(connect, machine):
    machine.console.write(b"x")
    first = connect()
    receive(first, 1)
    first.sendall(b"bye")
    assert machine.inbox.posted.acquire(timeout=30)

    first.close()
    answers = {receive(connect(), 1) for _ in range(20)}

    assert b"x" in answers


def test_slow_client_loses_the_oldest_and_the_machine_never_waits(connect, machine):
    machine.console.write(b"x")
    client = connect()
    receive(client, 1)

    for _ in range(64):
        machine.console.write(bytes(WAITING // 4))
    machine.console.write(b"the end")
    client.settimeout(30)
    seen = b""
    while not seen.endswith(b"the end"):
        seen += client.recv(1 << 20)

    assert len(seen) < 16 * WAITING


def test_earlier_output_is_bounded(connect, machine):
    machine.console.write(b"a" * SHOWN + b"b" * SHOWN)

    assert receive(connect(), SHOWN) == b"b" * SHOWN


def test_client_that_resets_the_connection_is_forgotten(connect, machine):
    machine.console.write(b"x")
    client = connect()
    receive(client, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    client.close()

    machine.console.write(b"y" * 100)
    answers = {receive(connect(), 2) for _ in range(20)}

    assert b"xy" in answers


def test_close_ends_the_client_and_frees_the_port(machine):
    console = TcpConsole(machine, "127.0.0.1", 0)
    client = socket.create_connection(("127.0.0.1", console.port), timeout=30)

    console.close()

    assert client.recv(1) == b""
    client.close()
    TcpConsole(machine, "127.0.0.1", console.port).close()


def test_output_after_close_goes_nowhere(machine):
    TcpConsole(machine, "127.0.0.1", 0).close()

    machine.console.write(b"unheard")

    assert machine.console.text == "unheard"

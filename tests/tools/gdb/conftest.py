"""A machine that a GDB server shows, run on a thread, and a client that speaks to it."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from hypervisor.machine import Machine
from tools.control import Control
from tools.gdb.packets import Decoder, encode
from tools.gdb.server import GdbServer

RAM = 0x8000_0000
DATA = 0x8008_0000

GUEST = f"""
    li s0, {DATA:#x}
    li s1, 7
1:  addi s1, s1, 1
    sd s1, (s0)
    ld s2, (s0)
    j 1b
"""

DESCRIPTION = """machine: test-board
cpu: {{arch: riscv64, harts: {harts}}}
memory:
  ram: {{at: 0x8000_0000, size: 1M}}
boot:
  firmware: guest.bin
devices:
  finisher: {{type: sifive.test, at: 0x0010_0000}}
"""


class Client:
    """Speaks the protocol, and checks what it is answered as far as packets go."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._decoder = Decoder()
        self._items: list[object] = []

    def send(self, contents: str | bytes) -> None:
        self.socket.sendall(encode(contents.encode() if isinstance(contents, str) else contents))

    def receive(self) -> str:
        while True:
            while self._items:
                item = self._items.pop(0)
                if isinstance(item, bytes):
                    self.socket.sendall(b"+")
                    return item.decode("latin-1")
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._items += self._decoder.feed(data)

    def ask(self, contents: str | bytes) -> str:
        self.send(contents)
        return self.receive()


class Bench:
    """Machine, control and server."""

    def __init__(self, machine: Machine, *, wait: bool = True) -> None:
        self.machine = machine
        self.over = False
        self.control = Control(machine, lambda: self.over)
        if wait:
            self.control.pause()
        self.server = GdbServer(self.control, "127.0.0.1", 0)
        self.control.on_end.append(self.server.ended)
        self.clients: list[Client] = []
        self.outcome = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.outcome = self.control.run(timeout=60)

    def connect(self) -> Client:
        client = Client(self.server.port)
        self.clients.append(client)
        return client

    def wait_for(self, condition) -> None:
        """Until another thread has made it true."""
        for _ in range(2000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("it does not come about")

    def finish(self) -> None:
        """The machine's thread has ended."""
        self._thread.join(60)

    def close(self) -> None:
        self.over = True
        self.machine.stop()
        self.finish()
        self.server.close()
        for client in self.clients:
            client.socket.close()
        self.machine.close()


@pytest.fixture
def bench_of(tmp_path, assemble):
    benches = []

    def build(source=GUEST, harts=1, **how):
        (tmp_path / "guest.bin").write_bytes(assemble(source))
        (tmp_path / "board.yaml").write_text(DESCRIPTION.format(harts=harts))
        bench = Bench(Machine.load(tmp_path / "board.yaml"), **how)
        benches.append(bench)
        return bench

    yield build
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(bench_of):
    return bench_of()


@pytest.fixture
def client(bench):
    return bench.connect()

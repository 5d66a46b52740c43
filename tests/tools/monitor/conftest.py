"""A small machine under control on a thread, with monitor and QMP servers at sockets."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from hypervisor.machine import Machine
from tools.control import Control
from tools.monitor.actions import Actions
from tools.monitor.server import MonitorServer, Place, QmpServer

GUEST = """
    la   t0, handler
    csrw mtvec, t0
    li   s0, 0x10000000
    li   s1, 0x0c000000
    li   t0, 1
    sw   t0, 40(s1)
    li   t1, 0x0c002000
    li   t0, 1 << 10
    sw   t0, 0(t1)
    li   t0, 1
    sb   t0, 1(s0)
    li   t0, 1 << 11
    csrw mie, t0
    csrsi mstatus, 8
    li   s5, 0
1:  addi s5, s5, 1
    j 1b
    .balign 4
handler:
    li   t4, 0x0c200004
    lw   t5, 0(t4)
    lb   t6, 0(s0)
    sb   t6, 0(s0)
    sw   t5, 0(t4)
    li   t3, 'q'
    bne  t6, t3, 2f
    li   a0, 0x5555
    li   a1, 0x100000
    sw   a0, 0(a1)
2:  mret
"""
LOOP = 0x8000_0000

DESCRIPTION = """machine: test-board
cpu: {arch: riscv64, harts: 2}
memory:
  ram: {at: 0x8000_0000, size: 1M}
boot:
  firmware: guest.bin
devices:
  finisher: {type: sifive.test, at: 0x0010_0000}
  clint: {type: riscv.clint, at: 0x0200_0000}
  plic: {type: riscv.plic, at: 0x0c00_0000}
  uart0: {type: ns16550a, at: 0x1000_0000, irq: plic.10, backend: stdio}
  rng0: {type: virtio.rng, at: 0x1000_1000, irq: plic.1}
"""


class Bench:
    """Machine, control and servers, from `start` to `close`."""

    def __init__(self, machine: Machine, folder) -> None:
        self.machine = machine
        self.over = False
        self.control = Control(machine, lambda: self.over)
        self.actions = Actions(self.control)
        self.qmp = QmpServer(self.control, self.actions, Place(path=str(folder / "qmp")))
        self.monitor = MonitorServer(self.control, self.actions, Place(path=str(folder / "mon")))
        self.outcome = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.outcome = self.control.run(timeout=300)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def ask(self, work):
        """The result of `work`, done on the machine's thread."""
        done, result = threading.Event(), []

        def run() -> None:
            result.append(work())
            done.set()

        self.control.post(run)
        assert done.wait(20)
        return result[0]

    def connect(self, server) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(200)
        client.connect(server.place.path)
        return client

    def close(self) -> None:
        self.over = True
        self.machine.stop()
        if self._thread.ident is not None:
            self.join()
        self.qmp.close()
        self.monitor.close()
        self.machine.close()


@pytest.fixture
def bench(tmp_path, assemble):
    (tmp_path / "guest.bin").write_bytes(assemble(GUEST))
    (tmp_path / "board.yaml").write_text(DESCRIPTION)
    one = Bench(Machine.load(tmp_path / "board.yaml"), tmp_path)
    yield one
    one.close()


@pytest.fixture
def running(bench):
    bench.start()
    deadline = time.monotonic() + 60
    while bench.ask(lambda: bench.machine.cpu[0].executed) < 1000:  # then it is in its loop
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return bench

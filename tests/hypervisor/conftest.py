"""Harts with a little RAM, and small whole machines that run an assembled guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hypervisor.bus import Bus
from hypervisor.cpu import selftest
from hypervisor.cpu.cells import NEVER
from hypervisor.cpu.riscv64 import Hart
from hypervisor.machine import Machine
from hypervisor.memory import Memory
from hypervisor.time.clock import VirtualClock

RAM = 0x8000_0000

DEVICES = """
  finisher: {type: sifive.test, at: 0x0010_0000}
  clint: {type: riscv.clint, at: 0x0200_0000}
  plic: {type: riscv.plic, at: 0x0c00_0000}
  uart0: {type: ns16550a, at: 0x1000_0000, irq: plic.10, backend: stdio}
"""


class Rig:
    """RAM and `harts` on one clock, as the machine would wire them."""

    def __init__(self, assemble: Callable[[str], bytes], harts: int = 1) -> None:
        self.assemble = assemble
        self.clock = VirtualClock(0)
        self.memory = Memory(RAM, 1 << 20)
        self.memory.on_write.append(self.clock.cell)
        self.messages: list[str] = []
        self.bus = Bus(self.clock.cell, self.messages.append)
        layout = selftest.verify()
        self.harts = [Hart(n, self.clock.cell, layout.exception_index) for n in range(harts)]
        for hart in self.harts:
            hart.map_ram(RAM, self.memory.size, self.memory.host_address)
            hart.reset(firmware=True)

    def connect(self) -> None:
        """Map the bus's windows."""
        for hart in self.harts:
            self.bus.connect(hart.engine)

    def load(self, source: str) -> Hart:
        """Assemble to the start of RAM and point the first hart at it, in M-mode."""
        self.memory.write(RAM, self.assemble(source))
        self.harts[0].begin(RAM)
        return self.harts[0]

    def run(self, source: str, limit: int = 50) -> Hart:
        """Load and run until WFI, at most `limit` stretches."""
        hart = self.load(source)
        for _ in range(limit):
            hart.take_interrupt_lines()
            self.clock.cell.deadline = NEVER
            hart.run()
            if hart.waiting:
                return hart
        raise AssertionError(f"no wfi; pc {hart.pc:#x}")

    def close(self) -> None:
        for hart in self.harts:
            hart.close()
        self.memory.close()


@pytest.fixture
def rig(assemble: Callable[[str], bytes]) -> Iterator[Rig]:
    one = Rig(assemble)
    yield one
    one.close()


@pytest.fixture
def two_harts(assemble: Callable[[str], bytes]) -> Iterator[Rig]:
    pair = Rig(assemble, harts=2)
    yield pair
    pair.close()


@pytest.fixture
def four_harts(assemble: Callable[[str], bytes]) -> Iterator[Rig]:
    four = Rig(assemble, harts=4)
    yield four
    four.close()


@dataclass
class Workshop:
    """Builds machines, and closes them at the end."""

    folder: Path
    assemble: Callable[[str], bytes]
    machines: list[Machine] = field(default_factory=list)

    def describe(
        self,
        source: str | bytes,
        *,
        harts: int = 1,
        mode: str = "firmware",
        boot: str = "",
        devices: str = "",
        ram: str = "1M",
        extra: str = "",
    ) -> Path:
        """Write the guest and its description; the description's path. `mode`: `firmware` runs
        the guest in M-mode on every hart, `kernel` in S-mode over the built-in firmware."""
        code = source if isinstance(source, bytes) else self.assemble(source)
        (self.folder / "guest.bin").write_bytes(code)
        path = self.folder / "board.yaml"
        path.write_text(
            f"machine: board\ncpu: {{arch: riscv64, harts: {harts}}}\n"
            f"memory: {{ram: {{at: 0x8000_0000, size: {ram}}}}}\n"
            f"boot: {{{mode}: guest.bin{boot}}}\n{extra}\ndevices:{DEVICES}{devices}"
        )
        return path

    def build(self, source: str | bytes, **how: object) -> Machine:
        """A machine that is about to run `source`."""
        machine = Machine.load(self.describe(source, **how))  # type: ignore[arg-type]
        self.machines.append(machine)
        return machine

    def close(self) -> None:
        for machine in self.machines:
            machine.close()


@pytest.fixture
def workshop(tmp_path: Path, assemble: Callable[[str], bytes]) -> Iterator[Workshop]:
    shop = Workshop(tmp_path, assemble)
    yield shop
    shop.close()

"""A hart with a little RAM and no devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hypervisor.cpu import selftest
from hypervisor.cpu.cells import NEVER
from hypervisor.cpu.riscv64 import Hart
from hypervisor.memory import Memory
from hypervisor.time.clock import VirtualClock

RAM = 0x8000_0000


class Rig:
    """RAM and `harts` on one clock, as the machine would wire them."""

    def __init__(self, assemble: Callable[[str], bytes], harts: int = 1) -> None:
        self.assemble = assemble
        self.clock = VirtualClock(0)
        self.memory = Memory(RAM, 1 << 20)
        self.memory.on_write.append(self.clock.cell)
        layout = selftest.verify()
        self.harts = [Hart(n, self.clock.cell, layout.exception_index) for n in range(harts)]
        for hart in self.harts:
            hart.map_ram(RAM, self.memory.size, self.memory.host_address)
            hart.reset(firmware=True)

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

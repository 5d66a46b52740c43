"""What a guest's access to a device model costs: a hart that does nothing else."""

from __future__ import annotations

import statistics
import struct
import time

from devices.serial.ns16550a import Ns16550a
from hypervisor.bus import Bus
from hypervisor.cpu import selftest
from hypervisor.cpu.cells import NEVER
from hypervisor.cpu.riscv64 import Hart
from hypervisor.device import Register
from hypervisor.device.testing import Bench
from hypervisor.memory import Memory
from hypervisor.time.clock import VirtualClock

ACCESSES = 100_000
_RAM, _UART = 0x8000_0000, 0x1000_0000
_LOAD, _STORE = 0x0005_4583, 0x00B5_0023  # lbu a1, 0(a0) and sb a1, 0(a0)
_REST = (0xFFF6_0613, 0xFE06_1CE3, 0x1050_0073)  # addi a2, a2, -1; bnez a2, .-8; wfi

ROWS: dict[str, tuple[Register, int]] = {
    "MMIO read of a plain register": (Ns16550a.SCR, _LOAD),
    "MMIO read of a register with a hook": (Ns16550a.LSR, _LOAD),
    "MMIO write of a plain register": (Ns16550a.SCR, _STORE),
    "MMIO write of a register with a hook": (Ns16550a.IER, _STORE),
}
"""Register and instruction of each measurement."""


def measure(runs: int) -> dict[str, float]:
    """Seconds an access, the median of `runs`, by row."""
    rig = _Rig()
    try:
        return {
            name: statistics.median(rig.seconds(*case) for _ in range(runs))
            for name, case in ROWS.items()
        }
    finally:
        rig.close()


class _Rig:
    """A hart, a little RAM, and one serial port on a bus."""

    def __init__(self) -> None:
        self._clock = VirtualClock(0)
        self._memory = Memory(_RAM, 1 << 20)
        self._hart = Hart(0, self._clock.cell, selftest.verify().exception_index)
        self._hart.map_ram(_RAM, self._memory.size, self._memory.host_address)
        self._hart.reset(firmware=True)
        bus = Bus(self._clock.cell, print)
        bus.add(Bench().build(Ns16550a, "uart0"), _UART, Ns16550a.address_size)
        bus.connect(self._hart.engine)

    def seconds(self, register: Register, instruction: int) -> float:
        hart = self._hart
        self._memory.write(_RAM, struct.pack("<4I", instruction, *_REST))
        hart.begin(_RAM, _UART + register.offset, 1, ACCESSES)
        self._clock.cell.deadline = NEVER
        begun = time.perf_counter()
        while not hart.waiting:
            hart.run()
        return (time.perf_counter() - begun) / ACCESSES

    def close(self) -> None:
        self._hart.close()
        self._memory.close()

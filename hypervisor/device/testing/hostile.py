"""A guest that does anything: random bytes become accesses, waiting, input and interrupt levels."""

from __future__ import annotations

from hypervisor.device.device import Device
from hypervisor.device.registers import registers_of
from hypervisor.device.testing.bench import Bench

RECORD = 8
"""Bytes that make one access: operation, offset (two), skew, value (four)."""

WIDTHS = (1, 2, 4, 8)


class HostileGuest:
    """Drives one device, and notes what is wrong with its answers."""

    def __init__(self, device: Device, bench: Bench) -> None:
        self.device = device
        self.bench = bench
        self.extent = device.size_for(device.options)
        self.table = list(registers_of(type(device)))
        self.wrong: list[str] = []
        self.answers: list[int] = []
        self.levels: dict[int, bool] = {}
        """Interrupt inputs that were driven."""

    def take_over(self, other: HostileGuest) -> None:
        """Give this bench the time, the waiting input and the input levels of another."""
        self.bench.console.type(other.bench.console.waiting)
        for number, level in other.levels.items():
            self.device.input(number).set(level)
        self.levels = dict(other.levels)

    def run(self, burst: bytes) -> None:
        """Do what the records of `burst` say."""
        for at in range(0, len(burst) - RECORD + 1, RECORD):
            self._step(burst[at : at + RECORD])

    def read(self, offset: int, size: int, value: int = 0) -> None:
        """A load, whose answer must fit its size."""
        answer = self.device.read(offset, size)
        self.answers.append(answer)
        if not 0 <= answer < 1 << 8 * size:
            self.wrong.append(f"{size}-byte read of {offset:#x} gave {answer:#x}")

    def _step(self, record: bytes) -> None:
        operation, skew = record[0], record[3]
        where = int.from_bytes(record[1:3], "little")
        value = int.from_bytes(record[4:8], "little")
        offset, size = where * self.extent >> 16, WIDTHS[operation >> 3 & 3]
        if skew & 1 and self.table:
            offset, natural = self._register(where, skew)
            size = natural if skew & 8 else size
        offset = min(offset + (skew >> 4 & skew >> 2 & 3), self.extent - 1)
        actions = (self.read, self.read, self._write, self._write, self._write_small)
        others = (self._type, self._wait, self._toggle)
        (actions + others)[operation & 7](offset, size, value | value << 32)

    def _register(self, where: int, skew: int) -> tuple[int, int]:
        """A register's offset and size. All are as likely, and so are an array's first four."""
        index, number = divmod(where, len(self.table))
        register = self.table[number]
        index %= register.count if skew & 2 else min(register.count, 4)
        return register.offset + index * register.stride, register.size

    def _write(self, offset: int, size: int, value: int) -> None:
        self.device.write(offset, size, value & (1 << 8 * size) - 1)

    def _write_small(self, offset: int, size: int, value: int) -> None:
        self.device.write(offset, size, value & 0x1F)

    def _type(self, offset: int, size: int, value: int) -> None:
        self.bench.console.type(value.to_bytes(8, "little"))

    def _wait(self, offset: int, size: int, value: int) -> None:
        self.bench.clock.advance(value & 0xFF_FFFF)
        self.bench.run_posted()

    def _toggle(self, offset: int, size: int, value: int) -> None:
        if self.device.interrupt_inputs:
            number = self.device.first_input + offset % 64
            self.levels[number] = not self.levels.get(number, False)
            self.device.input(number).set(self.levels[number])

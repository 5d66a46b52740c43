"""Small machines: an assembled guest, its description, and files in a directory of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hypervisor.machine import Machine

FINISHER, CLINT, UART = 0x10_0000, 0x200_0000, 0x1000_0000

DEVICES = """
  finisher: {type: sifive.test, at: 0x0010_0000}
  clint: {type: riscv.clint, at: 0x0200_0000}
  plic: {type: riscv.plic, at: 0x0c00_0000}
  uart0: {type: ns16550a, at: 0x1000_0000, irq: plic.10, backend: stdio}
"""

POWER_OFF = """
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
    j .
"""
"""Ends a guest's program; falls through nowhere."""


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

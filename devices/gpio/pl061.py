"""Arm PrimeCell GPIO (PL061), with push buttons on its lines.

Follows ARM DDI 0190B, chapters 2 and 3. Bit 2 + n of a data register's address admits line n.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from devices.primecell import Primecell
from hypervisor.device import Board, Node, Options, Ref, Register, Value
from hypervisor.device.registers import Access

LINES = 8
PRESS = 100_000_000
"""How long a button is held, ns: longer than any driver waits for contacts to settle."""
POWER_LINE = 3
_KEY_POWER = 116
_ACTIVE_HIGH = 0


def _register(offset: int, doc: str, access: Access = "rw") -> Register:
    """Eight lines, a bit each."""
    writable = 0xFF if access == "rw" else 0
    return Register(offset, access=access, writable=writable, fields={"LINES": (7, 0)}, doc=doc)


class Pl061Options(Options):
    power_button: bool = Field(default=True, description="a power button is on line 3")


class Pl061(Primecell):
    """Eight lines, in or out, that interrupt at edges or levels."""

    Options = Pl061Options
    type = "arm.pl061"
    summary = "Arm PrimeCell GPIO (PL061) with a power button"
    compatible = ("arm,pl061", "arm,primecell")
    peripheral_id = (0x61, 0x10, 0x04, 0x00)
    state = ("inputs", "outputs", "pressed")

    DATA = Register(
        0x000,
        writable=0,
        count=1 << LINES,
        fields={"LINES": (7, 0)},
        doc="levels of the lines that the address admits; those of outputs can be set",
    )
    DIR = _register(0x400, "1: output")
    IS = _register(0x404, "1: levels interrupt, 0: edges")
    IBE = _register(0x408, "1: both edges")
    IEV = _register(0x40C, "1: rising edge or high level")
    IE = _register(0x410, "interrupts that are let through")
    RIS = _register(0x414, "interrupts before the mask", access="ro")
    MIS = _register(0x418, "interrupts after the mask", access="ro")
    IC = _register(0x41C, "write 1 to end an edge's interrupt", access="wo")
    AFSEL = Register(
        0x420, writable=0xFF, tagged={"LINES": (7, 0)}, doc="1: the line is a peripheral's"
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.inputs = 0
        """Levels from outside, a bit a line."""
        self.outputs = 0
        self.pressed = 0
        """Lines whose button is held."""
        self.release = self.timer("release", self._release)

    def reset(self) -> None:
        super().reset()
        self.inputs &= ~self.pressed
        self.outputs = self.pressed = 0

    def node(self) -> Node:
        properties: dict[str, Value] = {
            "#gpio-cells": 2,
            "gpio-controller": True,
            "#address-cells": 0,
            "#interrupt-cells": 2,
            "interrupt-controller": True,
            **self.clock_properties("apb_pclk"),
        }
        return Node(f"gpio@{self.options.at or 0:x}", properties, [])

    def extra_nodes(self) -> list[Node]:
        nodes = super().extra_nodes()
        if self.options.power_button:
            key: dict[str, Value] = {
                "label": "power",
                "linux,code": _KEY_POWER,
                "gpios": [Ref(self.name), POWER_LINE, _ACTIVE_HIGH],
            }
            keys: dict[str, Value] = {"compatible": "gpio-keys"}
            nodes.append(Node(f"{self.name}-keys", keys, [Node("power", key)]))
        return nodes

    # -- lines --------------------------------------------------------------------------------

    @property
    def has_power_button(self) -> bool:
        return bool(self.options.power_button)

    def press_power_button(self) -> None:
        self.press()

    def press(self, button: str = "power") -> None:
        """Push a button and let go of it after 100 ms of virtual time."""
        if not self.options.power_button or button != "power":
            has = "only a button 'power'" if self.options.power_button else "no buttons"
            raise ValueError(f"{self.name} has {has}: there is no '{button}' to press")
        self.pressed |= 1 << POWER_LINE
        self.drive(POWER_LINE, True)
        self.release.arm(self.clock.now() + PRESS)

    def _release(self) -> None:
        for line in range(LINES):
            if self.pressed >> line & 1:
                self.drive(line, False)
        self.pressed = 0

    def drive(self, line: int, level: bool) -> None:
        """Set an input from outside."""
        before = self._levels
        self.inputs = self.inputs & ~(1 << line) | level << line
        self._levels_changed(before)

    @property
    def _levels(self) -> int:
        return self.outputs & self.DIR | self.inputs & ~self.DIR

    def _levels_changed(self, before: int) -> None:
        """Latch the edges that interrupt (section 3.2.5)."""
        changed = before ^ self._levels
        wanted = self.IBE | ~(self._levels ^ self.IEV)
        self.RIS |= changed & wanted & ~self.IS & 0xFF
        self._update()

    # -- registers ----------------------------------------------------------------------------

    @DATA.on_read
    def _read_data(self, admitted: int) -> int:
        return self._levels & admitted

    @DATA.on_write
    def _write_data(self, admitted: int, value: int) -> None:
        before = self._levels
        self.outputs = self.outputs & ~admitted | value & admitted
        self._levels_changed(before)

    @DIR.on_write
    def _direction_written(self, value: int) -> None:
        self._update()

    @IS.on_write
    @IBE.on_write
    @IEV.on_write
    @IE.on_write
    def _sense_written(self, value: int) -> None:
        self._update()

    @RIS.on_read
    def _raw(self) -> int:
        """Latched edges, and levels as they are."""
        return self.RIS & ~self.IS | ~(self._levels ^ self.IEV) & self.IS

    @MIS.on_read
    def _masked(self) -> int:
        return self._raw() & self.IE

    @IC.on_write
    def _clear(self, value: int) -> None:
        self.RIS &= ~value
        self._update()

    def _update(self) -> None:
        self.irq.set(bool(self._masked()))

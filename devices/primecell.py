"""What Arm's PrimeCell peripherals share: identification registers and a bus clock.

Linux's AMBA bus finds drivers by the identification (bindings arm/primecell.yaml).
"""

from __future__ import annotations

from typing import ClassVar

from hypervisor.device import Device, Node, Ref, Register, Value

CLOCK = "apb_pclk"
CLOCK_HERTZ = 24_000_000
_COMPONENT_ID = (0x0D, 0xF0, 0x05, 0xB1)


class Primecell(Device):
    """A peripheral with a part number, on the clock that all of a machine's have in common."""

    peripheral_id: ClassVar[tuple[int, int, int, int]]
    """Part number, designer and revision as PeriphID0 to 3 hold them."""

    ID = Register(
        0xFE0, access="ro", count=8, doc="PeriphID0 to 3, then PCellID0 to 3, a byte each"
    )

    @ID.on_read
    def _read_id(self, index: int) -> int:
        return (self.peripheral_id + _COMPONENT_ID)[index]

    def clock_properties(self, *names: str) -> dict[str, Value]:
        """The clocks a binding wants, all of them the one there is."""
        return {"clocks": [Ref(CLOCK)] * len(names), "clock-names": list(names)}

    def extra_nodes(self) -> list[Node]:
        """The clock. Every PrimeCell of a machine gives this same node."""
        properties: dict[str, Value] = {
            "compatible": "fixed-clock",
            "#clock-cells": 0,
            "clock-frequency": CLOCK_HERTZ,
            "clock-output-names": "clk24mhz",
        }
        return [Node("apb-pclk", properties, label=CLOCK)]

"""Arm PrimeCell real-time clock (PL031).

Follows ARM DDI 0224C, chapters 2 and 3: a counter of seconds since 1970 in 32 bits.
"""

from __future__ import annotations

from typing import Any

from devices.primecell import Primecell
from hypervisor.device import Board, Node, Register

_SECOND = 1_000_000_000
_MASK = 0xFFFF_FFFF


class Pl031(Primecell):
    """Time of day with one alarm. The guest may set it; the machine's own clock stays as it is."""

    type = "arm.pl031"
    summary = "Arm PrimeCell real-time clock (PL031)"
    compatible = ("arm,pl031", "arm,primecell")
    peripheral_id = (0x31, 0x10, 0x04, 0x00)
    state = ("offset", "waiting")

    DR = Register(0x00, access="ro", doc="the time, seconds since 1970")
    MR = Register(0x04, doc="match: the time that interrupts")
    LR = Register(0x08, doc="load: sets the time")
    CR = Register(
        0x0C,
        reset=1,
        writable=0,
        fields={"START": 0},
        doc="the clock runs, and once it does nothing stops it",
    )
    IMSC = Register(0x10, writable=1, fields={"MATCH": 0}, doc="interrupts that are let through")
    RIS = Register(0x14, access="ro", fields={"MATCH": 0}, doc="interrupts before the mask")
    MIS = Register(0x18, access="ro", fields={"MATCH": 0}, doc="interrupts after the mask")
    ICR = Register(
        0x1C, access="wo", writable=0, fields={"MATCH": 0}, doc="write 1 to end the interrupt"
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.offset = 0
        """What the guest's setting added to the machine's time, s."""
        self.waiting = False
        """MR was written and its time has not come."""
        self.match = self.timer("match", self._matched)

    def reset(self) -> None:
        super().reset()
        self.offset = 0
        self.waiting = False

    def node(self) -> Node:
        return Node(f"rtc@{self.options.at or 0:x}", self.clock_properties("apb_pclk"), [])

    @DR.on_read
    def time(self) -> int:
        """Guest's time of day, s since 1970, in 32 bits."""
        return (self._machine_time() // _SECOND + self.offset) & _MASK

    def _machine_time(self) -> int:
        return self.clock.epoch + self.clock.now()

    @MR.on_write
    def _match_written(self, value: int) -> None:
        self.waiting = True
        self._arm()

    @LR.on_write
    def _load_written(self, value: int) -> None:
        self.offset += value - self.time()
        self._arm()

    @IMSC.on_write
    def _mask_written(self, value: int) -> None:
        self._update()

    @MIS.on_read
    def _read_masked(self) -> int:
        return self.RIS & self.IMSC

    @ICR.on_write
    def _clear_interrupt(self, value: int) -> None:
        self.RIS &= ~value
        self._update()

    def _arm(self) -> None:
        """Only the very second matches: a time that has passed comes again after 136 years."""
        if not self.waiting:
            return
        wait = (self.MR - self.time()) & _MASK
        if wait:
            into_second = self._machine_time() % _SECOND
            self.match.arm(self.clock.now() - into_second + wait * _SECOND)
        else:
            self._matched()

    def _matched(self) -> None:
        self.match.cancel()
        self.waiting = False
        self.RIS = 1
        self._update()

    def _update(self) -> None:
        self.irq.set(bool(self.RIS & self.IMSC))

"""One hart's CPU interface of a GICv2: what it lets through, and what runs on the hart.

Follows ARM IHI 0048B.b, sections 3.3 (priorities, preemption) and 4.4 (registers). Priorities
have the five upper bits of a byte, 0 is the most urgent. Group 0 is False, group 1 is True.
"""

from __future__ import annotations

from dataclasses import dataclass

PRIORITY_BITS = 0xF8
IDLE_PRIORITY = 0xFF
SMALLEST_BPR, SMALLEST_ABPR = 2, 3
"""With these, all five bits take part in preemption."""

_ACK_CTL, _FIQ_EN, _CBPR, _EOI_MODE = 0x4, 0x8, 0x10, 0x200


@dataclass
class CpuInterface:
    """Registers of which every hart has its own. All fields are 32-bit values."""

    ctlr: int = 0
    pmr: int = 0
    bpr: int = SMALLEST_BPR
    abpr: int = SMALLEST_ABPR
    apr: int = 0
    """Bit n: an interrupt of group 0 and group priority 8n was acknowledged and not yet ended."""
    nsapr: int = 0
    """The same for group 1."""

    def signals_fiq(self, group: bool) -> bool:
        return not group and bool(self.ctlr & _FIQ_EN)

    @property
    def acknowledges_all(self) -> bool:
        """IAR also acknowledges group 1."""
        return bool(self.ctlr & _ACK_CTL)

    @property
    def splits_eoi(self) -> bool:
        """EOIR drops the priority only, DIR deactivates."""
        return bool(self.ctlr & _EOI_MODE)

    @property
    def running_priority(self) -> int:
        """The group priority of what runs now."""
        active = self.apr | self.nsapr
        return ((active & -active).bit_length() - 1) * 8 if active else IDLE_PRIORITY

    def group_priority(self, priority: int, group: bool) -> int:
        """The part of a priority that decides on preemption (section 3.3.3)."""
        shift = self.abpr if group and not self.ctlr & _CBPR else self.bpr + 1
        return priority >> shift << shift

    def admits(self, priority: int, group: bool) -> bool:
        """An interrupt of this priority would interrupt the hart."""
        urgent = self.group_priority(priority, group) < self.running_priority
        return priority < self.pmr and urgent

    def begin(self, priority: int, group: bool) -> None:
        """An interrupt was acknowledged."""
        bit = 1 << (self.group_priority(priority, group) >> 3)
        if group:
            self.nsapr |= bit
        else:
            self.apr |= bit

    def drop_priority(self) -> None:
        """What runs now ended: what it had interrupted runs on."""
        active = self.apr | self.nsapr
        lowest = active & -active
        if self.apr & lowest:
            self.apr ^= lowest
        else:
            self.nsapr ^= lowest

"""Arm Generic Interrupt Controller, version 3.

Follows ARM IHI 0069 for one security state, with affinity routing and without LPIs: both interrupt
groups, up to 8 harts, 32 priorities. The distributor is at the base, hart n's redistributor
`REDISTRIBUTORS` + n * `FRAMES` above; the CPU interface is system registers (ICC_*_EL1). The frame
of a redistributor that has private interrupts is laid out as the distributor's first registers, and
reaches those by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from devices.interrupt.gic import NO_INTERRUPT, Gic
from devices.interrupt.gic_distributor import LAST_NUMBER, MAX_HARTS, number_of, source_of
from devices.interrupt.gic_interface import (
    PRIORITY_BITS,
    SMALLEST_ABPR,
    SMALLEST_BPR,
    CpuInterface,
)
from hypervisor.device import Board, Node, Register, SystemRegisters
from hypervisor.device.tree import u64

REDISTRIBUTORS, FRAMES, FRAME = 0xA_0000, 0x2_0000, 0x1_0000
_ARCHITECTURE_3 = 0x3B
_ID_BITS, _NO_1_OF_N = 9 << 19, 1 << 25
_ARE, _DS = 1 << 4, 1 << 6
_GROUPS = 3
_PRIVATE_WORDS, _PRIVATE_PRIORITIES, _PRIVATE_CONFIGURATION = (
    range(0x80, 0x400, 0x80),
    range(0x400, 0x420),
    range(0xC00, 0xC08),
)
_PROCESSOR_SLEEP, _CHILDREN_ASLEEP = 1 << 1, 1 << 2
_LAST = 1 << 4
_SPI, _PPI, _LEVEL_HIGH = 0, 1, 4

_FIQ_EN, _CBPR, _EOI_MODE = 0x8, 0x10, 0x200
"""Bits of `CpuInterface.ctlr`; there is no other way to signal group 0 here."""
_PRIORITY_BITS_5 = 4 << 8
_BY_INSTRUCTION = 7
"""ICC_SRE_EL1: system registers, and no bypass."""
_TO_ALL_OTHERS = 1 << 40
_OTHER_CLUSTERS = 0xFF << 48 | 0xFF << 32 | 0xFF << 16


class Gicv3(Gic):
    """Shared inputs 32 to `sources`, 16 private inputs and 16 software interrupts a hart.

    `irq: gic.33` is the input with interrupt ID 33, the device tree's `<0 1 4>`. Two things of
    software interrupts are fixed: they are edge-triggered, and pend by ICC_SGI1R_EL1 and
    ICC_SGI0R_EL1 alone.
    """

    type = "arm.gicv3"
    summary = "Arm generic interrupt controller, version 3"
    compatible = ("arm,gic-v3",)
    address_size = REDISTRIBUTORS + MAX_HARTS * FRAMES
    fixed_software_interrupts = False

    GICD_CTLR = Register(
        0x0000,
        writable=_GROUPS,
        reset=_ARE | _DS,
        fields={"EnableGrp0": 0, "EnableGrp1": 1, "ARE": 4, "DS": 6},
        doc="groups that are forwarded to the CPU interfaces",
    )
    GICD_TYPER = Register(
        0x0004,
        access="ro",
        fields={"ITLinesNumber": (4, 0), "IDbits": (23, 19), "No1N": 25},
        doc="number of interrupts",
    )
    GICD_IIDR = Register(0x0008, access="ro", reset=0x43B, doc="implementer: Arm")
    GICD_TYPER2 = Register(0x000C, access="ro", doc="nothing of version 4")
    GICD_IGRPMODR = Register(0x0D00, writable=0, count=32, doc="zero: there are two groups")
    GICD_IROUTER = Register(
        0x6100,
        size=8,
        writable=0,
        count=LAST_NUMBER - 31,
        fields={"Aff0": (7, 0)},
        doc="the hart of each shared interrupt",
    )
    GICD_PIDR2 = Register(0xFFE8, access="ro", reset=_ARCHITECTURE_3, doc="version 3")
    GICR_CTLR = Register(
        REDISTRIBUTORS, writable=0, count=MAX_HARTS, stride=FRAMES, doc="zero: there are no LPIs"
    )
    GICR_IIDR = Register(
        REDISTRIBUTORS + 0x4,
        access="ro",
        reset=0x43B,
        count=MAX_HARTS,
        stride=FRAMES,
        doc="implementer: Arm",
    )
    GICR_TYPER = Register(
        REDISTRIBUTORS + 0x8,
        size=8,
        access="ro",
        count=MAX_HARTS,
        stride=FRAMES,
        fields={"Last": 4, "Processor_Number": (23, 8), "Affinity_Value": (63, 32)},
        doc="whose redistributor it is, and whether it is the last",
    )
    GICR_WAKER = Register(
        REDISTRIBUTORS + 0x14,
        reset=_PROCESSOR_SLEEP | _CHILDREN_ASLEEP,
        writable=_PROCESSOR_SLEEP,
        count=MAX_HARTS,
        stride=FRAMES,
        fields={"ProcessorSleep": 1, "ChildrenAsleep": 2},
        doc="1: the hart takes no interrupts",
    )
    GICR_PIDR2 = Register(
        REDISTRIBUTORS + 0xFFE8,
        access="ro",
        reset=_ARCHITECTURE_3,
        count=MAX_HARTS,
        stride=FRAMES,
        doc="version 3",
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self._accessed: int | None = None
        """The hart whose redistributor is being accessed."""

    def new_interface(self) -> CpuInterface:
        return CpuInterface(ctlr=_FIQ_EN)

    def interrupt_cells(self, number: int) -> list[int]:
        if number >= self.first_input:
            return [_SPI, number - 32, _LEVEL_HIGH]
        return [_PPI, number - 16, _LEVEL_HIGH]

    def node(self) -> Node:
        base = self.options.at or 0
        size = len(self.board.harts) * FRAMES
        properties: dict[str, Any] = {
            "#address-cells": 0,
            "#interrupt-cells": 3,
            "interrupt-controller": True,
            "reg": u64(base, FRAME, base + REDISTRIBUTORS, size),
        }
        return Node(f"interrupt-controller@{base:x}", properties, [])

    @property
    def groups_enabled(self) -> int:
        return self.GICD_CTLR & _GROUPS

    # -- distributor and redistributors -------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        return self._redirected(offset, lambda inner: super(Gicv3, self).read(inner, size))

    def write(self, offset: int, size: int, value: int) -> None:
        def store(inner: int) -> int:
            super(Gicv3, self).write(inner, size, value)
            return 0

        self._redirected(offset, store)

    def _redirected(self, offset: int, access: Callable[[int], int]) -> int:
        """Private interrupts are reached by the second frame of a redistributor, and only there."""
        hart, inner = divmod(offset - REDISTRIBUTORS, FRAMES)
        if offset < REDISTRIBUTORS:
            return 0 if _is_private(offset) else access(offset)
        if inner < FRAME:
            return access(offset)
        if hart >= self.distributor.harts or not _is_private(inner - FRAME):
            return access(offset)
        self._accessed = hart
        try:
            return access(inner - FRAME)
        finally:
            self._accessed = None

    def _bank(self) -> int:
        return super()._bank() if self._accessed is None else self._accessed

    @GICD_CTLR.on_write
    def _distributor_control_written(self, value: int) -> None:
        self._update()

    @GICD_TYPER.on_read
    def _read_typer(self) -> int:
        return int(self.options.sources) >> 5 | _ID_BITS | _NO_1_OF_N

    @GICD_IROUTER.on_read
    def _read_route(self, index: int) -> int:
        targets = self.distributor.targets(source_of(index + 32, 0))
        return targets.bit_length() - 1 if targets else 0

    @GICD_IROUTER.on_write
    def _route(self, index: int, value: int) -> None:
        """Affinities that no hart has are nobody's."""
        targets = 1 << (value & 0xFF) if value & ~0xFF & 0xFF_80FF_FFFF == 0 else 0
        self.distributor.set_targets(source_of(index + 32, 0), targets)
        self._update()

    @GICR_TYPER.on_read
    def _read_redistributor_type(self, hart: int) -> int:
        last = _LAST if hart == self.distributor.harts - 1 else 0
        return hart << 32 | hart << 8 | last

    @GICR_WAKER.on_write
    def _wake(self, hart: int, value: int) -> None:
        asleep = value & _PROCESSOR_SLEEP
        self.values["GICR_WAKER"][hart] = asleep | (_CHILDREN_ASLEEP if asleep else 0)

    # -- CPU interface ------------------------------------------------------------------------

    def system_registers(self) -> SystemRegisters:
        return {
            (3, 0, 4, 6, 0): (self._read_mask, self._write_mask),  # ICC_PMR_EL1
            (3, 0, 12, 8, 0): (lambda: self._acknowledge(False), None),  # IAR0
            (3, 0, 12, 8, 1): (None, self._ended),  # EOIR0
            (3, 0, 12, 8, 2): (lambda: self._pending(False), None),  # HPPIR0
            (3, 0, 12, 8, 3): (lambda: self._interface.bpr, self._write_bpr),  # BPR0
            (3, 0, 12, 8, 4): (lambda: self._interface.apr, self._write_apr),  # AP0R0
            (3, 0, 12, 9, 0): (lambda: self._interface.nsapr, self._write_nsapr),  # AP1R0
            (3, 0, 12, 11, 1): (None, self._deactivated),  # DIR
            (3, 0, 12, 11, 3): (lambda: self._interface.running_priority, None),  # RPR
            (3, 0, 12, 11, 5): (None, self._send),  # SGI1R
            (3, 0, 12, 11, 6): (None, self._send),  # ASGI1R
            (3, 0, 12, 11, 7): (None, self._send),  # SGI0R
            (3, 0, 12, 12, 0): (lambda: self._acknowledge(True), None),  # IAR1
            (3, 0, 12, 12, 1): (None, self._ended),  # EOIR1
            (3, 0, 12, 12, 2): (lambda: self._pending(True), None),  # HPPIR1
            (3, 0, 12, 12, 3): (self._read_abpr, self._write_abpr),  # BPR1
            (3, 0, 12, 12, 4): (self._read_control, self._write_control),  # CTLR
            (3, 0, 12, 12, 5): (lambda: _BY_INSTRUCTION, lambda value: None),  # SRE
            (3, 0, 12, 12, 6): (partial(self._lets, 0), partial(self._let, 0)),  # IGRPEN0
            (3, 0, 12, 12, 7): (partial(self._lets, 1), partial(self._let, 1)),  # IGRPEN1
        }

    @property
    def _interface(self) -> CpuInterface:
        return self.interfaces[self.board.current_hart()]

    def _read_mask(self) -> int:
        return self._interface.pmr

    def _write_mask(self, value: int) -> None:
        self._interface.pmr = value & PRIORITY_BITS
        self._update()

    def _write_bpr(self, value: int) -> None:
        self._interface.bpr = max(value & 7, SMALLEST_BPR)
        self._update()

    def _read_abpr(self) -> int:
        interface = self._interface
        return min(interface.bpr + 1, 7) if interface.ctlr & _CBPR else interface.abpr

    def _write_abpr(self, value: int) -> None:
        if not self._interface.ctlr & _CBPR:
            self._interface.abpr = max(value & 7, SMALLEST_ABPR)
            self._update()

    def _write_apr(self, value: int) -> None:
        self._interface.apr = value & 0xFFFF_FFFF
        self._update()

    def _write_nsapr(self, value: int) -> None:
        self._interface.nsapr = value & 0xFFFF_FFFF
        self._update()

    def _read_control(self) -> int:
        ctlr = self._interface.ctlr
        return _PRIORITY_BITS_5 | bool(ctlr & _EOI_MODE) << 1 | bool(ctlr & _CBPR)

    def _write_control(self, value: int) -> None:
        interface = self._interface
        interface.ctlr &= ~(_CBPR | _EOI_MODE)
        interface.ctlr |= (_CBPR if value & 1 else 0) | (_EOI_MODE if value & 2 else 0)
        self._update()

    def _lets(self, group: int) -> int:
        """Whether the hart takes interrupts of this group."""
        return self._interface.ctlr >> group & 1

    def _let(self, group: int, value: int) -> None:
        interface = self._interface
        interface.ctlr = interface.ctlr & ~(1 << group) | (value & 1) << group
        self._update()

    def _pending(self, group: bool) -> int:
        """Whatever the mask and the running priority are."""
        source = self._most_urgent(self.board.current_hart())
        if source is None or self._group(source) != group:
            return NO_INTERRUPT
        return number_of(source)

    def _acknowledge(self, group: bool) -> int:
        source = self._signalled(self.board.current_hart())
        if source is None or self._group(source) != group:
            return NO_INTERRUPT
        return self._take(source, number_of(source))

    def _ended(self, value: int) -> None:
        self._end(self.board.current_hart(), value & 0xFF_FFFF)

    def _deactivated(self, value: int) -> None:
        self._deactivate_one(self.board.current_hart(), value & 0xFF_FFFF)

    def _send(self, value: int) -> None:
        """A software interrupt, to a list of this cluster's harts or to all others."""
        harts = (1 << self.distributor.harts) - 1
        if value & _TO_ALL_OTHERS:
            to = harts & ~(1 << self.board.current_hart())
        else:
            to = 0 if value & _OTHER_CLUSTERS else value & 0xFFFF & harts
        for hart in range(self.distributor.harts):
            if to >> hart & 1:
                self.distributor.set_senders(source_of(value >> 24 & 0xF, hart), 1)
        self._update()


def _is_private(offset: int) -> bool:
    """A register of the distributor's that is about interrupts 0 to 31."""
    word = offset & ~3
    return (
        word in _PRIVATE_WORDS
        or word in _PRIVATE_CONFIGURATION
        or offset in _PRIVATE_PRIORITIES
        or word == 0xD00
    )

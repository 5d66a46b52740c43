"""Arm Generic Interrupt Controller, version 2.

Follows ARM IHI 0048B.b, without the Security Extensions and without virtualization: both
interrupt groups, up to 8 harts, 32 priorities. Identifies itself as ARM's GIC-400 (DDI 0471B).
The distributor is at the base, the CPU interface 0x1_0000 above.
Names and section numbers are the specification's; its "processor" is a hart here.
"""

from __future__ import annotations

from typing import Any

from devices.interrupt.gic import NO_INTERRUPT, Gic
from devices.interrupt.gic_distributor import LAST_NUMBER, number_of, source_of
from devices.interrupt.gic_interface import (
    PRIORITY_BITS,
    SMALLEST_ABPR,
    SMALLEST_BPR,
    CpuInterface,
)
from hypervisor.device import Node, Register
from hypervisor.device.registers import Access, Bits
from hypervisor.device.tree import u64

CPU_INTERFACE = 0x1_0000
OTHER_GROUP = 1022
_SPI, _PPI = 0, 1
_LEVEL_HIGH = 4
_PERIPHERAL_ID = (4, 0, 0, 0, 0x90, 0xB4, 0x2B, 0, 0x0D, 0xF0, 0x05, 0xB1)
_ID: dict[str, Bits] = {"INTERRUPT_ID": (9, 0), "CPUID": (12, 10)}


def _cpu(
    offset: int,
    doc: str,
    fields: dict[str, Bits] | None = None,
    access: Access = "rw",
    count: int = 1,
) -> Register:
    """A register of the CPU interface; hooks reach the accessing hart's own."""
    return Register(
        CPU_INTERFACE + offset, access=access, writable=0, fields=fields, count=count, doc=doc
    )


class Gicv2(Gic):
    """Shared inputs 32 to `sources`, 16 private inputs and 16 software interrupts a hart.

    `irq: gic.33` is the input with interrupt ID 33, the device tree's `<0 1 4>`.
    """

    type = "arm.gicv2"
    summary = "Arm generic interrupt controller, version 2"
    compatible = ("arm,gic-400", "arm,cortex-a15-gic")
    address_size = 2 * CPU_INTERFACE

    GICD_CTLR = Register(
        0x000,
        writable=0x3,
        fields={"EnableGrp0": 0, "EnableGrp1": 1},
        doc="groups that are forwarded to the CPU interfaces",
    )
    GICD_TYPER = Register(
        0x004,
        access="ro",
        fields={
            "ITLinesNumber": (4, 0),
            "CPUNumber": (7, 5),
            "SecurityExtn": 10,
            "LSPI": (15, 11),
        },
        doc="number of interrupts and harts",
    )
    GICD_IIDR = Register(0x008, access="ro", reset=0x0200_143B, doc="implementer: GIC-400")
    GICD_ITARGETSR = Register(
        0x800,
        size=1,
        writable=0,
        count=LAST_NUMBER + 1,
        doc="set of harts of each interrupt; fixed below 32",
    )
    GICD_SGIR = Register(
        0xF00,
        access="wo",
        writable=0,
        fields={"SGIINTID": (3, 0), "NSATT": 15, "CPUTargetList": (23, 16), "Filter": (25, 24)},
        doc="sends a software interrupt; Filter 0: to the list, 1: to all others, 2: to oneself",
    )
    GICD_CPENDSGIR = Register(
        0xF10, size=1, writable=0, count=16, doc="senders of each pending SGI; write 1 to clear"
    )
    GICD_SPENDSGIR = Register(
        0xF20, size=1, writable=0, count=16, doc="senders of each pending SGI; write 1 to set"
    )
    GICD_PIDR = Register(
        0xFD0, access="ro", count=len(_PERIPHERAL_ID), doc="peripheral and component identification"
    )

    GICC_CTLR = _cpu(
        0x00,
        "CPU interface control",
        {
            "EnableGrp0": 0,
            "EnableGrp1": 1,
            "AckCtl": 2,
            "FIQEn": 3,
            "CBPR": 4,
            "BypassDisable": (8, 5),
            "EOImode": 9,
        },
    )
    GICC_PMR = _cpu(0x04, "only priorities below this interrupt", {"Priority": (7, 3)})
    GICC_BPR = _cpu(0x08, "which bits of group 0's priorities preempt", {"BinaryPoint": (2, 0)})
    GICC_IAR = _cpu(0x0C, "acknowledge", _ID, "ro")
    GICC_EOIR = _cpu(0x10, "end of interrupt", _ID, "wo")
    GICC_RPR = _cpu(0x14, "running priority", {"Priority": (7, 0)}, "ro")
    GICC_HPPIR = _cpu(0x18, "most urgent pending interrupt", _ID, "ro")
    GICC_ABPR = _cpu(0x1C, "the same as BPR for group 1", {"BinaryPoint": (2, 0)})
    GICC_AIAR = _cpu(0x20, "acknowledge group 1", _ID, "ro")
    GICC_AEOIR = _cpu(0x24, "end of an interrupt of group 1", _ID, "wo")
    GICC_AHPPIR = _cpu(0x28, "most urgent pending interrupt of group 1", _ID, "ro")
    GICC_APR = _cpu(0xD0, "active priorities of group 0", count=4)
    GICC_NSAPR = _cpu(0xE0, "active priorities of group 1", count=4)
    GICC_IIDR = Register(
        CPU_INTERFACE + 0xFC, access="ro", reset=0x0202_043B, doc="implementer: GIC-400"
    )
    GICC_DIR = _cpu(0x1000, "deactivate", _ID, "wo")

    def interrupt_cells(self, number: int) -> list[int]:
        if number >= self.first_input:
            return [_SPI, number - 32, _LEVEL_HIGH]
        return [_PPI, number - 16, (1 << len(self.board.harts)) - 1 << 8 | _LEVEL_HIGH]

    def node(self) -> Node:
        base = self.options.at or 0
        properties: dict[str, Any] = {
            "#address-cells": 0,
            "#interrupt-cells": 3,
            "interrupt-controller": True,
            "reg": u64(base, 0x1000, base + CPU_INTERFACE, 0x2000),
        }
        return Node(f"interrupt-controller@{base:x}", properties, [])

    # -- CPU interface ------------------------------------------------------------------------

    @property
    def _interface(self) -> CpuInterface:
        return self.interfaces[self.board.current_hart()]

    @GICC_CTLR.on_read
    def _read_control(self) -> int:
        return self._interface.ctlr

    @GICC_CTLR.on_write
    def _write_control(self, value: int) -> None:
        self._interface.ctlr = value & 0x3FF
        self._update()

    @GICC_PMR.on_read
    def _read_mask(self) -> int:
        return self._interface.pmr

    @GICC_PMR.on_write
    def _write_mask(self, value: int) -> None:
        self._interface.pmr = value & PRIORITY_BITS
        self._update()

    @GICC_BPR.on_read
    def _read_bpr(self) -> int:
        return self._interface.bpr

    @GICC_BPR.on_write
    def _write_bpr(self, value: int) -> None:
        self._interface.bpr = max(value & 7, SMALLEST_BPR)
        self._update()

    @GICC_ABPR.on_read
    def _read_abpr(self) -> int:
        return self._interface.abpr

    @GICC_ABPR.on_write
    def _write_abpr(self, value: int) -> None:
        self._interface.abpr = max(value & 7, SMALLEST_ABPR)
        self._update()

    @GICC_RPR.on_read
    def _read_running(self) -> int:
        return self._interface.running_priority

    @GICC_APR.on_read
    def _read_apr(self, index: int) -> int:
        return 0 if index else self._interface.apr

    @GICC_APR.on_write
    def _write_apr(self, index: int, value: int) -> None:
        if index == 0:
            self._interface.apr = value
            self._update()

    @GICC_NSAPR.on_read
    def _read_nsapr(self, index: int) -> int:
        return 0 if index else self._interface.nsapr

    @GICC_NSAPR.on_write
    def _write_nsapr(self, index: int, value: int) -> None:
        if index == 0:
            self._interface.nsapr = value
            self._update()

    @GICC_HPPIR.on_read
    def _read_most_urgent(self) -> int:
        """Whatever the mask and the running priority are."""
        return self._identify(self._most_urgent(self.board.current_hart()))

    @GICC_AHPPIR.on_read
    def _read_most_urgent_of_group1(self) -> int:
        source = self._most_urgent(self.board.current_hart())
        return self._name(source) if source is not None and self._group(source) else NO_INTERRUPT

    @GICC_IAR.on_read
    def _acknowledge(self) -> int:
        source = self._signalled(self.board.current_hart())
        name = self._identify(source)
        return name if source is None or name == OTHER_GROUP else self._take(source, name)

    @GICC_AIAR.on_read
    def _acknowledge_group1(self) -> int:
        source = self._signalled(self.board.current_hart())
        if source is None or not self._group(source):
            return NO_INTERRUPT
        return self._take(source, self._name(source))

    def _identify(self, source: int | None) -> int:
        """What the registers of group 0 say of a source."""
        if source is None:
            return NO_INTERRUPT
        if self._group(source) and not self._interface.acknowledges_all:
            return OTHER_GROUP
        return self._name(source)

    def _name(self, source: int) -> int:
        return self.distributor.sender_of(source) << 10 | number_of(source)

    @GICC_EOIR.on_write
    @GICC_AEOIR.on_write
    def _ended(self, value: int) -> None:
        self._end(self.board.current_hart(), value & 0x3FF)

    @GICC_DIR.on_write
    def _deactivated(self, value: int) -> None:
        self._deactivate_one(self.board.current_hart(), value & 0x3FF)

    # -- distributor --------------------------------------------------------------------------

    @property
    def groups_enabled(self) -> int:
        return self.GICD_CTLR

    @GICD_CTLR.on_write
    def _distributor_control_written(self, value: int) -> None:
        self._update()

    @GICD_TYPER.on_read
    def _read_typer(self) -> int:
        return self.distributor.harts - 1 << 5 | int(self.options.sources) >> 5

    @GICD_PIDR.on_read
    def _read_peripheral_id(self, index: int) -> int:
        return _PERIPHERAL_ID[index]

    @GICD_ITARGETSR.on_read
    def _read_targets(self, number: int) -> int:
        """A lone hart reads zero (section 4.3.12)."""
        if self.distributor.harts == 1:
            return 0
        return self.distributor.targets(self._source(number))

    @GICD_ITARGETSR.on_write
    def _write_targets(self, number: int, harts: int) -> None:
        self.distributor.set_targets(self._source(number), harts)
        self._update()

    @GICD_SGIR.on_write
    def _send(self, value: int) -> None:
        sender, number = self.board.current_hart(), value & 0xF
        others = ~(1 << sender)
        to = (value >> 16 & 0xFF, others, 1 << sender, 0)[value >> 24 & 3]
        for hart in range(self.distributor.harts):
            if to >> hart & 1:
                self._set_senders(hart, number, 1 << sender, True)
        self._update()

    @GICD_CPENDSGIR.on_read
    @GICD_SPENDSGIR.on_read
    def _read_senders(self, number: int) -> int:
        return self.distributor.senders_of(self.board.current_hart(), number)

    @GICD_CPENDSGIR.on_write
    def _clear_senders(self, number: int, harts: int) -> None:
        self._set_senders(self.board.current_hart(), number, harts, False)
        self._update()

    @GICD_SPENDSGIR.on_write
    def _add_senders(self, number: int, harts: int) -> None:
        self._set_senders(self.board.current_hart(), number, harts, True)
        self._update()

    def _set_senders(self, hart: int, number: int, harts: int, pend: bool) -> None:
        old = self.distributor.senders_of(hart, number)
        new = old | harts if pend else old & ~harts
        self.distributor.set_senders(source_of(number, hart), new)

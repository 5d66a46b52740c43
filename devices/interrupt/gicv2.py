"""Arm Generic Interrupt Controller, version 2.

Follows ARM IHI 0048B.b, without the Security Extensions and without virtualization: both
interrupt groups, up to 8 harts, 32 priorities. Identifies itself as ARM's GIC-400 (DDI 0471B).
The distributor is at the base (`gicv2_distributor_registers`), the CPU interface 0x1_0000 above.
Names and section numbers are the specification's; its "processor" is a hart here.
"""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from typing import Any

from pydantic import Field

from devices.interrupt.gicv2_distributor import LAST_NUMBER, number_of, source_of
from devices.interrupt.gicv2_distributor_registers import DistributorRegisters
from devices.interrupt.gicv2_interface import (
    PRIORITY_BITS,
    SMALLEST_ABPR,
    SMALLEST_BPR,
    CpuInterface,
)
from hypervisor.device import (
    Board,
    InterruptAcknowledge,
    InterruptComplete,
    Line,
    Node,
    Options,
    Register,
)
from hypervisor.device.registers import Access, Bits
from hypervisor.device.tree import u64

CPU_INTERFACE = 0x1_0000
NO_INTERRUPT, OTHER_GROUP = 1023, 1022
_IRQ, _FIQ = 0, 1
_SPI, _PPI = 0, 1
_LEVEL_HIGH = 4
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


class Gicv2Options(Options):
    sources: int = Field(
        default=287, ge=63, le=LAST_NUMBER, description="highest interrupt ID; inputs begin at 32"
    )


class Gicv2(DistributorRegisters):
    """Shared inputs 32 to `sources`, 16 private inputs and 16 software interrupts a hart.

    `irq: gic.33` is the input with interrupt ID 33, the device tree's `<0 1 4>`.
    """

    Options = Gicv2Options
    type = "arm.gicv2"
    summary = "Arm generic interrupt controller, version 2"
    compatible = ("arm,gic-400", "arm,cortex-a15-gic")
    address_size = 2 * CPU_INTERFACE
    interrupt_inputs = LAST_NUMBER
    first_input = 32
    private_inputs = True
    arch = "aarch64"
    state = ("distributor_state", "interface_state")

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

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.interfaces = [CpuInterface() for _ in board.harts]
        self.irq_lines = [hart.interrupt(_IRQ) for hart in board.harts]
        self.fiq_lines = [hart.interrupt(_FIQ) for hart in board.harts]
        self.inputs: dict[int, Line] = {}

    def reset(self) -> None:
        super().reset()
        self.distributor.reset()
        self.interfaces[:] = [CpuInterface() for _ in self.interfaces]
        self._update()

    def restored(self) -> None:
        self._update()

    @property
    def distributor_state(self) -> dict[str, Any]:
        return self.distributor.save()

    @distributor_state.setter
    def distributor_state(self, state: dict[str, Any]) -> None:
        self.distributor.load(state)

    @property
    def interface_state(self) -> list[list[int]]:
        return [list(astuple(interface)) for interface in self.interfaces]

    @interface_state.setter
    def interface_state(self, state: list[list[int]]) -> None:
        self.interfaces[:] = [CpuInterface(*values) for values in state]

    def input(self, number: int) -> Line:
        if not 32 <= number <= self.options.sources:
            raise ValueError(
                f"{self.name} has inputs 32 to {self.options.sources}, but not {number}: "
                f"its option 'sources' says how many"
            )
        return self._line(source_of(number, 0), f"{self.name}.{number}")

    def private_input(self, hart: int, number: int) -> Line:
        """The input with interrupt ID `number` (16 to 31) of one hart, such as its timer's."""
        if not 16 <= number <= 31:
            raise ValueError(f"{self.name} has private inputs 16 to 31, but not {number}")
        return self._line(source_of(number, hart), f"{self.name}.hart{hart}.{number}")

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

    # -- inputs and outputs -------------------------------------------------------------------

    def _line(self, source: int, name: str) -> Line:
        if source not in self.inputs:
            self.inputs[source] = Line(name, partial(self._input_changed, 1 << source))
        return self.inputs[source]

    def _input_changed(self, bit: int, level: bool) -> None:
        self.distributor.drive(bit, level)
        self._update()

    def _most_urgent(self, hart: int) -> int | None:
        return self.distributor.most_urgent(hart, self.GICD_CTLR & self.interfaces[hart].ctlr)

    def _group(self, source: int) -> bool:
        return bool(self.distributor.group1 >> source & 1)

    def _signalled(self, hart: int) -> int | None:
        """The source that interrupts a hart now."""
        source = self._most_urgent(hart)
        if source is None:
            return None
        priority = self.distributor.priorities[source]
        return source if self.interfaces[hart].admits(priority, self._group(source)) else None

    def _update(self) -> None:
        ready = self.distributor.ready
        for hart, interface in enumerate(self.interfaces):
            source = self._signalled(hart) if ready & self.distributor.visible[hart] else None
            fiq = source is not None and interface.signals_fiq(self._group(source))
            self.fiq_lines[hart].set(fiq)
            self.irq_lines[hart].set(source is not None and not fiq)

    def input_state(self, number: int) -> dict[str, bool | int]:
        distributor, source = self.distributor, source_of(number, 0)
        return {
            "pending": bool(distributor.pending >> source & 1),
            "active": bool(distributor.active >> source & 1),
            "enabled": bool(distributor.enabled >> source & 1),
            "priority": distributor.priorities[source],
        }

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
        return self._take(source, self._identify(source))

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

    def _take(self, source: int | None, name: int) -> int:
        if source is not None and name not in (NO_INTERRUPT, OTHER_GROUP):
            self._interface.begin(self.distributor.priorities[source], self._group(source))
            self.distributor.acknowledge(source)
            self._update()
            self.publish(InterruptAcknowledge, number_of(source), self.board.current_hart())
        return name

    @GICC_EOIR.on_write
    @GICC_AEOIR.on_write
    def _end(self, value: int) -> None:
        """The end of what was acknowledged last. Ending anything else is unpredictable
        (section 4.4.5); here it drops the running priority all the same."""
        number = value & 0x3FF
        if number > LAST_NUMBER:
            return
        self._interface.drop_priority()
        if not self._interface.splits_eoi:
            self.distributor.set_active(1 << self._source(number), False)
        self._update()
        self.publish(InterruptComplete, number, self.board.current_hart())

    @GICC_DIR.on_write
    def _deactivate_one(self, value: int) -> None:
        number = value & 0x3FF
        if self._interface.splits_eoi and number <= LAST_NUMBER:
            self.distributor.set_active(1 << self._source(number), False)
            self._update()

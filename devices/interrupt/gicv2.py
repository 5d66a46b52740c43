"""Arm Generic Interrupt Controller, version 2.

Follows ARM IHI 0048B.b, without the Security Extensions and without virtualization: both
interrupt groups, up to 8 harts, 32 priorities. Identifies itself as ARM's GIC-400 (DDI 0471B).
The distributor is at the base, the CPU interface 0x1_0000 above. Names and section numbers are
the specification's; its "processor" is a hart here.
"""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from typing import Any

from pydantic import Field

from devices.interrupt.gicv2_distributor import (
    LAST_NUMBER,
    MAX_HARTS,
    Distributor,
    number_of,
    source_of,
)
from devices.interrupt.gicv2_interface import (
    PRIORITY_BITS,
    SMALLEST_ABPR,
    SMALLEST_BPR,
    CpuInterface,
)
from hypervisor.device import (
    Board,
    Device,
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
_WORDS = 32
_SPI, _PPI = 0, 1
_LEVEL_HIGH = 4
_ID: dict[str, Bits] = {"INTERRUPT_ID": (9, 0), "CPUID": (12, 10)}
_PERIPHERAL_ID = (4, 0, 0, 0, 0x90, 0xB4, 0x2B, 0, 0x0D, 0xF0, 0x05, 0xB1)


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


class Gicv2(Device):
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
    GICD_IGROUPR = Register(0x080, writable=0, count=_WORDS, doc="1: group 1")
    GICD_ISENABLER = Register(0x100, writable=0, count=_WORDS, doc="write 1 to enable")
    GICD_ICENABLER = Register(0x180, writable=0, count=_WORDS, doc="write 1 to disable")
    GICD_ISPENDR = Register(0x200, writable=0, count=_WORDS, doc="write 1 to make pending")
    GICD_ICPENDR = Register(0x280, writable=0, count=_WORDS, doc="write 1 to end pending")
    GICD_ISACTIVER = Register(0x300, writable=0, count=_WORDS, doc="write 1 to activate")
    GICD_ICACTIVER = Register(0x380, writable=0, count=_WORDS, doc="write 1 to deactivate")
    GICD_IPRIORITYR = Register(
        0x400,
        size=1,
        writable=0,
        count=LAST_NUMBER + 1,
        fields={"PRIORITY": (7, 3)},
        doc="priority of each interrupt; 0 is the most urgent",
    )
    GICD_ITARGETSR = Register(
        0x800,
        size=1,
        writable=0,
        count=LAST_NUMBER + 1,
        doc="set of harts of each interrupt; fixed below 32",
    )
    GICD_ICFGR = Register(
        0xC00, writable=0, count=2 * _WORDS, doc="two bits an interrupt, the upper: edge-triggered"
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

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        if len(board.harts) > MAX_HARTS:
            raise ValueError(
                f"{name}: arm.gicv2 serves at most {MAX_HARTS} harts, not {len(board.harts)}"
            )
        self.distributor = Distributor(len(board.harts), options.sources)
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

    # -- distributor --------------------------------------------------------------------------

    def input_state(self, number: int) -> dict[str, bool | int]:
        distributor, source = self.distributor, source_of(number, 0)
        return {
            "pending": bool(distributor.pending >> source & 1),
            "active": bool(distributor.active >> source & 1),
            "enabled": bool(distributor.enabled >> source & 1),
            "priority": distributor.priorities[source],
        }

    def _source(self, number: int) -> int:
        return source_of(number, self.board.current_hart())

    def _word(self, sources: int, word: int) -> int:
        """The 32 interrupts from ID 32 * `word` on, as the accessing hart sees them."""
        return sources >> self._source(32 * word) & 0xFFFF_FFFF

    @GICD_CTLR.on_write
    def _distributor_control_written(self, value: int) -> None:
        self._update()

    @GICD_TYPER.on_read
    def _read_typer(self) -> int:
        return len(self.interfaces) - 1 << 5 | int(self.options.sources) >> 5

    @GICD_PIDR.on_read
    def _read_peripheral_id(self, index: int) -> int:
        return _PERIPHERAL_ID[index]

    @GICD_IGROUPR.on_read
    def _read_group(self, word: int) -> int:
        return self._word(self.distributor.group1, word)

    @GICD_IGROUPR.on_write
    def _write_group(self, word: int, value: int) -> None:
        shift = self._source(32 * word)
        others = self.distributor.group1 & ~(0xFFFF_FFFF << shift)
        self.distributor.group1 = others | value << shift & self.distributor.implemented
        self._update()

    @GICD_ISENABLER.on_read
    @GICD_ICENABLER.on_read
    def _read_enabled(self, word: int) -> int:
        return self._word(self.distributor.enabled, word)

    @GICD_ISENABLER.on_write
    def _enable(self, word: int, value: int) -> None:
        self.distributor.set_enabled(value << self._source(32 * word), True)
        self._update()

    @GICD_ICENABLER.on_write
    def _disable(self, word: int, value: int) -> None:
        self.distributor.set_enabled(value << self._source(32 * word), False)
        self._update()

    @GICD_ISPENDR.on_read
    @GICD_ICPENDR.on_read
    def _read_pending(self, word: int) -> int:
        return self._word(self.distributor.pending, word)

    @GICD_ISPENDR.on_write
    def _pend(self, word: int, value: int) -> None:
        self.distributor.set_pending(value << self._source(32 * word), True)
        self._update()

    @GICD_ICPENDR.on_write
    def _unpend(self, word: int, value: int) -> None:
        self.distributor.set_pending(value << self._source(32 * word), False)
        self._update()

    @GICD_ISACTIVER.on_read
    @GICD_ICACTIVER.on_read
    def _read_active(self, word: int) -> int:
        return self._word(self.distributor.active, word)

    @GICD_ISACTIVER.on_write
    def _activate(self, word: int, value: int) -> None:
        self.distributor.set_active(value << self._source(32 * word), True)
        self._update()

    @GICD_ICACTIVER.on_write
    def _deactivate(self, word: int, value: int) -> None:
        self.distributor.set_active(value << self._source(32 * word), False)
        self._update()

    @GICD_IPRIORITYR.on_read
    def _read_priority(self, number: int) -> int:
        return self.distributor.priorities[self._source(number)]

    @GICD_IPRIORITYR.on_write
    def _write_priority(self, number: int, value: int) -> None:
        self.distributor.set_priority(self._source(number), value & PRIORITY_BITS)
        self._update()

    @GICD_ITARGETSR.on_read
    def _read_targets(self, number: int) -> int:
        """A lone hart reads zero (section 4.3.12)."""
        if len(self.interfaces) == 1:
            return 0
        return self.distributor.targets(self._source(number))

    @GICD_ITARGETSR.on_write
    def _write_targets(self, number: int, harts: int) -> None:
        self.distributor.set_targets(self._source(number), harts)
        self._update()

    @GICD_ICFGR.on_read
    def _read_configuration(self, index: int) -> int:
        half = self.distributor.edge >> self._source(16 * index)
        return sum((half >> i & 1) << 2 * i + 1 for i in range(16))

    @GICD_ICFGR.on_write
    def _write_configuration(self, index: int, value: int) -> None:
        half = sum((value >> 2 * i + 1 & 1) << i for i in range(16))
        shift = self._source(16 * index)
        self.distributor.set_edge(0xFFFF << shift, half << shift)
        self._update()

    @GICD_SGIR.on_write
    def _send(self, value: int) -> None:
        sender, number = self.board.current_hart(), value & 0xF
        others = ~(1 << sender)
        to = (value >> 16 & 0xFF, others, 1 << sender, 0)[value >> 24 & 3]
        for hart in range(len(self.interfaces)):
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

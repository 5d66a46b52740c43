"""The distributor's registers of a GICv2 (ARM IHI 0048B.b, section 4.3)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from devices.interrupt.gicv2_distributor import LAST_NUMBER, MAX_HARTS, Distributor, source_of
from devices.interrupt.gicv2_interface import PRIORITY_BITS
from hypervisor.device import Board, Device, Register

_WORDS = 32
_PERIPHERAL_ID = (4, 0, 0, 0, 0x90, 0xB4, 0x2B, 0, 0x0D, 0xF0, 0x05, 0xB1)


class DistributorRegisters(Device):
    """The part of the controller that all harts share. Private interrupts are banked: each hart's
    accesses reach its own."""

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

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        if len(board.harts) > MAX_HARTS:
            raise ValueError(
                f"{name}: arm.gicv2 serves at most {MAX_HARTS} harts, not {len(board.harts)}"
            )
        self.distributor = Distributor(len(board.harts), options.sources)

    @abstractmethod
    def _update(self) -> None:
        """Drive the harts' lines by what is pending."""

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
        return self.distributor.harts - 1 << 5 | int(self.options.sources) >> 5

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
        if self.distributor.harts == 1:
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

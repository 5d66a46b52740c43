"""What Arm's interrupt controllers of both versions do: inputs, outputs, and the life of an
interrupt from its acknowledgement to its end."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import astuple
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from devices.interrupt.gic_distributor import (
    LAST_NUMBER,
    MAX_HARTS,
    Distributor,
    number_of,
    source_of,
)
from devices.interrupt.gic_interface import PRIORITY_BITS, CpuInterface
from hypervisor.device import (
    Board,
    Device,
    InterruptAcknowledge,
    InterruptComplete,
    Line,
    Options,
    Register,
)

NO_INTERRUPT = 1023
_IRQ, _FIQ = 0, 1
_WORDS = 32


class GicOptions(Options):
    sources: int = Field(
        default=287, ge=63, le=LAST_NUMBER, description="highest interrupt ID; inputs begin at 32"
    )


class Gic(Device):
    """Shared inputs 32 to `sources`, 16 private inputs and 16 software interrupts a hart, and the
    registers of the distributor that are the same. Private interrupts are banked: each hart's
    accesses reach its own."""

    Options = GicOptions
    interrupt_inputs = LAST_NUMBER
    first_input = 32
    private_inputs = True
    arch = "aarch64"
    state = ("distributor_state", "interface_state")
    fixed_software_interrupts: ClassVar[bool] = True
    """They cannot be disabled."""

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
    GICD_ICFGR = Register(
        0xC00, writable=0, count=2 * _WORDS, doc="two bits an interrupt, the upper: edge-triggered"
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        if len(board.harts) > MAX_HARTS:
            raise ValueError(
                f"{name}: {self.type} serves at most {MAX_HARTS} harts, not {len(board.harts)}"
            )
        self.distributor = Distributor(
            len(board.harts), options.sources, fixed_sgis=self.fixed_software_interrupts
        )
        self.interfaces = [self.new_interface() for _ in board.harts]
        self.irq_lines = [hart.interrupt(_IRQ) for hart in board.harts]
        self.fiq_lines = [hart.interrupt(_FIQ) for hart in board.harts]
        self.inputs: dict[int, Line] = {}

    def new_interface(self) -> CpuInterface:
        """A hart's CPU interface as at power-on."""
        return CpuInterface()

    @property
    @abstractmethod
    def groups_enabled(self) -> int:
        """Bits 0 and 1: the distributor forwards group 0, 1."""

    def reset(self) -> None:
        super().reset()
        self.distributor.reset()
        self.interfaces[:] = [self.new_interface() for _ in self.interfaces]
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

    # -- inputs and outputs -------------------------------------------------------------------

    def _line(self, source: int, name: str) -> Line:
        if source not in self.inputs:
            self.inputs[source] = Line(name, partial(self._input_changed, 1 << source))
        return self.inputs[source]

    def _input_changed(self, bit: int, level: bool) -> None:
        self.distributor.drive(bit, level)
        self._update()

    def _most_urgent(self, hart: int) -> int | None:
        return self.distributor.most_urgent(hart, self.groups_enabled & self.interfaces[hart].ctlr)

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

    def _take(self, source: int, name: int) -> int:
        """The accessing hart acknowledges `source`."""
        hart = self.board.current_hart()
        self.interfaces[hart].begin(self.distributor.priorities[source], self._group(source))
        self.distributor.acknowledge(source)
        self._update()
        self.publish(InterruptAcknowledge, number_of(source), hart)
        return name

    def _end(self, hart: int, number: int) -> None:
        """The end of what was acknowledged last. Ending anything else is unpredictable
        (section 4.4.5 of version 2); here it drops the running priority all the same."""
        if number > LAST_NUMBER:
            return
        self.interfaces[hart].drop_priority()
        if not self.interfaces[hart].splits_eoi:
            self.distributor.set_active(1 << source_of(number, hart), False)
        self._update()
        self.publish(InterruptComplete, number, hart)

    def _deactivate_one(self, hart: int, number: int) -> None:
        if self.interfaces[hart].splits_eoi and number <= LAST_NUMBER:
            self.distributor.set_active(1 << source_of(number, hart), False)
            self._update()

    # -- the distributor's registers ----------------------------------------------------------

    def _bank(self) -> int:
        """The hart whose private interrupts an access reaches."""
        return self.board.current_hart()

    def _source(self, number: int) -> int:
        return source_of(number, self._bank())

    def _word(self, sources: int, word: int) -> int:
        """The 32 interrupts from ID 32 * `word` on, as the accessing hart sees them."""
        return sources >> self._source(32 * word) & 0xFFFF_FFFF

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

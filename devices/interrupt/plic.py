"""Platform-level interrupt controller.

Follows "RISC-V Platform-Level Interrupt Controller Specification" 1.0.0. Priorities have three
bits, as in SiFive's. Hart h has context 2h in machine mode and 2h+1 in supervisor mode.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from hypervisor.device import (
    Board,
    Device,
    InterruptAcknowledge,
    InterruptComplete,
    Line,
    Node,
    Options,
    Ref,
    Register,
)

MAX_SOURCES = 1023
MAX_HARTS = 16
_WORDS = 32
_MACHINE_EXTERNAL, _SUPERVISOR_EXTERNAL = 11, 9
_NO_INTERRUPT = 0xFFFF_FFFF


class PlicOptions(Options):
    sources: int = Field(default=95, ge=1, le=MAX_SOURCES, description="number of inputs, from 1")


class Plic(Device):
    """Up to 1023 level-triggered inputs, two contexts a hart.

    Sets of sources are integers with bit n for source n.
    """

    Options = PlicOptions
    type = "riscv.plic"
    summary = "RISC-V platform-level interrupt controller"
    compatible = ("sifive,plic-1.0.0", "riscv,plic0")
    arch = "riscv64"
    address_size = 0x400_0000
    interrupt_inputs = MAX_SOURCES
    state = ("high", "pending", "claimed")

    PRIORITY = Register(
        0x0,
        writable=0x7,
        count=MAX_SOURCES + 1,
        fields={"PRIORITY": (2, 0)},
        doc="priority of each source; 0 never interrupts",
    )
    PENDING = Register(0x1000, access="ro", count=_WORDS, doc="pending bits, 32 sources a word")
    ENABLE = Register(
        0x2000,
        count=2 * MAX_HARTS * _WORDS,
        doc="enable bits, 32 sources a word, 32 words a context",
    )
    THRESHOLD = Register(
        0x20_0000,
        writable=0x7,
        count=2 * MAX_HARTS,
        stride=0x1000,
        fields={"THRESHOLD": (2, 0)},
        doc="each context takes priorities above this",
    )
    CLAIM = Register(
        0x20_0004,
        writable=0,
        count=2 * MAX_HARTS,
        stride=0x1000,
        doc="read: claim the most urgent source; write: complete it",
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        if len(board.harts) > MAX_HARTS:
            raise ValueError(
                f"{name}: riscv.plic serves at most {MAX_HARTS} harts, not {len(board.harts)}"
            )
        self.high = 0
        """Inputs that are high now."""
        self.pending = 0
        self.claimed = 0
        """Sources whose gateway waits for completion."""
        self.implemented = (1 << options.sources + 1) - 2
        self.outputs = [
            hart.interrupt(number)
            for hart in board.harts
            for number in (_MACHINE_EXTERNAL, _SUPERVISOR_EXTERNAL)
        ]
        self.enabled = [0] * len(self.outputs)
        self.inputs: dict[int, Line] = {}

    def reset(self) -> None:
        super().reset()
        self.pending = 0
        self.claimed = 0
        self.restored()

    def restored(self) -> None:
        words = self.values["ENABLE"]
        for context in range(len(self.enabled)):
            start = context * _WORDS
            self.enabled[context] = sum(
                word << 32 * i for i, word in enumerate(words[start : start + _WORDS])
            )
        self._update()

    def input(self, number: int) -> Line:
        if not 1 <= number <= self.options.sources:
            raise ValueError(
                f"{self.name} has inputs 1 to {self.options.sources}, but not {number}: "
                f"raise its option 'sources'"
            )
        if number not in self.inputs:
            sink = partial(self._input_changed, 1 << number)
            self.inputs[number] = Line(f"{self.name}.{number}", sink)
        return self.inputs[number]

    def input_state(self, number: int) -> dict[str, bool | int]:
        return {
            "pending": bool(self.pending >> number & 1),
            "active": bool(self.claimed >> number & 1),
            "enabled": any(context >> number & 1 for context in self.enabled),
            "priority": self.values["PRIORITY"][number],
        }

    def node(self) -> Node:
        machine = _MACHINE_EXTERNAL if self.board.machine_mode else _NO_INTERRUPT
        extended: list[Ref | int] = []
        for hart in self.board.harts:
            intc = Ref(f"cpu{hart.index}_intc")
            extended += [intc, machine, intc, _SUPERVISOR_EXTERNAL]
        properties = {
            "#address-cells": 0,
            "#interrupt-cells": 1,
            "interrupt-controller": True,
            "riscv,ndev": self.options.sources,
            "interrupts-extended": extended,
        }
        return Node(f"interrupt-controller@{self.options.at or 0:x}", properties, [])

    # -- gateways -----------------------------------------------------------------------------

    def _input_changed(self, bit: int, level: bool) -> None:
        if not level:
            # A request that the core has accepted stays pending (section 4).
            self.high &= ~bit
        elif not self.high & bit:
            self.high |= bit
            if not self.claimed & bit:
                self.pending |= bit
                self._update()

    # -- registers ----------------------------------------------------------------------------

    @PRIORITY.on_write
    def _priority_written(self, source: int, value: int) -> None:
        if not self.implemented >> source & 1:
            self.values["PRIORITY"][source] = 0
        self._update()

    @PENDING.on_read
    def _read_pending(self, word: int) -> int:
        return self.pending >> 32 * word

    @ENABLE.on_write
    def _enable_written(self, index: int, value: int) -> None:
        context, word = divmod(index, _WORDS)
        if context >= len(self.enabled):
            self.values["ENABLE"][index] = 0
            return
        value &= self.implemented >> 32 * word
        self.values["ENABLE"][index] = value
        others = self.enabled[context] & ~(0xFFFF_FFFF << 32 * word)
        self.enabled[context] = others | value << 32 * word
        self._update()

    @THRESHOLD.on_write
    def _threshold_written(self, context: int, value: int) -> None:
        self._update()

    @CLAIM.on_read
    def _claim(self, context: int) -> int:
        """The threshold has no say in what is claimed (section 9)."""
        if context >= len(self.enabled):
            return 0
        source, _ = self._most_urgent(context)
        if source:
            self.pending &= ~(1 << source)
            self.claimed |= 1 << source
            self._update()
            self.publish(InterruptAcknowledge, source, context >> 1)
        return source

    @CLAIM.on_write
    def _complete(self, context: int, source: int) -> None:
        """Completing what this context has not enabled is ignored (section 10)."""
        if context >= len(self.enabled) or source > MAX_SOURCES:
            return
        bit = 1 << source
        if self.claimed & self.enabled[context] & bit:
            self.claimed &= ~bit
            self.publish(InterruptComplete, source, context >> 1)
            if self.high & bit:
                self.pending |= bit
                self._update()

    def _most_urgent(self, context: int) -> tuple[int, int]:
        """The lowest-numbered source of the highest priority, and that priority; or zeroes."""
        best = urgency = 0
        candidates = self.pending & self.enabled[context]
        while candidates:
            bit = candidates & -candidates
            candidates ^= bit
            source = bit.bit_length() - 1
            priority = self.values["PRIORITY"][source]
            if priority > urgency:
                best, urgency = source, priority
        return best, urgency

    def _update(self) -> None:
        thresholds = self.values["THRESHOLD"]
        for context, output in enumerate(self.outputs):
            if self.pending & self.enabled[context]:
                output.set(self._most_urgent(context)[1] > thresholds[context])
            else:
                output.set(False)

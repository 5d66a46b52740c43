"""Core-local interruptor of a SiFive core complex: software interrupts and timers of machine mode.

Follows "SiFive FU540-C000 Manual" v1p4, chapter 9.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from hypervisor.device import Board, Device, Node, Options, Ref, Register

MAX_HARTS = 16
_MACHINE_SOFTWARE, _MACHINE_TIMER = 3, 7
_SECOND = 1_000_000_000
_END_OF_TIME = 1 << 63
"""Deadlines from here on (292 years) are never armed."""


class ClintOptions(Options):
    timebase: int = Field(default=10_000_000, gt=0, le=_SECOND, description="mtime's rate, Hz")


class Clint(Device):
    """One software interrupt bit and one compare register per hart, and the time they share."""

    Options = ClintOptions
    type = "riscv.clint"
    summary = "SiFive CLINT: machine-mode timer and software interrupts"
    compatible = ("sifive,clint0", "riscv,clint0")
    arch = "riscv64"
    address_size = 0x1_0000

    MSIP = Register(
        0x0000,
        writable=0x1,
        count=MAX_HARTS,
        fields={"MSIP": 0},
        doc="software interrupt of each hart",
    )
    MTIMECMP = Register(
        0x4000,
        size=8,
        reset=(1 << 64) - 1,
        count=MAX_HARTS,
        doc="time from which each hart's timer interrupt is pending",
    )
    MTIME = Register(
        0xBFF8, size=8, writable=0, doc="ticks of the timebase; the guest cannot set it"
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        if len(board.harts) > MAX_HARTS:
            raise ValueError(
                f"{name}: riscv.clint serves at most {MAX_HARTS} harts, not {len(board.harts)}"
            )
        self.software_lines = [hart.interrupt(_MACHINE_SOFTWARE) for hart in board.harts]
        self.timer_lines = [hart.interrupt(_MACHINE_TIMER) for hart in board.harts]
        self.compares = [
            self.timer(f"mtimecmp{hart}", partial(self._compare, hart))
            for hart in range(len(board.harts))
        ]
        self._time_write_reported = False

    def reset(self) -> None:
        super().reset()
        self.restored()

    def restored(self) -> None:
        for hart in range(len(self.compares)):
            self.software_lines[hart].set(bool(self.values["MSIP"][hart]))
            self._compare(hart)

    def node(self) -> Node | None:
        if not self.board.machine_mode:
            return None
        inputs: list[Ref | int] = []
        for hart in self.board.harts:
            intc = Ref(f"cpu{hart.index}_intc")
            inputs += [intc, _MACHINE_SOFTWARE, intc, _MACHINE_TIMER]
        return Node(f"clint@{self.options.at or 0:x}", {"interrupts-extended": inputs}, [])

    @MSIP.on_write
    def _msip_written(self, hart: int, value: int) -> None:
        if hart < len(self.software_lines):
            self.software_lines[hart].set(bool(value & 1))

    @MTIMECMP.on_write
    def _mtimecmp_written(self, hart: int, value: int) -> None:
        if hart < len(self.compares):
            self._compare(hart)

    @MTIME.on_read
    def mtime(self) -> int:
        return self.clock.now() * int(self.options.timebase) // _SECOND

    @MTIME.on_write
    def _mtime_written(self, value: int) -> None:
        if not self._time_write_reported:
            self._time_write_reported = True
            self.board.log(f"{self.name}: setting mtime is not implemented")

    def _compare(self, hart: int) -> None:
        """Set the hart's timer interrupt, or arm its timer for the first ns at which it is due."""
        compare = self.values["MTIMECMP"][hart]
        deadline = -(-compare * _SECOND // self.options.timebase)
        due = self.clock.now() >= deadline
        if due or deadline >= _END_OF_TIME:
            self.compares[hart].cancel()
        else:
            self.compares[hart].arm(deadline)
        self.timer_lines[hart].set(due)

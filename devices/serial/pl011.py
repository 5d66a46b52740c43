"""Arm PrimeCell UART (PL011), revision r1p4.

Follows ARM DDI 0183F, chapters 2 and 3. Transmission takes no time: the transmitter is always
empty. Input that arrives while the FIFO is full or the receiver off waits at the line's other end.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from devices.primecell import CLOCK_HERTZ, Primecell
from hypervisor.device import Board, LineEnd, Node, Options, Register

FIFO_SIZE = 16
_TRIGGERS = (2, 4, 8, 12, 14, 14, 14, 14)
"""Received characters that interrupt, by IFLS.RXIFLSEL: 1/8 to 7/8; the rest is reserved."""
_TIMEOUT_BITS = 32


def _bits(names: str, first: int = 0) -> dict[str, int]:
    """Fields of one bit each, from bit `first` up."""
    return {name: bit for bit, name in enumerate(names.split(), first)}


_INTERRUPTS = _bits("RI CTS DCD DSR RX TX RT FE PE BE OE")
_ALL = 0x7FF
_RX, _TX, _RT, _OE = 1 << 4, 1 << 5, 1 << 6, 1 << 10
_FEN = 0x10
_UARTEN, _LBE, _RXE = 0x001, 0x080, 0x200
_RSR_OE, _DR_OE = 0x8, 0x800
_CTS, _DSR, _DCD, _RI = 0x001, 0x002, 0x004, 0x100
_RXFE, _RXFF, _TXFE = 0x10, 0x40, 0x80
# With a peer that is there and ready: DCD, DSR and CTS asserted.
_PEER_READY = _CTS | _DSR | _DCD


class Pl011Options(Options):
    backend: LineEnd = Field(
        default="stdio", description="the line's other end: stdio, none or channel:NAME"
    )


class Pl011(Primecell):
    """A UART with 16-byte receive FIFO, modem lines and loopback."""

    Options = Pl011Options
    type = "arm.pl011"
    summary = "Arm PrimeCell UART (PL011)"
    compatible = ("arm,pl011", "arm,primecell")
    peripheral_id = (0x11, 0x10, 0x14, 0x00)
    state = ("received", "modem")

    DR = Register(
        0x000,
        writable=0,
        fields={"DATA": (7, 0), "FE": 8, "PE": 9, "BE": 10, "OE": 11},
        doc="receive and transmit FIFO",
    )
    RSR = Register(
        0x004,
        writable=0,
        fields={"FE": 0, "PE": 1, "BE": 2, "OE": 3},
        doc="receive errors; any write clears them",
    )
    FR = Register(
        0x018,
        access="ro",
        reset=_TXFE | _RXFE | _PEER_READY,
        fields=_bits("CTS DSR DCD BUSY RXFE TXFF RXFF TXFE RI"),
        doc="flags",
    )
    ILPR = Register(0x020, writable=0xFF, doc="IrDA low-power divisor")
    IBRD = Register(0x024, writable=0xFFFF, doc="baud rate divisor, integer part")
    FBRD = Register(0x028, writable=0x3F, doc="baud rate divisor, 64ths")
    LCR_H = Register(
        0x02C,
        writable=0xFF,
        fields={"PEN": 1, "EPS": 2, "STP2": 3, "FEN": 4, "WLEN": (6, 5), "SPS": 7},
        tagged={"BRK": 0},
        doc="line control",
    )
    CR = Register(
        0x030,
        reset=0x300,
        writable=0xFF87,
        fields={"UARTEN": 0, **_bits("LBE TXE RXE DTR RTS OUT1 OUT2 RTSEN CTSEN", 7)},
        tagged={"SIREN": 1, "SIRLP": 2},
        doc="control",
    )
    IFLS = Register(
        0x034,
        reset=0x12,
        writable=0x3F,
        fields={"TXIFLSEL": (2, 0), "RXIFLSEL": (5, 3)},
        doc="FIFO levels that interrupt",
    )
    IMSC = Register(0x038, writable=_ALL, fields=_INTERRUPTS, doc="interrupts that are let through")
    RIS = Register(0x03C, access="ro", fields=_INTERRUPTS, doc="interrupts before the mask")
    MIS = Register(0x040, access="ro", fields=_INTERRUPTS, doc="interrupts after the mask")
    ICR = Register(
        0x044, access="wo", writable=0, fields=_INTERRUPTS, doc="write 1 to end an interrupt"
    )
    DMACR = Register(
        0x048,
        writable=0x7,
        tagged={"RXDMAE": 0, "TXDMAE": 1, "DMAONERR": 2},
        doc="DMA control; there is no DMA",
    )

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.received = b""
        self.modem = _PEER_READY
        """CTS, DSR, DCD and RI as FR shows them."""
        self.timeout = self.timer("timeout", self._timed_out)
        self.channel = board.channel(None if options.backend == "none" else options.backend)
        self.channel.on_readable(self._pull)

    def reset(self) -> None:
        super().reset()
        self.received = b""
        self.modem = _PEER_READY

    def restored(self) -> None:
        self._pull()

    def node(self) -> Node:
        clocks = self.clock_properties("uartclk", "apb_pclk")
        return Node(f"serial@{self.options.at or 0:x}", clocks, [])

    # -- data ---------------------------------------------------------------------------------

    @DR.on_read
    def _receive(self) -> int:
        if self.received:
            self.DR = self.received[0] | (_DR_OE if self.RSR & _RSR_OE else 0)
            self.received = self.received[1:]
            if len(self.received) < self._trigger:
                self.RIS &= ~_RX
            if not self.received:
                self.RIS &= ~_RT
                self.timeout.cancel()
            self._update()
            self._pull()
        return self.DR

    @DR.on_write
    def _transmit(self, value: int) -> None:
        """Works with the transmitter disabled, too: early consoles rely on firmware, that there
        may not be, to have enabled it."""
        byte = value & 0xFF
        if self.CR & _LBE:
            self._loop_back(byte)
        else:
            self.channel.write(bytes((byte,)))
        if not self.RIS & _TX:
            self.RIS |= _TX
            self._update()

    def _loop_back(self, byte: int) -> None:
        if len(self.received) < self._room:
            self._take(bytes((byte,)))
        else:
            self.RSR |= _RSR_OE
            self.RIS |= _OE
            self._update()

    def _pull(self) -> None:
        """Take input as far as there is room."""
        room = self._room - len(self.received)
        receiving = self.CR & (_UARTEN | _RXE | _LBE) == _UARTEN | _RXE
        if room > 0 and receiving:
            data = self.channel.read(room)
            if data:
                self._take(data)

    def _take(self, data: bytes) -> None:
        """Characters arrive: the timeout starts over (section 2.4.12)."""
        before = len(self.received)
        self.received += data
        if before < self._trigger <= len(self.received):
            self.RIS |= _RX
        self._start_timeout()
        self._update()

    @property
    def _room(self) -> int:
        return FIFO_SIZE if self.LCR_H & _FEN else 1

    @property
    def _trigger(self) -> int:
        return _TRIGGERS[self.IFLS >> 3] if self.LCR_H & _FEN else 1

    def _start_timeout(self) -> None:
        divisor = (self.IBRD << 6 | self.FBRD) or 64
        wait = _TIMEOUT_BITS * 16 * divisor * 1_000_000_000 // (64 * CLOCK_HERTZ)
        self.timeout.arm(self.clock.now() + wait)

    def _timed_out(self) -> None:
        self.RIS |= _RT
        self._update()

    # -- control and status -------------------------------------------------------------------

    @RSR.on_write
    def _clear_errors(self, value: int) -> None:
        self.RSR = 0

    @FR.on_read
    def _read_flags(self) -> int:
        flags = self.modem | _TXFE
        if not self.received:
            flags |= _RXFE
        elif len(self.received) >= self._room:
            flags |= _RXFF
        return flags

    @LCR_H.on_write
    def _line_control_written(self, value: int) -> None:
        self._level_changed()

    @IFLS.on_write
    def _levels_written(self, value: int) -> None:
        self._level_changed()

    def _level_changed(self) -> None:
        if len(self.received) >= self._trigger:
            self.RIS |= _RX
        else:
            self.RIS &= ~_RX
        self._update()
        self._pull()

    @CR.on_write
    def _control_written(self, value: int) -> None:
        lines = _PEER_READY
        if value & _LBE:
            # RTS, DTR, OUT1 and OUT2 come back as CTS, DSR, DCD and RI (section 3.3.8).
            pairs = ((1 << 11, _CTS), (1 << 10, _DSR), (1 << 12, _DCD), (1 << 13, _RI))
            lines = sum(line for output, line in pairs if value & output)
        changed = self.modem ^ lines
        self.modem = lines
        self.RIS |= changed >> 8 & 1 | (changed & 1) << 1 | changed & 4 | (changed & 2) << 2
        self._update()
        self._pull()

    @IMSC.on_write
    def _mask_written(self, value: int) -> None:
        self._update()

    @MIS.on_read
    def _read_masked(self) -> int:
        return self.RIS & self.IMSC

    @ICR.on_write
    def _clear_interrupts(self, value: int) -> None:
        self.RIS &= ~value
        if value & _RT and self.received:
            # What is left unread must not go unnoticed.
            self._start_timeout()
        self._update()

    def _update(self) -> None:
        self.irq.set(bool(self.RIS & self.IMSC))

"""NS16550A serial port.

Follows the National Semiconductor PC16550D data sheet (TL/C/8652, June 1995), section 8,
"Registers". Transmission takes no time: the transmitter is always empty.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hypervisor.device import Board, Device, LineEnd, Node, Options, Register

FIFO_SIZE = 16
_TRIGGERS = (1, 4, 8, 14)

# MSR with a peer that is there and ready: DCD, DSR and CTS asserted.
_PEER_READY = 0xB0
_LOOPBACK = 0x10
_LSR_ERRORS = 0x1E
_OVERRUN = 0x02
_FIFO_ENABLED, _RX_RESET = 0x01, 0x02
_ERBFI, _ETBEI, _ELSI, _EDSSI = 1, 2, 4, 8
_ID_NONE, _ID_LINE_STATUS, _ID_RECEIVED, _ID_TIMEOUT = 0x01, 0x06, 0x04, 0x0C
_ID_TRANSMIT, _ID_MODEM_STATUS = 0x02, 0x00


def _bits(names: str) -> dict[str, int]:
    """Fields of one bit each, from bit 0 up."""
    return {name: bit for bit, name in enumerate(names.split())}


class Ns16550aOptions(Options):
    backend: LineEnd = Field(
        default="stdio", description="the line's other end: stdio, none or channel:NAME"
    )
    clock_frequency: int = Field(default=3_686_400, gt=0, lt=1 << 32, description="input clock, Hz")
    reg_shift: int = Field(default=0, ge=0, le=3, description="log2 of bytes between registers")


class Ns16550a(Device):
    """A UART with 16-byte receive FIFO, modem lines and loopback."""

    Options = Ns16550aOptions
    type = "ns16550a"
    summary = "NS16550A serial port"
    compatible = ("ns16550a",)
    address_size = 0x100
    state = ("received", "transmit_pending", "timeout_pending")

    RBR = Register(0, size=1, access="ro", bank=0, doc="receiver buffer")
    THR = Register(0, size=1, access="wo", writable=0, bank=0, doc="transmitter holding")
    DLL = Register(0, size=1, bank=1, doc="divisor latch, low byte")
    IER = Register(
        1,
        size=1,
        writable=0x0F,
        bank=0,
        fields=_bits("ERBFI ETBEI ELSI EDSSI"),
        doc="interrupt enable",
    )
    DLM = Register(1, size=1, bank=1, doc="divisor latch, high byte")
    IIR = Register(
        2,
        size=1,
        reset=0x01,
        access="ro",
        fields={"NOT_PENDING": 0, "ID": (3, 1), "FIFO_ENABLED": (7, 6)},
        doc="interrupt identification",
    )
    FCR = Register(
        2,
        size=1,
        access="wo",
        writable=0,
        fields={"ENABLE": 0, "RX_RESET": 1, "TX_RESET": 2, "RX_TRIGGER": (7, 6)},
        tagged={"DMA_MODE": 3},
        doc="FIFO control",
    )
    LCR = Register(
        3,
        size=1,
        fields={"WLS": (1, 0), "STB": 2, "PEN": 3, "EPS": 4, "STICK": 5, "DLAB": 7},
        tagged={"BREAK": 6},
        doc="line control",
    )
    MCR = Register(
        4,
        size=1,
        writable=0x1F,
        fields=_bits("DTR RTS OUT1 OUT2 LOOP"),
        doc="modem control",
    )
    LSR = Register(
        5,
        size=1,
        reset=0x60,
        access="ro",
        fields=_bits("DR OE PE FE BI THRE TEMT RX_FIFO_ERROR"),
        doc="line status",
    )
    MSR = Register(
        6,
        size=1,
        reset=_PEER_READY,
        access="ro",
        fields=_bits("DCTS DDSR TERI DDCD CTS DSR RI DCD"),
        doc="modem status",
    )
    SCR = Register(7, size=1, doc="scratch")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self._places = {offset << options.reg_shift: p for offset, p in self._places.items()}
        self.received = b""
        self.transmit_pending = True
        self.timeout_pending = False
        self.timeout = self.timer("timeout", self._timed_out)
        self.channel = board.channel(None if options.backend == "none" else options.backend)
        self.channel.on_readable(self._pull)

    def reset(self) -> None:
        super().reset()
        self.received = b""
        self.transmit_pending = True
        self.timeout_pending = False
        self._pull()

    def restored(self) -> None:
        self._pull()

    def node(self) -> Node:
        properties: dict[str, Any] = {"clock-frequency": self.options.clock_frequency}
        if self.options.reg_shift:
            properties["reg-shift"] = self.options.reg_shift
        return Node(f"serial@{self.options.at or 0:x}", properties, [])

    def unknown_access(self, offset: int, size: int, value: int | None) -> None:
        # The bytes between spaced registers are read and written along with them.
        if offset >= 8 << self.options.reg_shift:
            super().unknown_access(offset, size, value)

    # -- data ---------------------------------------------------------------------------------

    @RBR.on_read
    def _receive(self) -> int:
        if self.received:
            self.RBR = self.received[0]
            self.received = self.received[1:]
        self._input_changed()
        self._pull()
        return self.RBR

    @THR.on_write
    def _transmit(self, byte: int) -> None:
        if self.MCR & _LOOPBACK:
            self._loop_back(byte)
        else:
            self.channel.write(bytes((byte,)))
        self.transmit_pending = True
        self._update()

    def _loop_back(self, byte: int) -> None:
        if len(self.received) < self._room:
            self.received += bytes((byte,))
        else:
            # The FIFO keeps what it has; the lone buffer register is overwritten.
            self.LSR |= _OVERRUN
            if self._room == 1:
                self.received = bytes((byte,))
        self._input_changed()

    def _pull(self) -> None:
        """Take input as far as there is room: the line's other end holds the rest."""
        room = self._room - len(self.received)
        if room > 0 and not self.MCR & _LOOPBACK:
            data = self.channel.read(room)
            if data:
                self.received += data
                self._input_changed()

    @property
    def _room(self) -> int:
        return FIFO_SIZE if self.FCR & _FIFO_ENABLED else 1

    @property
    def _trigger(self) -> int:
        return _TRIGGERS[self.FCR >> 6] if self.FCR & _FIFO_ENABLED else 1

    def _input_changed(self) -> None:
        """A character came or went: the character timeout starts over (section 8.4.1)."""
        self.timeout_pending = False
        if 0 < len(self.received) < self._trigger:
            self.timeout.arm(self.clock.now() + 4 * self._character_time())
        else:
            self.timeout.cancel()
        self._update()

    def _character_time(self) -> int:
        """Nanoseconds that one character takes on the line."""
        divisor = (self.DLM << 8 | self.DLL) or 1
        bits = 1 + 5 + (self.LCR & 3) + (self.LCR >> 3 & 1) + 1 + (self.LCR >> 2 & 1)
        return bits * 16 * divisor * 1_000_000_000 // int(self.options.clock_frequency)

    def _timed_out(self) -> None:
        self.timeout_pending = True
        self._update()

    # -- control and status -------------------------------------------------------------------

    @IER.on_write
    def _ier_written(self, value: int) -> None:
        if not value & _ETBEI:
            # The transmitter is always empty, so enabling it later interrupts anew.
            self.transmit_pending = True
        self._update()

    @IIR.on_read
    def _identify(self) -> int:
        source = self._highest_source()
        if source == _ID_TRANSMIT:
            self.transmit_pending = False
            self._update()
        return source | (0xC0 if self.FCR & _FIFO_ENABLED else 0)

    @FCR.on_write
    def _fcr_written(self, value: int) -> None:
        enabled = value & _FIFO_ENABLED
        if enabled != self.FCR & _FIFO_ENABLED or value & _RX_RESET:
            self.received = b""
        self.FCR = value & 0xC9 if enabled else 0
        self._input_changed()
        self._pull()

    @LCR.on_write
    def _lcr_written(self, value: int) -> None:
        self.register_bank = value >> 7

    @MCR.on_write
    def _mcr_written(self, value: int) -> None:
        lines = _PEER_READY
        if value & _LOOPBACK:
            # RTS, DTR, OUT1 and OUT2 come back as CTS, DSR, RI and DCD (section 8.6.4).
            lines = (value & 2) << 3 | (value & 1) << 5 | (value & 0xC) << 4
        changed = (self.MSR ^ lines) >> 4
        rising_ring = lines >> 4 & 4
        self.MSR = lines | (self.MSR & 0xF) | (changed & ~rising_ring)
        self._update()
        self._pull()

    @LSR.on_read
    def _read_lsr(self) -> int:
        value = self.LSR
        if value & _LSR_ERRORS:
            self.LSR = value & ~_LSR_ERRORS
            self._update()
        return value | (1 if self.received else 0)

    @MSR.on_read
    def _read_msr(self) -> int:
        value = self.MSR
        self.MSR &= 0xF0
        self._update()
        return value

    def _highest_source(self) -> int:
        """The IIR's low bits for the most urgent enabled interrupt (section 8.5, table IV)."""
        enabled = self.IER
        if enabled & _ELSI and self.LSR & _LSR_ERRORS:
            return _ID_LINE_STATUS
        if enabled & _ERBFI and len(self.received) >= self._trigger:
            return _ID_RECEIVED
        if enabled & _ERBFI and self.timeout_pending:
            return _ID_TIMEOUT
        if enabled & _ETBEI and self.transmit_pending:
            return _ID_TRANSMIT
        if enabled & _EDSSI and self.MSR & 0x0F:
            return _ID_MODEM_STATUS
        return _ID_NONE

    def _update(self) -> None:
        self.irq.set(self._highest_source() != _ID_NONE)

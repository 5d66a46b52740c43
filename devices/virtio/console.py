"""Virtio console with several ports.

Follows VIRTIO 1.2, section 5.3, "Console Device". Port 0 is a console; further ports have names,
which a Linux guest shows as /dev/virtio-ports/NAME.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from struct import Struct
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hypervisor.device import Board, ByteChannel, LineEnd, Options, Register
from hypervisor.device.virtio import CONFIG, VirtioDevice

F_SIZE = 1 << 0
F_MULTIPORT = 1 << 1
F_EMERG_WRITE = 1 << 2

DEVICE_READY, PORT_ADD, PORT_READY, CONSOLE_PORT = 0, 1, 3, 4
PORT_OPEN, PORT_NAME = 6, 7

MAX_PORTS = 31
MAX_WRITE = 1 << 20
"""Bytes taken from one chain that the driver sends; no driver sends as many."""

_CONTROL = Struct("<IHH")
_CONTROL_RX, _CONTROL_TX = 2, 3
_PIECE = 4096


class PortOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, description="name that the guest sees")
    backend: LineEnd = Field(default="none", description="the port's other end")

    @field_validator("backend")
    @classmethod
    def _is_not_the_console(cls, backend: str) -> str:
        if backend == "stdio":
            raise ValueError("a named port cannot be the console; say none or channel:NAME")
        return backend


class VirtioConsoleOptions(Options):
    backend: LineEnd = Field(
        default="none", description="the console's other end: stdio, none or channel:NAME"
    )
    columns: int = Field(default=80, ge=1, le=0xFFFF, description="width of the console")
    rows: int = Field(default=25, ge=1, le=0xFFFF, description="height of the console")
    ports: tuple[PortOptions, ...] = Field(
        default=(),
        max_length=MAX_PORTS - 1,
        description="further ports: name, and backend none or channel:NAME",
    )

    @field_validator("ports")
    @classmethod
    def _names_differ(cls, ports: tuple[PortOptions, ...]) -> tuple[PortOptions, ...]:
        names = [port.name for port in ports]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two ports have the name '{twice}', names must differ")
        return ports


class Port:
    """One port: its other end, input that has not found a buffer yet, and the guest's side."""

    __slots__ = ("channel", "name", "open", "pending")

    def __init__(self, name: str, channel: ByteChannel) -> None:
        self.name = name
        self.channel = channel
        self.pending = b""
        self.open = False


class VirtioConsole(VirtioDevice):
    """A console and named ports."""

    Options = VirtioConsoleOptions
    type = "virtio.console"
    summary = "virtio console with named ports"
    device_id = 3
    features = F_SIZE | F_MULTIPORT | F_EMERG_WRITE

    cols = Register(CONFIG + 0x0, size=2, access="ro", doc="width of the console")
    rows = Register(CONFIG + 0x2, size=2, access="ro", doc="height of the console")
    max_nr_ports = Register(CONFIG + 0x4, access="ro", doc="ports of the device")
    emerg_wr = Register(CONFIG + 0x8, access="wo", writable=0, doc="writes one character")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        specs = [("", options.backend), *((port.name, port.backend) for port in options.ports)]
        names = ["receiveq0", "transmitq0", "control receiveq", "control transmitq"]
        for number in range(1, len(specs)):
            names += [f"receiveq{number}", f"transmitq{number}"]
        self.queue_names = names
        super().__init__(name, options, board)
        self.ports = [
            Port(label, board.channel(None if backend == "none" else backend))
            for label, backend in specs
        ]
        self._control: deque[bytes] = deque()
        for number, port in enumerate(self.ports):
            port.channel.on_readable(partial(self._deliver, number))

    def reset(self) -> None:
        super().reset()
        self._control.clear()
        for port in self.ports:
            port.open = False

    def on_queue(self, index: int) -> None:
        if index == _CONTROL_RX:
            self._send_control()
        elif index == _CONTROL_TX:
            self._take_control()
        elif index & 1:
            self._take_output(index)
        else:
            self._deliver(index // 2 - 1 if index else 0)

    # -- data ---------------------------------------------------------------------------------

    def _take_output(self, index: int) -> None:
        channel = self.ports[max(index // 2 - 1, 0)].channel
        for chain in self.chains(index):
            for start in range(0, min(chain.read_size, MAX_WRITE), _PIECE):
                channel.write(chain.read(start, _PIECE))
            self.complete(chain, 0)

    def _deliver(self, number: int) -> None:
        """Give the guest input as far as it has buffers: the channel holds the rest."""
        port = self.ports[number]
        listening = port.open if self.accepted(F_MULTIPORT) else number == 0
        if not self.running or not listening:
            return
        index = 2 * number + 2 if number else 0
        for _ in range(self.queues[index].size):
            if not port.pending:
                port.pending = port.channel.read(_PIECE)
            if not port.pending:
                return
            chain = self.pop(index)
            if chain is None:
                return
            written = chain.write(port.pending)
            port.pending = port.pending[written:]
            self.complete(chain, written)

    @emerg_wr.on_write
    def _write_emergency(self, value: int) -> None:
        self.ports[0].channel.write(bytes((value & 0xFF,)))

    # -- control ------------------------------------------------------------------------------

    def _take_control(self) -> None:
        for chain in self.chains(_CONTROL_TX):
            message = chain.read(0, _CONTROL.size)
            self.complete(chain, 0)
            if len(message) == _CONTROL.size and self.accepted(F_MULTIPORT):
                self._handle(*_CONTROL.unpack(message))

    def _handle(self, number: int, event: int, value: int) -> None:
        if event == DEVICE_READY:
            for index in range(len(self.ports) if value else 0):
                self._tell(index, PORT_ADD)
        elif number >= len(self.ports):
            return
        elif event == PORT_READY and value:
            if number == 0:
                self._tell(number, CONSOLE_PORT, 1)
            else:
                self._tell(number, PORT_NAME, 1, self.ports[number].name.encode())
            self._tell(number, PORT_OPEN, 1)
        elif event == PORT_OPEN:
            self.ports[number].open = bool(value)
            self._deliver(number)

    def _tell(self, number: int, event: int, value: int = 0, text: bytes = b"") -> None:
        # A driver asks once per port; one that goes on asking gets no more answers.
        if len(self._control) < 4 * len(self.ports):
            self._control.append(_CONTROL.pack(number, event, value) + text)
            self._send_control()

    def _send_control(self) -> None:
        while self._control:
            chain = self.pop(_CONTROL_RX)
            if chain is None:
                return
            self.complete(chain, chain.write(self._control.popleft()))

    # -- configuration and snapshots ----------------------------------------------------------

    @cols.on_read
    def _read_cols(self) -> int:
        return int(self.options.columns)

    @rows.on_read
    def _read_rows(self) -> int:
        return int(self.options.rows)

    @max_nr_ports.on_read
    def _read_max_ports(self) -> int:
        return len(self.ports)

    def save(self) -> dict[str, Any]:
        state = super().save()
        state["control"] = list(self._control)
        state["ports"] = [[port.open, port.pending] for port in self.ports]
        return state

    def load(self, state: dict[str, Any]) -> None:
        if len(state["ports"]) != len(self.ports):
            raise ValueError(
                f"{self.name}: the snapshot has {len(state['ports'])} ports, "
                f"the device has {len(self.ports)}"
            )
        self._control = deque(state["control"])
        for port, (is_open, pending) in zip(self.ports, state["ports"], strict=True):
            port.open = is_open
            port.pending = pending
        super().load(state)

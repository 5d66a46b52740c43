"""Virtio network device.

Follows VIRTIO 1.2, section 5.1, "Network Device": one pair of queues and no offloads, so a buffer
is a header of 12 bytes and one Ethernet frame.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

from pydantic import Field, field_validator

from devices.net import NetOptions, NoLink, open_net
from hypervisor.device import Board, Options, PacketHook, Register
from hypervisor.device.virtio import CONFIG, Chain, VirtioDevice

F_MAC = 1 << 5
F_MRG_RXBUF = 1 << 15
F_STATUS = 1 << 16

MIN_FRAME, MAX_FRAME = 14, 65_550
MAX_WAITING = 4096
"""Frames that wait for buffers of the guest; what comes then is dropped, as on a real wire."""

_RX, _TX = 0, 1
_HEADER = 12
_LINK_UP = 1


class VirtioNetOptions(Options, NetOptions):
    mac: str | None = Field(
        default=None, description="MAC address; unless given, one made of the device's name"
    )

    @field_validator("mac")
    @classmethod
    def _is_station(cls, mac: str | None) -> str | None:
        if mac is not None:
            try:
                address = bytes.fromhex(mac.replace(":", " "))
            except ValueError:
                address = b""
            if len(address) != 6 or mac.count(":") != 5 or address[0] & 1 or not any(address):
                raise ValueError(
                    f"'{mac}' is not the MAC address of one station, such as 52:54:00:12:34:56"
                )
        return mac


class VirtioNet(VirtioDevice):
    """A network interface."""

    Options = VirtioNetOptions
    type = "virtio.net"
    summary = "virtio network interface"
    device_id = 1
    fault_points = frozenset({"packets"})
    queue_names = ("receiveq", "transmitq")
    features = F_MAC | F_MRG_RXBUF | F_STATUS
    state = ("rx_dropped", "tx_dropped")

    mac = Register(CONFIG, size=1, count=6, access="ro", doc="MAC address")
    link_status = Register(CONFIG + 6, size=2, reset=_LINK_UP, access="ro", fields={"LINK_UP": 0})

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.address = _address(name, options.mac)
        self.rx_dropped = 0
        """Frames to the guest that found no buffer, in total."""
        self.tx_dropped = 0
        """Frames of the guest whose length no frame has."""
        self._waiting: deque[bytes] = deque()
        self._dead = False
        self.packet_fault: PacketHook | None = None
        if options.pcap is not None:
            options = options.model_copy(update={"pcap": board.path(options.pcap)})
        self.backend = NoLink() if board.offline else open_net(options, self.clock.now)
        self.live = self.backend.live
        self._repeating = board.repeating
        self.backend.open(board.post, board.frames(name, self._received))

    def reset(self) -> None:
        super().reset()
        self._waiting.clear()

    def on_queue_reset(self, index: int) -> None:
        if index == _RX:
            self._waiting.clear()

    def close(self) -> None:
        self.backend.close()

    def on_queue(self, index: int) -> None:
        if index == _TX:
            self._transmit()
        else:
            self._deliver()

    @mac.on_read
    def _read_mac(self, index: int) -> int:
        return self.address[index]

    # -- frames -------------------------------------------------------------------------------

    def _transmit(self) -> None:
        for chain in self.chains(_TX):
            size = chain.read_size - _HEADER
            if not MIN_FRAME <= size <= MAX_FRAME:
                self.tx_dropped += 1
            elif self.packet_fault is None or not self.packet_fault("sent", size):
                frame = chain.read(_HEADER, MAX_FRAME)
                if not self._repeating():
                    self.backend.send(frame)
            self.complete(chain, 0)
        problem = self.backend.problem
        if problem is not None and not self._dead:
            self._dead = True
            self.complain(problem)

    def _received(self, frame: bytes) -> None:
        """A frame from the link, at a safe point."""
        if not self.running or len(self._waiting) >= MAX_WAITING:
            self.rx_dropped += 1
            return
        if self.packet_fault is not None and self.packet_fault("received", len(frame)):
            return
        self._waiting.append(frame)
        self._deliver()

    def _deliver(self) -> None:
        """Put waiting frames into the guest's buffers, and hear of new ones only while any wait."""
        if not self.running:
            return
        while self._waiting and self._put(self._waiting[0]):
            self._waiting.popleft()
        if self.running:
            self.queues[_RX].want_notify(bool(self._waiting))

    def _put(self, frame: bytes) -> bool:
        """Write one frame, over several buffers if the driver merges them (section 5.1.6.4).
        False when there are not enough."""
        queue = self.queues[_RX]
        needed = _HEADER + len(frame)
        merging = self.accepted(F_MRG_RXBUF)
        chains: list[Chain] = []
        room = 0
        while room < needed and len(chains) < queue.size:
            chain = self.pop(_RX)
            if chain is None:
                if self.running:
                    queue.give_back(len(chains))
                return False
            chains.append(chain)
            room += chain.write_size
            if not merging:
                break
        if room < needed or chains[0].write_size < _HEADER:
            # Not even all buffers of this driver could take the frame.
            self.rx_dropped += 1
            queue.give_back(len(chains))
            return True
        header = bytes(_HEADER - 2) + len(chains).to_bytes(2, "little")
        rest = memoryview(header + frame)
        for chain in chains:
            written = chain.write(rest)
            rest = rest[written:]
            self.complete(chain, written)
        return True

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {**super().save(), "waiting": list(self._waiting)}

    def load(self, state: dict[str, Any]) -> None:
        self._waiting = deque(state["waiting"][:MAX_WAITING])
        super().load(state)


def _address(name: str, mac: str | None) -> bytes:
    """The MAC address: the given one, or a locally administered one of the name."""
    if mac is not None:
        return bytes.fromhex(mac.replace(":", " "))
    return b"\x52\x54\x00" + hashlib.sha256(name.encode()).digest()[:3]

"""A guest without a machine: just enough of ARP, DHCP, UDP and TCP to talk through a link.

RFC 826, 791, 768, 9293 and 2131. One exchange at a time, no retransmission: the links under test
lose nothing at this pace. Every wait is bounded.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from devices.net import Link

B = TypeVar("B", bound="Bench")
BROADCAST = b"\xff" * 6
ANY = "0.0.0.0"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Bench:
    """The machine's side of a link: posted callables run when `pump` is called."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.received: list[bytes] = []
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def open(self) -> Bench:
        self.link.open(self.post, self.received.append)
        return self

    def post(self, work: Callable[[], None]) -> None:
        self._posted.put(work)

    @property
    def posted(self) -> int:
        return self._posted.qsize()

    def pump(self, timeout: float = 0.0) -> None:
        """Run one posted callable, waiting for it at most `timeout` seconds."""
        try:
            self._posted.get(timeout=max(timeout, 0.0001))()
        except queue.Empty:
            return

    def wait(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Pump until the condition holds; fails when it does not in time."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.pump(0.05)


class Guest(Bench):
    """A host of its own on the link."""

    def __init__(self, link: Link, mac: str = "52:54:00:12:34:56") -> None:
        super().__init__(link)
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.address = ANY
        self.neighbours: dict[str, bytes] = {}
        self._next_port = 40000

    def next_frame(self, wanted: Callable[[bytes], bool], timeout: float = 10.0) -> bytes:
        """The first frame that is wanted; answers ARP questions on the way, drops the rest."""
        found: list[bytes] = []

        def look() -> bool:
            while self.received and not found:
                frame = self.received.pop(0)
                self._answer_arp(frame)
                found.extend([frame] if wanted(frame) else [])
            return bool(found)

        self.wait(look, timeout)
        return found[0]

    # ARP

    def resolve(self, address: str) -> bytes:
        if address not in self.neighbours:
            self._arp(1, BROADCAST, bytes(6), address)
            reply = self.next_frame(
                lambda f: (
                    f[12:14] == b"\x08\x06"
                    and f[20:22] == b"\0\2"
                    and socket.inet_ntoa(f[28:32]) == address
                )
            )
            self.neighbours[address] = reply[22:28]
        return self.neighbours[address]

    def _answer_arp(self, frame: bytes) -> None:
        question = frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1"
        if question and socket.inet_ntoa(frame[38:42]) == self.address:
            self._arp(2, frame[6:12], frame[22:28], socket.inet_ntoa(frame[28:32]))

    def _arp(self, operation: int, to: bytes, target: bytes, address: str) -> None:
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
        body += self.mac + socket.inet_aton(self.address) + target + socket.inet_aton(address)
        self.link.send(to + self.mac + b"\x08\x06" + body)

    # IPv4

    def send_ip(self, protocol: int, to: str, payload: bytes, mac: bytes | None = None) -> None:
        header = struct.pack(
            ">BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(payload),
            1,
            0x4000,
            64,
            protocol,
            0,
            socket.inet_aton(self.address),
            socket.inet_aton(to),
        )
        header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
        self.link.send((mac or self.resolve(to)) + self.mac + b"\x08\x00" + header + payload)

    def pseudo(self, protocol: int, to: str, length: int) -> bytes:
        return (
            socket.inet_aton(self.address)
            + socket.inet_aton(to)
            + struct.pack(">BBH", 0, protocol, length)
        )

    def next_ip(self, protocol: int, port: int) -> tuple[str, bytes]:
        """Source address and payload of the next packet to this port."""
        frame = self.next_frame(
            lambda f: (
                f[12:14] == b"\x08\x00"
                and f[23] == protocol
                and f[36:38] == struct.pack(">H", port)
            )
        )
        length = struct.unpack(">H", frame[16:18])[0]
        return socket.inet_ntoa(frame[26:30]), frame[34 : 14 + length]

    # UDP

    def send_udp(
        self, source: int, to: str, port: int, data: bytes, mac: bytes | None = None
    ) -> None:
        length = 8 + len(data)
        bare = struct.pack(">HHHH", source, port, length, 0) + data
        check = checksum(self.pseudo(17, to, length) + bare) or 0xFFFF
        self.send_ip(17, to, bare[:6] + struct.pack(">H", check) + data, mac)

    def next_udp(self, port: int) -> tuple[str, int, bytes]:
        """Source address, source port and data of the next datagram to `port`."""
        address, packet = self.next_ip(17, port)
        return address, struct.unpack(">H", packet[:2])[0], packet[8:]

    # DHCP

    def lease(self) -> dict[int, bytes]:
        """Discover and request; takes the address and returns the options of the ACK."""
        offer, address = self._dhcp(b"\x35\x01\x01", 2)
        request = b"\x35\x01\x03\x32\x04" + socket.inet_aton(address) + b"\x36\x04" + offer[54]
        options, self.address = self._dhcp(request, 5)
        return options

    def _dhcp(self, options: bytes, answer: int) -> tuple[dict[int, bytes], str]:
        head = struct.pack(">BBBBIHH", 1, 1, 6, 0, 0xCAFE0001, 0, 0x8000) + bytes(16)
        message = head + self.mac + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63"
        message += options + b"\x37\x04\x01\x03\x06\x1a\xff"
        self.send_udp(68, "255.255.255.255", 67, message.ljust(300, b"\0"), BROADCAST)
        reply = self.next_udp(68)[2]
        found: dict[int, bytes] = {}
        at = 240
        while reply[at] != 255:
            if reply[at] == 0:
                at += 1
                continue
            found[reply[at]] = reply[at + 2 : at + 2 + reply[at + 1]]
            at += 2 + reply[at + 1]
        assert found[53] == bytes([answer])
        return found, socket.inet_ntoa(reply[16:20])

    # TCP

    def connect(self, to: str, port: int) -> Connection:
        self._next_port += 1
        connection = Connection(self, self._next_port, to, port)
        connection.segment(SYN)
        connection.take()
        connection.segment(ACK)
        return connection

    def accept(self, port: int) -> Connection:
        """Answer the next connection to a port of ours."""
        source, packet = self.next_ip(6, port)
        connection = Connection(self, port, source, struct.unpack(">H", packet[:2])[0])
        connection.digest(packet)
        connection.segment(SYN | ACK)
        return connection


class Connection:
    """One TCP connection; segments are taken in order only, which is enough here."""

    def __init__(self, guest: Guest, local: int, to: str, port: int) -> None:
        self.guest, self.local, self.to, self.port = guest, local, to, port
        self.sequence = 1000
        self.expected = 0
        self.finished = False

    def segment(self, flags: int, data: bytes = b"") -> None:
        options = b"\x02\x04\x05\xb4" if flags & SYN else b""
        words = 5 + len(options) // 4
        bare = (
            struct.pack(
                ">HHIIBBHHH",
                self.local,
                self.port,
                self.sequence,
                self.expected,
                words << 4,
                flags,
                0xFFFF,
                0,
                0,
            )
            + options
            + data
        )
        check = checksum(self.guest.pseudo(6, self.to, len(bare)) + bare)
        self.guest.send_ip(6, self.to, bare[:16] + struct.pack(">H", check) + bare[18:])
        self.sequence += len(data) + bool(flags & (SYN | FIN))

    def take(self) -> bytes:
        """The data of the next segment."""
        return self.digest(self.guest.next_ip(6, self.local)[1])

    def digest(self, packet: bytes) -> bytes:
        _, _, sequence, _, offset, flags = struct.unpack(">HHIIBB", packet[:14])
        assert not flags & RST, "connection reset"
        data = packet[(offset >> 4) * 4 :]
        if flags & SYN:
            self.expected = sequence
        if sequence != self.expected:
            return b""
        self.expected = (self.expected + len(data) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        self.finished = bool(flags & FIN)
        return data

    def read(self, length: int) -> bytes:
        """That many bytes, or more that came with them."""
        data = b""
        while len(data) < length:
            data += self.take()
        return data

    def fetch(self, data: bytes) -> bytes:
        """Send, then read until the other side has finished."""
        self.segment(ACK | PSH, data)
        pieces = []
        while not self.finished:
            before = self.expected
            pieces.append(self.take())
            if self.expected != before:  # an ACK of nothing new asks passt to send all again
                self.segment(ACK)
        self.segment(FIN | ACK)
        return b"".join(pieces)

    def finish(self, data: bytes) -> None:
        """Send the last data, and that it is the last."""
        self.segment(ACK)
        self.segment(FIN | ACK | PSH, data)


class Servers:
    """Small servers on the host's loopback, each in a thread that ends with its socket."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def udp_echo(self) -> int:
        """A port that sends every datagram back in capitals."""
        server = self._socket(socket.SOCK_DGRAM)

        def serve() -> None:
            data, peer = server.recvfrom(65536)
            server.sendto(data.upper(), peer)

        return self._start(server, serve)

    def tcp_once(self, answer: bytes) -> int:
        """A port that reads one line and sends `answer` after it."""
        server = self._socket(socket.SOCK_STREAM)
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.settimeout(10)
                line = client.recv(100)
                client.sendall(line + answer)

        return self._start(server, serve)

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def close(self) -> None:
        for server in self._sockets:
            server.close()

    def _socket(self, kind: int) -> socket.socket:
        server = socket.socket(socket.AF_INET, kind)
        server.settimeout(10)
        server.bind(("127.0.0.1", 0))
        self._sockets.append(server)
        return server

    def _start(self, server: socket.socket, serve: Callable[[], None]) -> int:
        port = int(server.getsockname()[1])
        threading.Thread(target=serve, daemon=True).start()
        return port


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def bench() -> Iterator[Callable[[Link], Bench]]:
    """Opens a link on a bench of its own and closes it after the test."""
    yield from _opened(Bench)


@pytest.fixture
def guest() -> Iterator[Callable[[Link], Guest]]:
    """Opens a link with a guest on it and closes it after the test."""
    yield from _opened(Guest)


def _opened(kind: type[B]) -> Iterator[Callable[[Link], B]]:
    links: list[Link] = []

    def make(link: Link, **options: str) -> B:
        links.append(link)
        bench = kind(link, **options)
        bench.open()
        return bench

    yield make
    for link in links:
        link.close()

"""Packets of GDB's remote serial protocol: bytes in, packets out, and back (appendix E.1)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

PACKET_SIZE = 0x4000
"""Bytes that a packet may have; a longer one is answered as damaged."""
_START, _END, _ESCAPE, _RUN = b"$#}*"
_ESCAPED = {_START, _END, _ESCAPE, _RUN}


class Signal(Enum):
    """What may come besides a packet."""

    ACK = "+"
    NAK = "-"
    INTERRUPT = "\x03"
    DAMAGED = "damaged"


class Decoder:
    """Finds packets in what a client sends. Holds a bounded number of bytes."""

    def __init__(self) -> None:
        self._body: bytearray | None = None
        self._checksum = b""
        self._closing = False

    def feed(self, data: bytes) -> Iterator[bytes | Signal]:
        """Each packet's contents, unescaped, and each signal, in order."""
        for byte in data:
            if self._closing:
                self._checksum += bytes([byte])
                if len(self._checksum) == 2:
                    yield self._finish()
            elif self._body is None:
                if byte == _START:
                    self._body = bytearray()
                elif byte in b"+-\x03":
                    yield Signal(chr(byte))
            elif byte == _START:  # the packet before was cut short
                self._body.clear()
            elif byte == _END:
                self._closing = True
            elif len(self._body) <= 2 * PACKET_SIZE:
                self._body.append(byte)

    def _finish(self) -> bytes | Signal:
        body, checksum = bytes(self._body or b""), self._checksum
        self._body, self._checksum, self._closing = None, b"", False
        try:
            right = int(checksum, 16) == sum(body) & 0xFF
        except ValueError:
            right = False
        return unescape(body) if right and len(body) <= 2 * PACKET_SIZE else Signal.DAMAGED


def encode(contents: bytes) -> bytes:
    """A whole packet."""
    body = escape(contents)
    return b"$%b#%02x" % (body, sum(body) & 0xFF)


def escape(contents: bytes) -> bytes:
    out = bytearray()
    for byte in contents:
        out += bytes([_ESCAPE, byte ^ 0x20]) if byte in _ESCAPED else bytes([byte])
    return bytes(out)


def unescape(body: bytes) -> bytes:
    out = bytearray()
    escaped = False
    for byte in body:
        if escaped:
            out.append(byte ^ 0x20)
            escaped = False
        elif byte == _ESCAPE:
            escaped = True
        else:
            out.append(byte)
    return bytes(out)

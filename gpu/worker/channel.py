"""Messages between the hypervisor and a worker, over a stream socket.

To the worker, which the hypervisor may not trust but which trusts the hypervisor: u32 length and
a marshalled object, with at most one file descriptor. Back come u32 length and JSON, which can be
nothing but plain data; or, as it is sent most, what `done` packs.
"""

from __future__ import annotations

import array
import json
import marshal
import socket
import struct
from typing import Any

from gpu.worker.spin import Spin

_LENGTH = struct.Struct("<I")
_DONE = struct.Struct("<IBQQ")
_FD_SPACE = socket.CMSG_SPACE(4)
_AT_ONCE = 1 << 16
_SPIN = 250e-6
"""Seconds of asking again for the next message after the last: a slow host's hypervisor takes more
than half of it from one launch to the next."""


class Channel:
    """The worker's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._spin = Spin(connection.fileno(), _SPIN)

    def receive(self) -> Any:
        """The next message; EOFError when the hypervisor is gone."""
        if not self._buffer:
            self._spin.wait()
        self._fill(_LENGTH.size)
        size = _LENGTH.unpack_from(self._buffer)[0]
        end = _LENGTH.size + size
        self._fill(end)
        message = marshal.loads(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        return message

    def take_fd(self) -> int:
        """The file descriptor that came with a message."""
        return self._fds.pop(0)

    def send(self, message: Any) -> None:
        body = json.dumps(message, separators=(",", ":")).encode()
        self._socket.sendall(_LENGTH.pack(len(body)) + body)

    def done(self, number: int, copied: int) -> None:
        """All up to a message is done, and nothing of the last failed."""
        self._socket.sendall(_DONE.pack(_DONE.size - _LENGTH.size, 1, number, copied))

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data, ancillary, _, _ = self._socket.recvmsg(_AT_ONCE, _FD_SPACE)
            if not data:
                raise EOFError
            self._buffer += data
            for _, _, payload in ancillary:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % 4])
                self._fds += fds

"""Messages between the hypervisor and a worker, over a stream socket.

To the worker, which the hypervisor may not trust but which trusts the hypervisor: u32 length and
a marshalled object, with at most one file descriptor. Back come u32 length and JSON, which can be
nothing but plain data.
"""

from __future__ import annotations

import array
import json
import marshal
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("<I")
_FD_SPACE = socket.CMSG_SPACE(4)


class Channel:
    """The worker's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._fds: list[int] = []

    def receive(self) -> Any:
        """The next message; EOFError when the hypervisor is gone."""
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

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data, ancillary, _, _ = self._socket.recvmsg(1 << 20, _FD_SPACE)
            if not data:
                raise EOFError
            self._buffer += data
            for _, _, payload in ancillary:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % 4])
                self._fds += fds

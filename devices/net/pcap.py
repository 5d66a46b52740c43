"""Writes what goes over a link to a file that tcpdump and Wireshark read.

Format: IETF draft-ietf-opsawg-pcap, the nanosecond variant, link type 1 (Ethernet). The times are
the machine's virtual ones, so two equal runs write equal files.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Callable
from typing import BinaryIO

from devices.net.frames import MAX_FRAME
from devices.net.link import Link, Post, Receive
from hypervisor.device import BackendError

_log = logging.getLogger(__name__)

_MAGIC = 0xA1B23C4D
_ETHERNET = 1
_FILE_HEADER = struct.Struct("<IHHiIII")
_RECORD_HEADER = struct.Struct("<IIII")
_SECOND = 1_000_000_000


class PcapLink:
    """A link that records both directions of another one.

    Frames are recorded when the guest sends them and when they are handed to its device. Each goes
    to the file at once, so that the file can be watched and a killed machine loses nothing.
    """

    def __init__(self, inner: Link, path: str, clock: Callable[[], int]) -> None:
        """`clock` gives the virtual time in ns; it is called on the machine's thread."""
        self.live = inner.live
        self.stats = inner.stats
        self._inner = inner
        self._path = path
        self._clock = clock
        self._file: BinaryIO | None = None

    @property
    def problem(self) -> str | None:
        return self._inner.problem

    def open(self, post: Post, receive: Receive) -> None:
        """Begin a new file, over one that may be there. Raises BackendError."""
        try:
            self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise BackendError(
                f"{self._path}: cannot write frames there: {error.strerror}"
            ) from None
        self._write(_FILE_HEADER.pack(_MAGIC, 2, 4, 0, 0, MAX_FRAME, _ETHERNET))

        def record_and_receive(frame: bytes) -> None:
            self._record(frame)
            receive(frame)

        try:
            self._inner.open(post, record_and_receive)
        except BaseException:
            self._stop()
            raise

    def send(self, frame: bytes) -> None:
        self._record(frame)
        self._inner.send(frame)

    def close(self) -> None:
        self._inner.close()
        self._stop()

    def _record(self, frame: bytes) -> None:
        if self._file is None:
            return
        seconds, rest = divmod(self._clock(), _SECOND)
        kept = frame[:MAX_FRAME]
        header = _RECORD_HEADER.pack(seconds & 0xFFFFFFFF, rest, len(kept), len(frame))
        self._write(header + kept)

    def _write(self, data: bytes) -> None:
        """A file that takes no more ends the recording, not the machine."""
        if self._file is None:
            return
        try:
            if self._file.write(data) == len(data):
                return
            reason = os.strerror(errno.ENOSPC)
        except OSError as error:
            reason = str(error.strerror)
        _log.warning("%s: recording of frames ends: %s", self._path, reason)
        self._stop()

    def _stop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

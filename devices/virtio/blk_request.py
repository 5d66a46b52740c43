"""Block requests on their way: taken from the driver, run once at the host, then answered.

Follows VIRTIO 1.2, section 5.2.6, "Device Operation".
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from hypervisor.device.virtio import Chain, Queue

SECTOR = 512
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2

_RANGE = Struct("<QII")
_UNMAP = 1

MAX_RANGES = 64
MAX_RANGE_SECTORS = 1 << 22
"""Of one range to discard or zero: 2 GiB."""


class Outcome(NamedTuple):
    """What the driver will see of a request: its status, and the data that it reads."""

    status: int
    data: bytes = b""
    error: str = ""


class Request:
    """A request that the host does at `run`. `at` is the virtual time of its completion (ns)."""

    __slots__ = ("_work", "at", "chain", "outcome", "size")

    def __init__(self, chain: Chain, at: int, size: int, work: Callable[[], bytes]) -> None:
        self.chain = chain
        self.at = at
        self.size = size
        self._work: Callable[[], bytes] | None = work
        self.outcome = Outcome(OK)

    def run(self) -> None:
        """Do the work if it is not yet done. The caller holds the disk's lock."""
        if self._work is not None:
            work, self._work = self._work, None
            try:
                self.outcome = Outcome(OK, work())
            except Exception as error:  # whatever the host's failure, it is the guest's to handle
                self.outcome = Outcome(IOERR, error=str(error) or type(error).__name__)

    def save(self) -> dict[str, Any]:
        """What a snapshot carries of a request that ran."""
        return {
            "head": self.chain.head,
            "writable": [list(segment) for segment in self.chain.writable],
            "at": self.at,
            "size": self.size,
            "outcome": list(self.outcome),
        }

    @classmethod
    def load(cls, queue: Queue, state: dict[str, Any]) -> Request:
        """The saved request, with its outcome; ValueError where a snapshot can not be right."""
        segments = [(int(address), int(size)) for address, size in state["writable"]]
        status, data, error = state["outcome"]
        if not segments or not all(queue.memory.contains(*segment) for segment in segments):
            raise ValueError("the snapshot has a disk request outside RAM")
        if status not in (OK, IOERR) or not 0 <= state["head"] < 1 << 16 or state["size"] < 0:
            raise ValueError("the snapshot has a disk request that can not be")
        chain = Chain(queue, state["head"], [], segments)
        request = cls(chain, int(state["at"]), state["size"], bytes)
        request._work = None
        request.outcome = Outcome(status, bytes(data), str(error))
        return request


class BadRequestError(Exception):
    """A request to be answered with `status`, without asking the host."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def check_sectors(sector: int, length: int, size: int) -> int:
    """The byte offset of `length` bytes at `sector` of a disk of `size` bytes."""
    offset = sector * SECTOR
    if not length or length % SECTOR or offset + length > size:
        raise BadRequestError(IOERR)
    return offset


def parse_ranges(kind: int, data: bytes, size: int) -> list[tuple[int, int, bool]]:
    """The (offset, bytes, unmap) of a discard or write-zeroes request on a disk of `size` bytes."""
    if not data or len(data) % _RANGE.size or len(data) > MAX_RANGES * _RANGE.size:
        raise BadRequestError(IOERR)
    ranges = []
    for sector, sectors, flags in _RANGE.iter_unpack(data):
        if flags & ~_UNMAP or (kind == DISCARD and flags):
            raise BadRequestError(UNSUPP)
        if sectors > MAX_RANGE_SECTORS:
            raise BadRequestError(IOERR)
        offset = check_sectors(sector, sectors * SECTOR, size)
        ranges.append((offset, sectors * SECTOR, bool(flags)))
    return ranges

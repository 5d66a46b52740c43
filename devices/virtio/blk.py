"""Virtio block device.

Follows VIRTIO 1.2, section 5.2, "Block Device". A request runs on a host thread and is answered at
a virtual time that a latency model gives: so how fast the host is does not change the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from pydantic import Field

from devices.disk import open_disk
from devices.disk.replayed import ReplayedDisk
from devices.virtio.blk_request import (
    DISCARD,
    FLUSH,
    GET_ID,
    IN,
    IOERR,
    MAX_RANGE_SECTORS,
    MAX_RANGES,
    OUT,
    SECTOR,
    UNSUPP,
    WRITE_ZEROES,
    BadRequestError,
    Outcome,
    Request,
    check_sectors,
    parse_ranges,
)
from hypervisor.device import (
    BackendError,
    Board,
    Duration,
    FileRef,
    Options,
    Register,
    RequestHook,
    Size,
)
from hypervisor.device.virtio import CONFIG, Chain, VirtioDevice

F_SEG_MAX = 1 << 2
F_RO = 1 << 5
F_BLK_SIZE = 1 << 6
F_FLUSH = 1 << 9
F_TOPOLOGY = 1 << 10
F_CONFIG_WCE = 1 << 11
F_DISCARD = 1 << 13
F_WRITE_ZEROES = 1 << 14

MAX_REQUEST = 64 << 20
"""Bytes in one request; also about the most that all requests in flight hold."""

_ID_SIZE = 20
_HEADER = 16
_PAGE_SECTORS = 8
_OPERATIONS = {
    IN: "read",
    OUT: "write",
    FLUSH: "flush",
    DISCARD: "discard",
    WRITE_ZEROES: "discard",
}
"""Names of the requests that can be made to go wrong."""


class VirtioBlkOptions(Options):
    file: FileRef = Field(description="disk image")
    format: Literal["auto", "raw", "qcow2"] = Field(default="auto", description="image format")
    overlay: Literal["none", "discard", "keep"] = Field(
        default="none",
        description="where writes go: the file, an overlay dropped at the end, or one that is kept",
    )
    read_only: bool = Field(default=False, description="refuse writes")
    serial: str = Field(default="", max_length=_ID_SIZE, description="serial number, ASCII")
    latency: Duration = Field(default=100_000, description="time a request takes on the medium")
    bandwidth: Size = Field(default=2 << 30, gt=0, description="bytes per second of the medium")


class VirtioBlk(VirtioDevice):
    """A disk with one queue of requests."""

    Options = VirtioBlkOptions
    type = "virtio.blk"
    summary = "virtio disk"
    device_id = 2
    fault_points = frozenset({"requests"})
    queue_names = ("requestq",)

    capacity = Register(CONFIG + 0x00, size=8, access="ro", doc="512-byte sectors")
    seg_max = Register(CONFIG + 0x0C, reset=254, access="ro", doc="data segments in a request")
    blk_size = Register(CONFIG + 0x14, reset=SECTOR, access="ro", doc="bytes in a block")
    physical_block_exp = Register(CONFIG + 0x18, size=1, reset=3, access="ro")
    alignment_offset = Register(CONFIG + 0x19, size=1, access="ro")
    min_io_size = Register(CONFIG + 0x1A, size=2, reset=_PAGE_SECTORS, access="ro")
    opt_io_size = Register(CONFIG + 0x1C, access="ro")
    writeback = Register(CONFIG + 0x20, size=1, reset=1, writable=1, doc="0: writes are durable")
    max_discard_sectors = Register(CONFIG + 0x24, reset=MAX_RANGE_SECTORS, access="ro")
    max_discard_seg = Register(CONFIG + 0x28, reset=MAX_RANGES, access="ro")
    discard_sector_alignment = Register(CONFIG + 0x2C, reset=_PAGE_SECTORS, access="ro")
    max_write_zeroes_sectors = Register(CONFIG + 0x30, reset=MAX_RANGE_SECTORS, access="ro")
    max_write_zeroes_seg = Register(CONFIG + 0x34, reset=MAX_RANGES, access="ro")
    write_zeroes_may_unmap = Register(CONFIG + 0x38, size=1, reset=1, access="ro")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        if not options.serial.isascii():
            raise BackendError(f"{name}: the serial number {options.serial!r} is not ASCII")
        self.backend = open_disk(
            board.path(options.file),
            overlay=options.overlay,
            read_only=options.read_only,
            format=options.format,
            replayed=board.offline,
        )
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE
        if self.backend.read_only:
            self.features |= F_RO
        else:
            self.features |= F_DISCARD | F_WRITE_ZEROES
        # A request runs under the lock, on the host's thread or, where its effect must be settled
        # now, on the machine's.
        self._lock = threading.Lock()
        self._in_flight: dict[int, Request] = {}
        self._bytes = 0
        self._busy_until = 0
        self._restored: list[dict[str, Any]] = []
        self.request_fault: RequestHook | None = None

    def reset(self) -> None:
        self._forget()
        super().reset()
        self._busy_until = 0

    def on_queue_reset(self, index: int) -> None:
        self._forget()

    def close(self) -> None:
        self._forget()
        self.backend.close()

    @property
    def writes_in_place(self) -> str:
        replayed = isinstance(self.backend, ReplayedDisk)
        temporary = self.options.overlay == "discard" or self.backend.read_only or replayed
        return "" if temporary else str(self.options.file)

    def fingerprint(self) -> dict[str, Any]:
        if isinstance(self.backend, ReplayedDisk):
            return self._save(self.backend.content)
        return self.save()

    @capacity.on_read
    def _read_capacity(self) -> int:
        return self.backend.size // SECTOR

    # -- requests -----------------------------------------------------------------------------

    def on_queue(self, index: int) -> None:
        if self._bytes >= MAX_REQUEST:
            # The rest waits until completions make room.
            return
        for chain in self.chains(index):
            header = chain.read(0, _HEADER)
            if len(header) < _HEADER or not chain.write_size:
                self.fail(index, "has a request without a header or a place for the status")
                return
            kind = int.from_bytes(header[:4], "little")
            sector = int.from_bytes(header[8:], "little")
            try:
                size, work = self._prepare(kind, sector, chain)
            except BadRequestError as error:
                self._answer(chain, Outcome(error.status))
                continue
            delay = 0
            if self.request_fault is not None and kind in _OPERATIONS:
                fault = self.request_fault(_OPERATIONS[kind], sector * SECTOR, size)
                if fault is not None:
                    delay = fault.delay
                    work = partial(_fail, fault.error) if fault.error else work
            self._submit(chain, size, work, delay)
            if self._bytes >= MAX_REQUEST:
                return

    def _prepare(self, kind: int, sector: int, chain: Chain) -> tuple[int, Callable[[], bytes]]:
        """How many bytes of the host's memory a request needs, and what the host has to do."""
        backend = self.backend
        if kind == IN:
            length = chain.write_size - 1
            return self._sized(length), partial(
                backend.read, check_sectors(sector, length, backend.size), length
            )
        if kind == GET_ID:
            return 0, self._identify
        if kind == FLUSH:
            return 0, partial(self._write, [], flush=True)
        if kind not in (OUT, DISCARD, WRITE_ZEROES):
            raise BadRequestError(UNSUPP)
        length = self._sized(chain.read_size - _HEADER)
        if backend.read_only:
            raise BadRequestError(IOERR)
        if kind == OUT:
            offset = check_sectors(sector, length, backend.size)
            data = chain.read(_HEADER, length)
            steps: list[Callable[[], None]] = [partial(backend.write, offset, data)]
        else:
            payload = chain.read(_HEADER, min(length, MAX_RANGES * 16 + 1))
            steps = [
                partial(
                    backend.discard if unmap or kind == DISCARD else backend.write_zeroes,
                    offset,
                    size,
                )
                for offset, size, unmap in parse_ranges(kind, payload, backend.size)
            ]
        return length, partial(self._write, steps, flush=self._write_through)

    @property
    def _write_through(self) -> bool:
        """A driver that can not flush, or chose not to, expects each write to be durable."""
        if self.accepted(F_CONFIG_WCE):
            return not self.writeback
        return not self.accepted(F_FLUSH)

    @staticmethod
    def _sized(length: int) -> int:
        if length > MAX_REQUEST:
            raise BadRequestError(IOERR)
        return length

    def _write(self, steps: list[Callable[[], None]], flush: bool) -> bytes:
        for step in steps:
            step()
        if flush:
            self.backend.flush()
        return b""

    def _identify(self) -> bytes:
        serial: str = self.options.serial
        return serial.encode("ascii").ljust(_ID_SIZE, b"\0")

    # -- completion ---------------------------------------------------------------------------

    def _submit(self, chain: Chain, size: int, work: Callable[[], bytes], delay: int) -> None:
        """Hand a request to the host. The medium moves one request's data at a time; the latencies
        of several requests, and what a fault delays one by (ns), pass side by side."""
        transfer = size * 1_000_000_000 // self.options.bandwidth
        self._busy_until = max(self._busy_until, self.clock.now()) + transfer
        at = self._busy_until + self.options.latency + delay
        self._start(Request(chain, at, size, work))

    def _start(self, request: Request) -> None:
        def run() -> None:
            with self._lock:
                request.run()

        self._in_flight[id(request)] = request
        self._bytes += request.size
        self.board.host.submit(self.backend, run, request.at, partial(self._done, request))

    def _done(self, request: Request, failure: Exception | None) -> None:
        if self._in_flight.get(id(request)) is not request:
            return
        outcome = request.outcome
        if failure is not None:
            outcome = Outcome(IOERR, error=str(failure))
        throttled = self._bytes >= MAX_REQUEST
        del self._in_flight[id(request)]
        self._bytes -= request.size
        if outcome.error:
            self.complain(outcome.error)
        self._answer(request.chain, outcome)
        if throttled and self._bytes < MAX_REQUEST:
            self.on_queue(0)

    def _answer(self, chain: Chain, outcome: Outcome) -> None:
        last = chain.write_size - 1
        written = chain.write(memoryview(outcome.data)[:last])
        chain.write(bytes((outcome.status,)), last)
        # The status counts as written only where all before it is.
        self.complete(chain, last + 1 if written == last else written)

    def _forget(self) -> None:
        """Settle what the host was asked to do, and answer none of it."""
        self._settle()
        for request in self._in_flight.values():
            request.outcome = Outcome(IOERR)  # the host holds requests until their time
        self._in_flight.clear()
        self._bytes = 0

    def _settle(self) -> None:
        """Have all requests in flight done at the host, in their order."""
        with self._lock:
            for request in self._in_flight.values():
                request.run()

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Requests in flight go into the snapshot with their outcome, which no longer depends on
        anything; the guest sees it at the time it would have."""
        return self._save(self.backend.save)

    def _save(self, save_backend: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        self._settle()
        state = super().save()
        state["busy_until"] = self._busy_until
        state["requests"] = [request.save() for request in self._in_flight.values()]
        state["backend"] = dict(save_backend())
        return state

    def load(self, state: dict[str, Any]) -> None:
        self._forget()
        self.backend.load(state["backend"])
        self._busy_until = int(state["busy_until"])
        self._restored = state["requests"]
        super().load(state)

    def restored(self) -> None:
        restored = [Request.load(self.queues[0], state) for state in self._restored]
        self._restored = []
        for request in restored:
            self._start(request)


def _fail(reason: str) -> bytes:
    raise OSError(reason)

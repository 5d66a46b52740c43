"""Writes down what a GPU is asked while a machine runs, so that it can be done again without it.

What the device reads of guest memory is taken when a command is sent, which is when OpenCL says
that it is read; ranges that commands under way have yet to write are left out, since doing the
capture again makes them anew. Buffers that lie in guest memory may be written by the guest at any
time: one that no command under way uses is looked at, and taken where it changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from gpu.capture_file import CaptureWriter, Record
from gpu.core.blobs import Blob, without
from gpu.core.objects import Buffer
from gpu.core.work import Range, Submission, Work
from gpu.options import GpuOptions
from hypervisor.device.board import Board

MAX_MEMORY = 16 << 20
"""Bytes of guest memory that wait to be written down, about."""
_MOST_KNOWN = 1 << 12
"""Buffers whose contents a replay is known to have. One that is forgotten is written again."""


class Capture:
    """Told by the core of everything; `write` takes the records, in order."""

    def __init__(self, board: Board, write: Callable[[Record], None]) -> None:
        self._board = board
        self._write = write
        self._owed: dict[Blob, list[tuple[int, int]]] = {}
        self._in_use: Counter[Range] = Counter()
        """Buffers in guest memory, by how many submissions under way use them."""
        self._known: dict[Range, bytes] = {}
        """Digests of such buffers as a replay has them."""
        self._memory: list[tuple[int, bytes]] = []
        self._memory_size = 0
        self._answers: list[tuple[int, bytes]] = []
        self._is_submitting = False

    def created(self, context: int, label: str) -> None:
        self._record("context", context, label)

    def closed(
        self, context: int, under_way: Iterable[Submission], blobs: Collection[Blob]
    ) -> None:
        """A context is given up, with its submissions that are not complete and its blobs."""
        for submission in under_way:
            for place in submission.outputs:
                self._settle(place)
            for place in submission.in_place:
                self._release(place)
        gone = [place for place in self._known if place[0] in blobs]
        for place in gone:
            del self._known[place]
        self._record("close", context)

    def reset(self) -> None:
        for table in (self._owed, self._in_use, self._known):
            table.clear()
        self._record("reset")

    def granted(self, context: int, blob: int, pieces: Sequence[tuple[int, int]]) -> None:
        if not self._is_submitting:  # else a command of the stream does so again
            self._record("grant", context, blob, [list(piece) for piece in pieces])

    def revoked(self, context: int, blob: int) -> None:
        for place in [place for place in self._known if place[0].is_revoked]:
            del self._known[place]
        if not self._is_submitting:
            self._record("revoke", context, blob)

    def begin_submission(self) -> None:
        self._is_submitting = True

    def reads(self, blob: Blob, offset: int, size: int) -> None:
        """A command that is sent reads a range of a blob."""
        self._know((blob, offset, size))
        for start, end in without((offset, offset + size), self._owed.get(blob, ())):
            for address, length in blob.split(start, end - start):
                for at in range(0, length, MAX_MEMORY):
                    self._keep(address + at, min(length - at, MAX_MEMORY))

    def _keep(self, address: int, size: int) -> None:
        self._memory.append((address, self._board.memory.read(address, size)))
        self._memory_size += size
        if self._memory_size >= MAX_MEMORY:
            self._write_memory()

    def _write_memory(self) -> None:
        if self._memory:
            self._record("memory", [list(each) for each in self._memory])
        self._memory, self._memory_size = [], 0

    def uses(self, work: Work, submission: Submission | None) -> None:
        """A command that is sent works on buffers, of which some lie in guest memory."""
        for thing in work.objects:
            if not isinstance(thing, Buffer):
                continue
            whole = thing.parent or thing
            if whole.blob is None:
                continue
            place = (whole.blob, whole.blob_offset, whole.size)
            if not any(_overlap(place, other) for other in self._in_use):
                digest = _digest(whole.blob.read(*place[1:]))
                if self._known.get(place) != digest:
                    self.reads(*place)
            if submission is not None and place not in submission.in_place:
                submission.in_place[place] = None
                self._in_use[place] += 1

    def writes(self, blob: Blob, offset: int, size: int) -> None:
        """A command that is sent writes a range of a blob."""
        self._owed.setdefault(blob, []).append((offset, offset + size))

    def submitted(self, context: int, submission: Submission, stream: bytes) -> None:
        """All packets of a submission were read."""
        self._is_submitting = False
        self._write_memory()
        self._record("submit", context, submission.ring, submission.tag, stream)

    def answered(self, blob: Blob, offset: int, data: bytes) -> None:
        for address, length in blob.split(offset, len(data)):
            self._answers.append((address, data[:length]))
            data = data[length:]

    def completed(self, context: int, submission: Submission) -> None:
        """A submission's outputs are in guest memory."""
        memory = self._board.memory
        written = [[address, len(data), _digest(data)] for address, data in self._answers]
        self._answers = []
        for place in submission.outputs:
            self._settle(place)
        idle = [place for place in submission.in_place if self._release(place)]
        for place in dict.fromkeys((*submission.outputs, *idle)):
            if place[0].is_revoked:
                continue
            for address, length in place[0].split(*place[1:]):
                written.append([address, length, _digest(memory.read(address, length))])
            self._know(place)
        self._record("done", context, submission.ring, submission.tag, written)

    def _know(self, place: Range) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[place] = _digest(place[0].read(*place[1:]))

    def _settle(self, written: Range) -> None:
        blob, offset, size = written
        owed = self._owed.get(blob, [])
        if (offset, offset + size) in owed:
            owed.remove((offset, offset + size))
        if not owed:
            self._owed.pop(blob, None)

    def _release(self, place: Range) -> bool:
        """A submission is done with a buffer; whether no other one uses it."""
        self._in_use[place] -= 1
        if self._in_use[place] > 0:
            return False
        del self._in_use[place]
        return not any(_overlap(place, other) for other in self._in_use)

    def _record(self, kind: str, *fields: Any) -> None:
        self._write([kind, self._board.clock.now(), *fields])


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _overlap(one: Range, other: Range) -> bool:
    return one[0] is other[0] and one[1] < other[1] + other[2] and other[1] < one[1] + one[2]


class CaptureToFile(Capture):
    """A capture that ends with the machine, or with the first error of the host's."""

    def __init__(self, name: str, options: GpuOptions, board: Board, path: str) -> None:
        self._name = name
        self._options = options
        self._file: CaptureWriter | None = None
        self._is_over = False
        self._path = path
        super().__init__(board, self._to_file)

    def _to_file(self, record: Record) -> None:
        if self._is_over or (self._file is None and record[0] == "reset"):
            return  # nothing was asked: a file of an earlier run stays
        try:
            if self._file is None:
                self._file = CaptureWriter(self._path, self._header())
            self._file.write(record)
            if record[0] == "done":
                self._file.flush()
        except OSError as error:
            self.stop(f"the capture {self._path} ends here: {error.strerror}")

    def _header(self) -> dict[str, Any]:
        memory = self._board.memory
        return {
            "name": self._name,
            "options": self._options.model_dump(mode="json", exclude={"capture"}),
            "memory": [memory.base, memory.size],
            "start": self._board.clock.now(),
        }

    def stop(self, reason: str) -> None:
        """Write no more, and say why."""
        if not self._is_over:
            self._board.log(f"{self._name}: {reason}")
            self.close()

    def close(self) -> None:
        self._is_over = True
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # said, when a record could not be written
                file.close()

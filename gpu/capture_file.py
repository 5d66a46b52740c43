"""Capture files: all that a GPU was asked, with the guest memory that it read.

A zstd frame of CBOR items: a header (a map), then records, each a list that begins with its kind
and a virtual time in ns. Addresses are guest-physical.

    context   number, label
    close     number
    grant     number, blob, [[address, bytes], ...]
    revoke    number, blob
    memory    [[address, data], ...]: what commands of the next submission read. It may have several
    submit    number, ring, tag, stream
    done      number, ring, tag, [[address, bytes, sha256], ...]: what it wrote
    reset
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import cbor2
import zstandard

MAGIC = "hypervisor GPU capture"
VERSION = 1
KINDS = {
    "context": 2,
    "close": 1,
    "grant": 3,
    "revoke": 2,
    "memory": 1,
    "submit": 4,
    "done": 4,
    "reset": 0,
}
"""Fields of each kind of record behind its time."""

Record = list[Any]


class CaptureError(Exception):
    """A capture cannot be read or made: one sentence naming the file."""


class CaptureWriter:
    """Writes a capture. OSError where the file cannot be written."""

    def __init__(self, path: str, header: dict[str, Any]) -> None:
        self._file: BinaryIO = Path(path).open("wb")  # noqa: SIM115 - open for the whole run
        self._stream = zstandard.ZstdCompressor(level=1, write_checksum=True).stream_writer(
            self._file
        )
        self.write({"magic": MAGIC, "version": VERSION, **header})

    def write(self, item: Any) -> None:
        self._stream.write(cbor2.dumps(item))

    def flush(self) -> None:
        """All that was written can be read, whatever becomes of this process."""
        self._stream.flush(zstandard.FLUSH_BLOCK)
        self._file.flush()

    def close(self) -> None:
        self._stream.flush(zstandard.FLUSH_FRAME)
        self._file.close()


class CaptureReader:
    """A capture's header, and its records in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise CaptureError(f"the capture {path} cannot be read: {error.strerror}") from None
        self._stream = zstandard.ZstdDecompressor().stream_reader(self._file)
        header = self._next()
        if not isinstance(header, dict) or header.get("magic") != MAGIC:
            raise CaptureError(f"{path} is no capture of a GPU")
        if header.get("version") != VERSION:
            raise CaptureError(
                f"the capture {path} is of version {header.get('version')}; "
                f"this program reads {VERSION}"
            )
        self.header: dict[str, Any] = header

    def __enter__(self) -> CaptureReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def records(self) -> Iterator[Record]:
        """Up to the end, or to where the writer was ended. CaptureError where it is damaged."""
        while (record := self._next()) is not None:
            known = isinstance(record, list) and len(record) >= 2 and record[0] in KINDS
            if not known or len(record) != 2 + KINDS[record[0]]:
                raise CaptureError(f"the capture {self._path} is damaged: it has an odd record")
            yield record

    def _next(self) -> Any:
        try:
            return cbor2.load(self._stream)
        except cbor2.CBORDecodeEOF:
            return None
        except (cbor2.CBORDecodeError, zstandard.ZstdError, ValueError, OverflowError):
            raise CaptureError(f"{self._path} is no capture of a GPU, or damaged") from None

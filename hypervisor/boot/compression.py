"""Unpacking of compressed boot files, bounded in memory whatever the input says."""

from __future__ import annotations

import lzma
import zlib
from typing import Protocol

import zstandard

from hypervisor.boot.loadable import SIZE_LIMIT, BootError

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_DICTIONARY_LIMIT = 128 << 20
# A zstd block of 4 bytes may stand for 128 KiB, so this much input gives at most 32 MiB at once.
_ZSTD_STEP = 1 << 10


class _Stepwise(Protocol):
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def compression_of(data: bytes) -> str | None:
    """`gzip`, `xz` or `zstd` by the first bytes, None for anything else."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def decompress(data: bytes, kind: str, name: str, limit: int = SIZE_LIMIT) -> bytes:
    """Unpack the first stream in `data`; what follows it is ignored.

    `kind` is gzip, xz, lzma or zstd. `name` is the file's, for messages.
    """
    try:
        if kind == "zstd":
            unpacked, complete = _unzstd(data, limit)
        else:
            unpacked, complete = _unpack(_decompressor(kind), data, limit)
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BootError(f"{name}: its {kind} data is damaged ({error})") from None
    except MemoryError:
        raise BootError(f"{name}: its {kind} data wants too much memory to unpack") from None
    if len(unpacked) > limit:
        raise BootError(f"{name}: unpacks to more than {limit >> 20} MiB")
    if not complete:
        raise BootError(f"{name}: its {kind} data is cut short")
    return unpacked


def _decompressor(kind: str) -> _Stepwise:
    if kind == "gzip":
        return zlib.decompressobj(wbits=31)
    container = lzma.FORMAT_XZ if kind == "xz" else lzma.FORMAT_ALONE
    return lzma.LZMADecompressor(container, memlimit=_DICTIONARY_LIMIT)


def _unpack(decompressor: _Stepwise, data: bytes, limit: int) -> tuple[bytes, bool]:
    unpacked = decompressor.decompress(data, limit + 1)
    return unpacked, decompressor.eof


def _unzstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_DICTIONARY_LIMIT).decompressobj()
    unpacked = bytearray()
    for at in range(0, len(data), _ZSTD_STEP):
        unpacked += decompressor.decompress(data[at : at + _ZSTD_STEP])
        if decompressor.eof or len(unpacked) > limit:
            break
    return bytes(unpacked), decompressor.eof

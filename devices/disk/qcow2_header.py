"""The header of a qcow2 image, checked before anything it says is believed.

QEMU docs/interop/qcow2.rst (qcow2 versions 2 and 3). All integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from devices.disk.hostfile import File
from hypervisor.device import BackendError

MAX_L1_BYTES = 32 << 20

_MAGIC = b"QFI\xfb"
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_DIRTY, _CORRUPT, _EXTERNAL_DATA, _COMPRESSION_TYPE, _EXTENDED_L2 = (1 << bit for bit in range(5))
_BACKING_FORMAT, _FEATURE_NAMES = 0xE2792ACA, 0x6803F857
_ENCRYPTION = {1: "AES", 2: "LUKS"}
_COMPRESSION = {0: "zlib", 1: "zstd"}


@dataclass(frozen=True)
class Header:
    """What reading needs; `l1_entries` is how many the size needs, not what the header claims."""

    version: int
    size: int
    cluster_bits: int
    l1_offset: int
    l1_entries: int
    compression: str
    backing_name: str | None
    backing_format: str | None


def read_header(file: File, path: str) -> Header:
    """Parse and check a header; BackendError names what is unsupported or damaged."""
    if file.size < _V2.size:
        raise _damaged(path, f"its {file.size} bytes are less than a header")
    (
        magic, version, backing_offset, backing_size, cluster_bits, size, encryption,
        l1_size, l1_offset, _refcount_offset, _refcount_clusters, _snapshots, _snapshots_offset,
    ) = _V2.unpack(file.read(0, _V2.size))  # fmt: skip
    if magic != _MAGIC:
        raise BackendError(f"{path}: this is not a qcow2 image (its first bytes are {magic!r})")
    if version not in (2, 3):
        raise BackendError(f"{path}: qcow2 version {version} is not supported, only 2 and 3 are")
    if not 9 <= cluster_bits <= 21:
        raise _damaged(path, f"its cluster size is 2^{cluster_bits} bytes, not 2^9 to 2^21")
    if encryption:
        kind = _ENCRYPTION.get(encryption, f"method {encryption}")
        raise _unsupported(path, f"it is encrypted ({kind})", "qemu-img convert")
    head = file.read(0, min(1 << cluster_bits, file.size))
    incompatible, length, compression = 0, _V2.size, 0
    if version == 3:
        incompatible, length, compression = _version_3(head, path)
    extensions = dict(_extensions(head, length, backing_offset, path))
    _check_features(incompatible, extensions.get(_FEATURE_NAMES, b""), path)
    if bool(incompatible & _COMPRESSION_TYPE) != bool(compression):
        raise _damaged(path, "its compression type contradicts its feature bits")
    if compression not in _COMPRESSION:
        raise _unsupported(path, f"its compression type is {compression}", "qemu-img convert")
    backing_format = extensions.get(_BACKING_FORMAT)
    return Header(
        version=version,
        size=_check_size(size, path),
        cluster_bits=cluster_bits,
        l1_offset=l1_offset,
        l1_entries=_check_l1(file, (l1_offset, l1_size), size, cluster_bits, path),
        compression=_COMPRESSION[compression],
        backing_name=_backing_name(head, backing_offset, backing_size, path),
        backing_format=backing_format.decode("ascii", "replace") if backing_format else None,
    )


def _version_3(head: bytes, path: str) -> tuple[int, int, int]:
    if len(head) < _V2.size + _V3.size:
        raise _damaged(path, "it ends inside its header")
    incompatible, _compatible, _autoclear, _order, length = _V3.unpack_from(head, _V2.size)
    if not _V2.size + _V3.size <= length <= len(head) or length % 8:
        raise _damaged(path, f"its header length is {length}")
    compression = head[104] if length > 104 else 0
    return incompatible, length, compression


def _extensions(
    head: bytes, offset: int, backing_offset: int, path: str
) -> Iterator[tuple[int, bytes]]:
    end = min(backing_offset, len(head)) if backing_offset else len(head)
    while offset + 8 <= end:
        kind, length = struct.unpack_from(">II", head, offset)
        if kind == 0:
            return
        offset += 8
        if length > end - offset:
            raise _damaged(path, f"header extension {kind:#x} is {length} bytes long")
        yield kind, head[offset : offset + length]
        offset += (length + 7) & ~7


def _check_features(incompatible: int, names: bytes, path: str) -> None:
    if incompatible & _CORRUPT:
        raise BackendError(
            f"{path}: the image is marked corrupt: repair it with `qemu-img check -r all` first"
        )
    if incompatible & _EXTERNAL_DATA:
        raise _unsupported(path, "its data is in an external file", "qemu-img convert")
    if incompatible & _EXTENDED_L2:
        raise _unsupported(path, "it has extended L2 entries (subclusters)", "qemu-img convert")
    # The dirty bit concerns reference counts, which reading does not use.
    unknown = incompatible & ~(_DIRTY | _COMPRESSION_TYPE)
    if unknown:
        bit = (unknown & -unknown).bit_length() - 1
        name = f"incompatible feature bit {bit}"
        for at in range(0, len(names) - 47, 48):
            if names[at] == 0 and names[at + 1] == bit:
                text = names[at + 2 : at + 48].rstrip(b"\0").decode("ascii", "replace")
                name += f" ({text!r})"
        raise _unsupported(path, f"it uses {name}", "qemu-img convert")


def _check_size(size: int, path: str) -> int:
    # An odd tail is not part of the disk, as in QEMU.
    whole = size & ~511
    if not whole:
        raise BackendError(f"{path}: the image holds an empty disk, at least 512 bytes are needed")
    return whole


def _check_l1(file: File, table: tuple[int, int], size: int, cluster_bits: int, path: str) -> int:
    offset, claimed = table
    span = 1 << (2 * cluster_bits - 3)
    needed = -(-size // span)
    if needed * 8 > MAX_L1_BYTES:
        raise _damaged(path, f"its disk of {size} bytes needs an L1 table above 32 MiB")
    if claimed < needed:
        raise _damaged(path, f"its L1 table has {claimed} entries, its disk needs {needed}")
    if offset % (1 << cluster_bits) or not offset or offset + needed * 8 > file.size:
        raise _damaged(path, f"its L1 table at {offset:#x} is not a place inside the file")
    return needed


def _backing_name(head: bytes, offset: int, size: int, path: str) -> str | None:
    if not offset:
        return None
    if not 0 < size <= 1023 or offset + size > len(head):
        raise _damaged(path, "the name of its backing file is outside the first cluster")
    name = head[offset : offset + size]
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _damaged(path, f"the name of its backing file is {name[:40]!r}") from None


def _damaged(path: str, what: str) -> BackendError:
    return BackendError(f"{path}: the qcow2 image is damaged: {what}")


def _unsupported(path: str, what: str, tool: str) -> BackendError:
    return BackendError(
        f"{path}: this qcow2 image is not supported, {what}: rewrite it with `{tool}`"
    )

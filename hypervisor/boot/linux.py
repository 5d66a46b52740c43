"""Linux kernel images of RISC-V and AArch64: found, unpacked and checked.

Follows the kernel's Documentation/arch/riscv/boot-image-header.rst and
Documentation/arch/arm64/booting.rst; for EFI zboot images, the header that
drivers/firmware/efi/libstub/zboot-header.S lays out; for PE headers, Microsoft's "PE Format".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypervisor.boot.compression import decompress
from hypervisor.boot.loadable import SIZE_LIMIT, BootError

_HEADER = struct.Struct("<8xQQQ24x4sI")
_RISCV_MAGIC, _RISCV_OLD_MAGIC, _ARM64_MAGIC = b"RSC\x05", b"RISCV\0\0\0", b"ARM\x64"
_BIG_ENDIAN = 1
_ARM64_OLD_TEXT_OFFSET = 0x8_0000
_ZBOOT = struct.Struct("<4xII8x32s")
_ZBOOT_NAMES = {"gzip": "gzip", "xzkern": "xz", "xz": "xz", "lzma": "lzma"}
_ZBOOT_NAMES |= {"zstd": "zstd", "zstd22": "zstd"}


@dataclass(frozen=True)
class LinuxImage:
    """An unpacked kernel `Image`. The header is its start, where it is also entered."""

    data: bytes
    text_offset: int
    """Bytes from a 2 MiB boundary to where `data` is loaded."""
    image_size: int
    """Bytes of memory that the kernel uses from there on, at least len(data)."""
    arch: str
    """`riscv64` or `aarch64`."""


def read_linux(data: bytes, name: str) -> LinuxImage | None:
    """The kernel in `data`: an Image, or an EFI zboot image with one inside.

    None where it is neither; BootError where it is one that cannot be used.
    """
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        image = _read_image(_unpack_zboot(data, name), name)
        if image is None:
            raise BootError(f"{name}: the EFI zboot image holds no RISC-V or AArch64 Linux kernel")
        return image
    return _read_image(data, name)


def _read_image(data: bytes, name: str) -> LinuxImage | None:
    if len(data) < _HEADER.size:
        return None
    text_offset, image_size, flags, magic, pe_offset = _HEADER.unpack_from(data)
    if magic == _RISCV_MAGIC or data[0x30:0x38] == _RISCV_OLD_MAGIC:
        arch = "riscv64"
    elif magic == _ARM64_MAGIC:
        arch = "aarch64"
        if image_size == 0:
            # Before Linux 3.17 the offset was fixed and the size unknown.
            text_offset = _ARM64_OLD_TEXT_OFFSET
    else:
        return None
    if flags & _BIG_ENDIAN:
        raise BootError(f"{name}: is a big-endian kernel; only little-endian ones can run")
    image_size = image_size or len(data)
    if image_size > SIZE_LIMIT or text_offset > SIZE_LIMIT:
        raise BootError(
            f"{name}: its Linux header is damaged: image size {image_size:#x} at offset "
            f"{text_offset:#x} (at most {SIZE_LIMIT:#x} each)"
        )
    if text_offset % 4096:
        raise BootError(f"{name}: its Linux header is damaged: text offset {text_offset:#x}")
    if data.startswith(b"MZ"):
        _check_complete(data, pe_offset, name)
    return LinuxImage(data, text_offset, max(image_size, len(data)), arch)


def _unpack_zboot(data: bytes, name: str) -> bytes:
    if len(data) < _HEADER.size:
        raise BootError(f"{name}: the EFI zboot header is cut short")
    offset, size, method = _ZBOOT.unpack_from(data, 4)
    if offset < 64 or offset + size > len(data):
        raise BootError(
            f"{name}: the EFI zboot image is cut short: its payload ends at byte {offset + size}, "
            f"the file at {len(data)}"
        )
    named = method.split(b"\0")[0].decode("latin-1")
    if named not in _ZBOOT_NAMES:
        known = ", ".join(sorted(set(_ZBOOT_NAMES.values())))
        raise BootError(f"{name}: is packed with '{named}'; {known} can be unpacked")
    # The size may leave out a length that some packers append, so everything after is passed.
    return decompress(data[offset:], _ZBOOT_NAMES[named], name)


def _check_complete(data: bytes, pe_offset: int, name: str) -> None:
    """Refuse a file shorter than its PE sections say."""
    if data[pe_offset : pe_offset + 4] != b"PE\0\0" or pe_offset + 24 > len(data):
        return
    (count,) = struct.unpack_from("<H", data, pe_offset + 6)
    (optional_size,) = struct.unpack_from("<H", data, pe_offset + 20)
    table = pe_offset + 24 + optional_size
    if table + 40 * count > len(data):
        raise BootError(f"{name}: is cut short within its PE header")
    for index in range(count):
        size, start = struct.unpack_from("<II", data, table + 40 * index + 16)
        if start + size > len(data):
            raise BootError(f"{name}: is cut short: {len(data)} of at least {start + size} bytes")

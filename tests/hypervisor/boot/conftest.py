"""Boot files made byte by byte."""

import struct
from dataclasses import dataclass, field

import pytest


@dataclass
class ElfFile:
    """An ELF file from its fields; the defaults are a valid RISC-V program."""

    segments: list[tuple[int, int, bytes, int]] = field(
        default_factory=lambda: [(0x8000_0000, 0x8000_0000, b"\x13\0\0\0" * 4, 0x20)]
    )
    """(virtual address, physical address, contents, memory size)."""
    entry: int = 0x8000_0000
    machine: int = 243
    kind: int = 2
    bits: int = 2
    endian: int = 1

    def build(self) -> bytes:
        identity = bytes([0x7F, *b"ELF", self.bits, self.endian, 1, *bytes(9)])
        count = len(self.segments)
        header = identity + struct.pack(
            "<HHIQQQIHHHHHH",
            *(self.kind, self.machine, 1, self.entry, 64, 0, 0, 64, 56, count, 64, 0, 0),
        )
        table, contents = b"", b""
        for virtual, physical, data, room in self.segments:
            offset = 64 + 56 * count + len(contents)
            table += struct.pack(
                "<IIQQQQQQ", 1, 7, offset, virtual, physical, len(data), room, 4096
            )
            contents += data
        return header + table + contents


def image(
    magic: bytes = b"RSC\x05",
    text_offset: int = 0x20_0000,
    image_size: int = 0x3000,
    flags: int = 0,
    body: bytes = b"kernel" * 1000,
) -> bytes:
    """A Linux Image: the 64-byte header, then `body`."""
    return struct.pack("<8xQQQ24x4sI", text_offset, image_size, flags, magic, 0) + body


def zboot(payload: bytes, method: bytes, size: int | None = None) -> bytes:
    """An EFI zboot image around a packed kernel."""
    size = len(payload) if size is None else size
    head = struct.pack("<4s4sII8x32s", b"MZ\0\0", b"zimg", 64, size, method)
    return head.ljust(64, b"\0") + payload


@pytest.fixture(scope="session")
def make_elf():
    return ElfFile


@pytest.fixture(scope="session")
def make_image():
    return image


@pytest.fixture(scope="session")
def make_zboot():
    return zboot

"""Parallel NOR flash with the Intel/Sharp command set, for firmware and its variables.

Follows "Common Flash Memory Interface" (JEDEC JESD68.01), command set 0x0001 (JEP137), and the
Intel StrataFlash J3 data sheet. Two 16-bit chips side by side make a 32-bit bank; they get the
same commands and are modelled as one, so status and identity show in both halves of a word. The
bank is written 32 bits at a time: were half a word enough, a probing driver that starts with
narrow buses would take it for one chip of half the size.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from pydantic import Field, field_validator

from hypervisor.device import BackendError, Board, Device, FileRef, Node, Options, Size

SECTOR = 256 << 10
"""Bytes that one erase command clears, both chips together."""
_BUFFER_WORDS = 16
_ERASED = 0xFF

_READY, _ERASE_FAILED, _PROGRAM_FAILED, _LOCKED = 0x80, 0x20, 0x10, 0x02
_MANUFACTURER, _DEVICE = 0x89, 0x18


class FlashOptions(Options):
    file: FileRef | None = Field(default=None, description="initial contents; the rest is erased")
    size: Size = Field(default=32 << 20, description="bytes, a power of two from 512K to 256M")
    read_only: bool = Field(default=False, description="programming and erasing fail")
    keep: bool = Field(default=False, description="write changes back to the file")

    @field_validator("size")
    @classmethod
    def _power_of_two(cls, size: int) -> int:
        if not 2 * SECTOR <= size <= 256 << 20 or size & (size - 1):
            raise ValueError(
                f"the flash's size must be a power of two from 512K to 256M, not {size}"
            )
        return size


class CfiFlash(Device):
    """Reads as memory, and takes commands where written.

    mode: what reads give. step: what the next write means; "" is a command.
    """

    Options = FlashOptions
    type = "cfi.flash"
    summary = "CFI parallel NOR flash (Intel command set), 32 bits wide"
    compatible = ("cfi-flash",)
    address_size = 32 << 20
    state = ("mode", "step", "status", "expected", "buffer")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.file: int | None = None
        self.kept = 0
        """Length of the file."""
        self.base = self._open() if options.file is not None else b""
        self.sectors: dict[int, bytearray] = {}
        """Sectors that differ from the file, by number."""
        self.query = _query_table(options.size)
        self.buffer: list[list[int]] = []
        """Collected words of a buffered program: offset, value."""
        self._digest = ""
        self._said: set[str] = set()
        self._to_ready()

    def reset(self) -> None:
        """Contents outlast a reset, as they would in silicon."""
        super().reset()
        self._to_ready()

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None

    @classmethod
    def size_for(cls, options: Any) -> int:
        return int(options.size)

    def node(self) -> Node:
        return Node(f"flash@{self.options.at or 0:x}", {"bank-width": 4}, [])

    # -- accesses -----------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        if self.mode == "array":
            return int.from_bytes(self.contents(offset, size), "little")
        lanes = bytes(self._response(at) for at in range(offset, offset + size))
        return int.from_bytes(lanes, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        value &= (1 << 8 * size) - 1
        if size == 8:
            self.write(offset, 4, value & 0xFFFF_FFFF)
            self.write(offset + 4, 4, value >> 32)
        elif size == 4 and offset % 4 == 0 and offset < self.options.size:
            getattr(self, f"_{self.step or 'command'}_written")(offset, value)

    def contents(self, offset: int, size: int) -> bytes:
        """What the array holds, whatever mode it is in."""
        data = b""
        while size > 0:
            sector, start = divmod(offset, SECTOR)
            part = min(size, SECTOR - start)
            changed = self.sectors.get(sector)
            if changed is not None:
                data += changed[start : start + part]
            else:
                data += self.base[offset : offset + part].ljust(part, b"\xff")
            offset += part
            size -= part
        return data

    def _response(self, at: int) -> int:
        """One byte of what the chips say; each gives 16 bits, of which the high byte is zero."""
        if at & 1:
            return 0
        if self.mode == "status":
            return self.status
        index = at >> 2
        if self.mode == "query":
            return self.query.get(index & 0xFF, 0)
        return {0: _MANUFACTURER, 1: _DEVICE}.get(index & 0xFF, 0)

    # -- commands -----------------------------------------------------------------------------

    def _command_written(self, offset: int, value: int) -> None:
        command = value & 0xFF
        if command in _MODES:
            self.mode = _MODES[command]
        elif command == 0x50:
            self.status = _READY
        elif command in _STEPS:
            self.mode = "status"
            self.step = _STEPS[command]
        elif command not in _IGNORED:
            self._say_once(f"unknown flash command {command:#x}")
            self.mode = "array"

    def _erase_written(self, offset: int, value: int) -> None:
        self.step = ""
        if value & 0xFF != 0xD0:
            self.status |= _ERASE_FAILED | _PROGRAM_FAILED
        elif self.options.read_only:
            self.status |= _ERASE_FAILED | _LOCKED
        else:
            number = offset // SECTOR
            self.sectors[number] = bytearray(bytes([_ERASED]) * SECTOR)
            self._write_back(number * SECTOR, SECTOR)

    def _program_written(self, offset: int, value: int) -> None:
        self.step = ""
        self._program([[offset, value]])

    def _count_written(self, offset: int, value: int) -> None:
        self.expected = (value & 0xFFFF) + 1
        self.buffer = []
        if self.expected > _BUFFER_WORDS:
            self.status |= _ERASE_FAILED | _PROGRAM_FAILED
            self.step = ""
        else:
            self.step = "buffer"

    def _buffer_written(self, offset: int, value: int) -> None:
        self.buffer = [*self.buffer, [offset, value]]
        if len(self.buffer) == self.expected:
            self.step = "confirm"

    def _confirm_written(self, offset: int, value: int) -> None:
        self.step = ""
        if value & 0xFF == 0xD0:
            self._program(self.buffer)
        else:
            self.status |= _ERASE_FAILED | _PROGRAM_FAILED
        self.buffer = []

    def _lock_written(self, offset: int, value: int) -> None:
        """Blocks have no locks: setting and clearing them succeeds."""
        self.step = ""

    def _program(self, words: list[list[int]]) -> None:
        if self.options.read_only:
            self.status |= _PROGRAM_FAILED | _LOCKED
            return
        for offset, value in words:
            for at, byte in enumerate(value.to_bytes(4, "little"), offset):
                # Programming only clears bits; erasing sets them.
                self._sector(at // SECTOR)[at % SECTOR] &= byte
            self._write_back(offset, 4)

    def _to_ready(self) -> None:
        self.mode = "array"
        self.step = ""
        self.status = _READY
        self.expected = 0
        self.buffer = []

    # -- contents -----------------------------------------------------------------------------

    def _sector(self, number: int) -> bytearray:
        if number not in self.sectors:
            self.sectors[number] = bytearray(self.contents(number * SECTOR, SECTOR))
        return self.sectors[number]

    def _open(self) -> bytes:
        path = self.board.path(self.options.file)
        mode = os.O_RDWR if self._keeps else os.O_RDONLY
        try:
            self.file = os.open(path, mode | os.O_CLOEXEC)
            length = os.fstat(self.file).st_size
            data = os.pread(self.file, min(length, self.options.size), 0)
        except OSError as error:
            self.close()
            raise BackendError(f"{self.name}: cannot open {path}: {error.strerror}") from None
        if length > self.options.size:
            self.close()
            raise BackendError(
                f"{self.name}: {path} has {length} bytes, more than the flash's {self.options.size}"
            )
        self.kept = length
        return data

    @property
    def writes_in_place(self) -> str:
        return str(self.options.file) if self._keeps else ""

    @property
    def _keeps(self) -> bool:
        """Whether changes go to a file. A replay leaves it as it is."""
        options = self.options
        wanted = options.keep and not options.read_only and options.file is not None
        return wanted and not self.board.offline

    def _write_back(self, offset: int, size: int) -> None:
        """Bring a range of the file up to date, if changes are kept at all."""
        if self.file is None or not self._keeps:
            return
        try:
            while self.kept < offset:  # a hole in the file would read as programmed
                gap = min(offset - self.kept, SECTOR)
                self.kept += os.pwrite(self.file, b"\xff" * gap, self.kept)
            written = os.pwrite(self.file, self.contents(offset, size), offset)
            self.kept = max(self.kept, offset + written)
        except OSError as error:
            self.status |= _PROGRAM_FAILED
            self._say_once(f"cannot write {self.options.file}: {error.strerror}")

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self.board.log(f"{self.name}: {message}")

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        changed = {number: bytes(data) for number, data in self.sectors.items()}
        return super().save() | {"contents": self._identity(), "sectors": changed}

    def load(self, state: dict[str, Any]) -> None:
        if state["contents"] != self._identity():
            raise ValueError(
                f"{self.name}: the snapshot was taken with other contents of {self.options.file}"
            )
        stale = self.sectors.keys() | state["sectors"].keys()
        self.sectors = {number: bytearray(data) for number, data in state["sectors"].items()}
        super().load(state)
        for number in sorted(stale):
            self._write_back(number * SECTOR, SECTOR)

    def _identity(self) -> str:
        if not self._digest:
            self._digest = hashlib.sha256(self.base).hexdigest()
        return f"sha256:{self._digest}"


_MODES = {0xFF: "array", 0xF0: "array", 0x90: "identity", 0x98: "query", 0x70: "status"}
_STEPS = {0x20: "erase", 0x40: "program", 0x10: "program", 0xE8: "count", 0x60: "lock"}
_IGNORED = (0xB0, 0xD0)
"""Suspend and resume have nothing to act on. 0xF0 is another vendor's reset, from probing."""


def _query_table(size: int) -> dict[int, int]:
    """The CFI query structure of one chip: byte by word address (JESD68.01, section 4)."""
    chip_size, chip_sector = size // 2, SECTOR // 2
    table: dict[int, int] = {}

    def put(address: int, data: bytes) -> None:
        table.update(enumerate(data, address))

    put(0x10, b"QRY" + b"\x01\x00" + b"\x31\x00")  # command set 1, its table at 0x31
    put(0x1B, bytes((0x27, 0x36, 0, 0)))  # supply 2.7 to 3.6 V, no programming voltage
    put(0x1F, bytes((7, 7, 10, 0, 4, 4, 4, 0)))  # typical times as powers of two, and factors
    put(0x27, bytes((chip_size.bit_length() - 1, 1, 0)))  # 16-bit interface
    put(0x2A, ((_BUFFER_WORDS * 2).bit_length() - 1).to_bytes(2, "little"))
    put(0x2C, b"\x01" + (chip_size // chip_sector - 1).to_bytes(2, "little"))
    put(0x2F, (chip_sector >> 8).to_bytes(2, "little"))
    put(0x31, b"PRI10" + bytes(6))  # version 1.0, no optional features
    return table

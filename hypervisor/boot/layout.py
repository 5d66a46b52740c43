"""Where in RAM the boot files go.

Programs go low: Linux at `text_offset` from a 2 MiB boundary, as its boot protocol asks, anything
else that has no address of its own at the start of RAM. The initial RAM disk and the device tree
go high, but within the first GiB, which every kernel maps early. Firmware that looks for the tree
at the start of RAM gets it there, and goes to the next 2 MiB boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypervisor.boot.loadable import BootError, Loadable

ALIGNMENT = 2 << 20
REACH = 1 << 30
_PAGE = 4096
_MIB = 1 << 20

TreeBuilder = Callable[[tuple[int, int] | None], bytes]
"""Makes the device tree's blob, given the initial RAM disk's (start, end) or None."""


@dataclass(frozen=True)
class Piece:
    """Something in RAM: `size` bytes at `address`, those after `data` zero."""

    what: str
    address: int
    data: bytes
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class Placement:
    """The contents of RAM at power-on."""

    pieces: tuple[Piece, ...]
    entries: tuple[int, ...]
    """The first instruction of each program, in the order they were given."""
    tree: int
    """Address of the device tree."""
    initrd: tuple[int, int] | None
    """(start, end) of the initial RAM disk."""

    @property
    def entry(self) -> int:
        """Where the machine starts."""
        return self.entries[0]


def place(
    ram: tuple[int, int],
    programs: Sequence[Loadable],
    build_tree: TreeBuilder,
    initrd: bytes | None = None,
    tree_first: bool = False,
) -> Placement:
    """Lay out `programs` (entered first: a kernel, or firmware and what it starts) in RAM.

    `ram` is (base, size). `tree_first`: the device tree goes to the start of RAM. BootError says
    what does not fit, and how much RAM would do.
    """
    base, size = ram
    plan = _Plan(base, size)
    if tree_first:
        plan.reserve(ALIGNMENT)
    entries = tuple(plan.program(program) for program in programs)
    span: tuple[int, int] | None = None
    if initrd:
        piece = plan.high("the initial RAM disk", initrd, _PAGE)
        span = (piece.address, piece.address + len(initrd))
    blob = build_tree(span)
    # A kernel maps the tree before it knows its size: at most 2 MiB, not across a boundary.
    is_linux = any(program.kind == "linux" for program in programs)
    if is_linux and len(blob) > ALIGNMENT:
        raise BootError(f"the device tree has {len(blob)} bytes; Linux takes {ALIGNMENT} at most")
    if tree_first:
        tree = plan.first("the device tree", blob)
    else:
        tree = plan.high("the device tree", blob, ALIGNMENT if is_linux else _PAGE)
    plan.check()
    return Placement(tuple(plan.pieces), entries, tree.address, span)


class _Plan:
    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.size = size
        self._low: list[Piece] = []
        self._high: list[Piece] = []
        self._slack = 0
        self._too_small = False

    @property
    def pieces(self) -> list[Piece]:
        """All that is placed, by address."""
        return sorted([*self._low, *self._high], key=lambda piece: piece.address)

    def program(self, program: Loadable) -> int:
        """Place a program; returns its entry."""
        moved = 0
        for address, data in program.segments:
            size = program.size if len(program.segments) == 1 else len(data)
            if address is None:
                moved = address = self._free_below(program)
            else:
                self._inside(program.name, address, size)
            self._low.append(Piece(program.name, address, data, size))
        return program.entry + moved

    def reserve(self, size: int) -> None:
        """Keep the start of RAM free for what is known later."""
        self._low.append(Piece("the device tree", self.base, b"", size))

    def first(self, what: str, data: bytes) -> Piece:
        """Fill what was reserved."""
        room = self._low[0].size
        if len(data) > room:
            raise BootError(f"{what} has {len(data)} bytes; {room} are free at the start of RAM")
        self._low[0] = Piece(what, self.base, data, room)
        return self._low[0]

    def high(self, what: str, data: bytes, alignment: int) -> Piece:
        """Place `data` as high as it goes, in what is free of the first GiB."""
        room = _up(len(data), _PAGE)
        self._slack += alignment - _PAGE
        address = _down(min(self.base + self.size, self.base + REACH) - room, alignment)
        for piece in reversed(self.pieces):
            if piece.address < address + room and address < piece.end:
                address = _down(piece.address - room, alignment)
        if address < self.base:
            self._too_small = True
        piece = Piece(what, max(address, self.base), data, room)
        self._high.append(piece)
        return piece

    def check(self) -> None:
        """Refuse what does not fit in RAM, then what overlaps."""
        end = self.base + self.size
        if self._too_small or any(piece.end > end for piece in self.pieces):
            raise BootError(self._need())
        for piece, after in pairwise(self.pieces):
            if piece.end > after.address:
                raise BootError(
                    f"{piece.what} at {piece.address:#x}-{piece.end - 1:#x} overlaps {after.what} "
                    f"at {after.address:#x}-{after.end - 1:#x}"
                )

    def _free_below(self, program: Loadable) -> int:
        """The lowest place for a program, above those before it."""
        used = max((piece.end for piece in self._low), default=self.base)
        if program.kind != "linux":
            return self.base if used == self.base else _up(used, ALIGNMENT)
        address = _up(self.base, ALIGNMENT) + program.text_offset
        if address < used:
            address = _up(used, ALIGNMENT) + program.text_offset % ALIGNMENT
        return address

    def _inside(self, name: str, address: int, size: int) -> None:
        end = self.base + self.size
        if address < self.base or address >= end:
            raise BootError(
                f"{name}: wants {address:#x}-{address + size - 1:#x}, which is not RAM "
                f"({self.base:#x}-{end - 1:#x})"
            )

    def _need(self) -> str:
        low = max((piece.end for piece in self._low), default=self.base)
        high = sum(piece.size for piece in self._high)
        need = _up(low, _PAGE) - self.base + high + self._slack
        sizes: dict[str, int] = {}
        for piece in (*self._low, *self._high):
            sizes[piece.what] = sizes.get(piece.what, 0) + piece.size
        listed = [f"{what} ({_amount(size)})" for what, size in sizes.items()]
        parts = " and ".join(filter(None, [", ".join(listed[:-1]), listed[-1]]))
        return f"RAM of {_amount(self.size)} is too small: {parts} need {_amount(need)}"


def _up(value: int, alignment: int) -> int:
    return value + -value % alignment


def _down(value: int, alignment: int) -> int:
    return value - value % alignment


def _amount(size: int) -> str:
    """Rounded up to whole units."""
    unit, name = (_MIB, "MiB") if size >= _MIB else (1024, "KiB")
    return f"{-(-size // unit)} {name}"

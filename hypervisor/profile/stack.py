"""Call stacks of a hart by its frame pointers.

Guest memory is not believed: chains are bounded, never walked twice through one frame, and read by
page tables and RAM alone, which leaves no trace in the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.cpu.cells import NEVER
from hypervisor.profile.convention import Convention, Mode

if TYPE_CHECKING:
    from hypervisor.cpu.hart import Hart
    from hypervisor.memory import Memory

DEPTH = 64
"""Frames of one stack at most."""
_SPAN = 8 << 20
"""Bytes between a stack's neighbouring frames at most."""
_PAGE = 0x1000

Function = Callable[[int], int | None]
"""The address at which the function at a code address begins; None where that is unknown."""


class Stack(NamedTuple):
    """Where a hart was: code addresses, the innermost first."""

    mode: Mode
    root: int
    """The page table of the process (physical), 0 where there is none."""
    addresses: tuple[int, ...]


class Walker:
    """Takes stacks of a machine's harts."""

    def __init__(self, convention: Convention, memory: Memory, function: Function) -> None:
        self._convention = convention
        self._memory = memory
        self._function = function
        self._pages: dict[int, bytes | None] = {}
        """Contents by virtual address, of one sample."""

    def stack(self, hart: Hart) -> Stack:
        """Where `hart` was until it stopped. It has just made a taken transfer: what executed until
        then, and took the time, is what it came from."""
        convention, registers, pc = self._convention, hart.registers, hart.pc
        mode, root = convention.mode(registers), convention.root(registers)
        came_from = hart.cell.previous_end
        trap = convention.interrupted(registers, pc)
        self._pages.clear()
        if trap is not None:  # the registers are still those of what was interrupted
            pc, mode = trap
            leaf = pc if came_from == NEVER else came_from - 1
            return Stack(mode, root, self._walk(hart, leaf, ()))
        if came_from == NEVER:
            return Stack(mode, root, self._walk(hart, pc, ()))
        leaf = came_from - 1
        if mode == "user" and (leaf ^ pc) >> 63:  # it has just returned to user mode
            return Stack("kernel", root, (leaf,))
        left, reached = self._function(leaf), self._function(pc)
        if left is not None and reached is not None and left != reached != pc:
            # It has returned: the frame of what it came from is gone.
            return Stack(mode, root, self._walk(hart, pc, (leaf,)))
        return Stack(mode, root, self._walk(hart, leaf, ()))

    def _walk(self, hart: Hart, leaf: int, inner: tuple[int, ...]) -> tuple[int, ...]:
        """`inner`, `leaf` and its callers, by a frame chain that the registers begin."""
        registers, convention = hart.registers, self._convention
        stack = registers[convention.stack]
        frame, link = registers[convention.frame], registers[convention.link]
        found = [*inner, leaf]
        record = self._record(hart, frame, stack, stack)
        leaf_function, link_function = self._function(leaf), self._function(link)
        is_called = link_function is not None and link_function != leaf_function
        if record is None:
            return (*found, link - 1) if is_called else tuple(found)
        caller, address = record
        if is_called and address != link:
            # A function without a frame of its own: its caller is known by the link register only.
            found.append(link - 1)
            kept = self._record(hart, address, stack, stack)
            if kept is not None:  # it has a frame, in which it kept the frame pointer alone
                frame, record = address, kept
        seen = {frame}
        while record is not None and len(found) < DEPTH:
            caller, address = record
            if not address or (address ^ stack) >> 63 or address == NEVER:
                break
            found.append(address - 1)
            if caller in seen:
                break
            seen.add(caller)
            # The kernel has a stack of its own for interrupts, and goes from that to a task's.
            below = caller if stack >> 63 else frame
            record = self._record(hart, caller, below, stack)
            frame = caller
        return tuple(found)

    def _record(self, hart: Hart, frame: int, below: int, stack: int) -> tuple[int, int] | None:
        """The caller's frame pointer and the return address that the frame at `frame` holds; None
        where it can be none: it is above `below`, and in memory of the kind that `stack` is in."""
        if not frame or frame % 8 or (frame ^ stack) >> 63 or not 0 <= frame - below < _SPAN:
            return None
        first = (frame + self._convention.record) & NEVER
        low, high = self._read(hart, first, 8), self._read(hart, first + 8, 8)
        return None if low is None or high is None else (low, high)

    def _read(self, hart: Hart, address: int, size: int) -> int | None:
        page = address & -_PAGE
        if page not in self._pages:
            physical = hart.translate(page)
            if physical is None or not self._memory.contains(physical, _PAGE):
                self._pages[page] = None
            else:
                self._pages[page] = self._memory.read(physical, _PAGE)
        content = self._pages[page]
        if content is None:
            return None
        return int.from_bytes(content[address - page : address - page + size], "little")

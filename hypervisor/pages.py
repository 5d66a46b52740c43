"""States of a machine's RAM kept in memory: each page that differs from the state before, once.

A state is an array with a slot of the store for every page. Which pages have changed is found by
comparing them: that takes about as long as reading them does, asks nothing of the guest's run, and
needs no help of the host's kernel.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hypervisor.cpu import native
from hypervisor.memory import PAGE, Memory

Slots = npt.NDArray[np.int32]

_IR = """
; Numbers of the pages from %first to %last that are not as their slots say; how many.
define i64 @changed(ptr %ram, ptr %store, ptr %slots, i64 %first, i64 %last, ptr %out) {{
  %memcmp = inttoptr i64 {memcmp} to ptr
  br label %loop
loop:
  %n = phi i64 [ %first, %0 ], [ %n1, %next ]
  %count = phi i64 [ 0, %0 ], [ %more, %next ]
  %on = icmp ult i64 %n, %last
  br i1 %on, label %compare, label %done
compare:
  %slot_at = getelementptr i32, ptr %slots, i64 %n
  %slot = load i32, ptr %slot_at
  %wide = zext i32 %slot to i64
  %there = shl i64 %wide, 12
  %here = shl i64 %n, 12
  %old = getelementptr i8, ptr %store, i64 %there
  %new = getelementptr i8, ptr %ram, i64 %here
  %result = call i32 %memcmp(ptr %old, ptr %new, i64 4096)
  %differs = icmp ne i32 %result, 0
  br i1 %differs, label %note, label %next
note:
  %out_at = getelementptr i32, ptr %out, i64 %count
  %number = trunc i64 %n to i32
  store i32 %number, ptr %out_at
  br label %next
next:
  %step = zext i1 %differs to i64
  %more = add i64 %count, %step
  %n1 = add i64 %n, 1
  br label %loop
done:
  ret i64 %count
}}
"""


@cache
def _changed() -> Any:
    from hypervisor.cpu import library

    memcmp = library.address_of(ctypes.CDLL(None).memcmp)
    address = native.compile_ir(_IR.format(memcmp=memcmp), ("changed",))["changed"]
    words = [ctypes.c_void_p] * 3 + [ctypes.c_uint64] * 2 + [ctypes.c_void_p]
    return ctypes.CFUNCTYPE(ctypes.c_uint64, *words)(address)


class StoreFull(Exception):
    """No slot is left for a page."""


class PageStore:
    """Room for `size` bytes of pages of `memory`; what is not used costs nothing. Slot 0 is the
    page of zeroes."""

    def __init__(self, memory: Memory, size: int) -> None:
        self._memory = memory
        self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._pages = np.frombuffer(self._map, np.uint8).reshape(-1, PAGE)
        self._uses = np.zeros(len(self._pages), np.int32)
        self._uses[0] = 1 << 30  # never given to another page
        self._free = len(self._pages) - 1
        self._present = np.zeros(memory.size // PAGE, np.int32)
        """The state that RAM was last known to be in: what it refers to is held."""

    @property
    def used(self) -> int:
        """Bytes of pages that are held."""
        return (len(self._pages) - 1 - self._free) * PAGE

    def capture(self) -> Slots:
        """Keep RAM as it is now. Raises StoreFull, and then keeps nothing."""
        changed = self._differences(self._present)
        if len(changed) > self._free:
            raise StoreFull
        slots = self._present.copy()
        if len(changed):
            free = np.flatnonzero(self._uses == 0)[: len(changed)].astype(np.int32)
            ram = self._ram()
            self._pages[free] = ram[changed]
            del ram
            slots[changed] = free
            self._free -= len(changed)
        self._uses[_slots_in(slots)] += 1
        self._hold(slots)
        return slots

    def restore(self, slots: Slots) -> None:
        """Make RAM what it was."""
        changed = self._differences(slots)
        if len(changed):
            ram = self._ram()
            ram[changed] = self._pages[slots[changed]]
            del ram
        self._hold(slots)
        self._memory.wrote()

    def drop(self, slots: Slots) -> None:
        """A state that was captured is not wanted any more."""
        used = _slots_in(slots)
        self._uses[used] -= 1
        self._free += int((self._uses[used] == 0).sum())

    def _hold(self, slots: Slots) -> None:
        self._uses[_slots_in(slots)] += 1
        before, self._present = self._present, slots
        self.drop(before)

    def _ram(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._memory.map, np.uint8).reshape(-1, PAGE)

    def _differences(self, slots: Slots) -> npt.NDArray[np.int32]:
        """Numbers of the pages of RAM that are not what `slots` says."""
        out = np.empty(len(slots), np.int32)
        count = 0
        outside = 0
        empty: list[npt.NDArray[np.int32]] = []
        for first, last in self._memory.extents():
            empty.append(_used(slots, outside, first))
            outside = last
            count += _changed()(
                self._memory.host_address,
                self._pages.ctypes.data,
                slots.ctypes.data,
                first,
                last,
                out.ctypes.data + 4 * count,
            )
        empty.append(_used(slots, outside, len(slots)))
        return np.concatenate([out[:count], *empty])

    def close(self) -> None:
        del self._pages
        self._map.close()


def _slots_in(slots: Slots) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.bincount(slots))


def _used(slots: Slots, first: int, last: int) -> npt.NDArray[np.int32]:
    """Pages where the host holds nothing now, which are zeroes, and were not."""
    return (first + np.flatnonzero(slots[first:last])).astype(np.int32)

"""Counting every stretch of straight-line code: a second BLOCK callback, while it is wanted.

A *run* is what a hart executes between two taken transfers. The engine's cuts do not show in it,
as it is found by what was retired: a block left midway ends at the instruction that was not.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_uint64
from functools import cache

from hypervisor.cpu import native
from hypervisor.cpu.cells import ClockCell, HartCell, offset

FUNCTIONS = ("cover", "move")


class CoverCell(ctypes.Structure):
    """Where a hart is in its present run, and the table of those that ended."""

    _fields_ = [
        ("cover_hart", c_uint64),  # address of the HartCell
        ("block_start", c_uint64),  # the last block entered
        ("block_end", c_uint64),
        ("block_entry", c_uint64),  # bytes this hart had retired when it entered it
        ("run_start", c_uint64),  # NEVER: none yet
        ("run_space", c_uint64),
        ("table", c_uint64),  # of RunEntry
        ("table_mask", c_uint64),  # its length, a power of two, less one
        ("table_used", c_uint64),
        ("table_limit", c_uint64),  # entries that it may hold
        ("runs_lost", c_uint64),  # that found no room
    ]
    block_start: int
    block_end: int
    block_entry: int
    run_start: int
    run_space: int
    table: int
    table_mask: int
    table_used: int
    table_limit: int
    runs_lost: int


ENTRY_WORDS = ("start", "end", "next", "space", "count")
"""One kind of run: its first byte, the byte behind its last, where the hart went from there, the
address space (below 4096: a privilege level; else the address of a user's root page table), and how
often it happened; 0: no entry."""

_IR = """
define internal i64 @slot(i64 %start, i64 %end, i64 %next, i64 %space) alwaysinline {{
  %a = mul i64 %start, -7046029254386353131
  %b = mul i64 %end, -4658895280553007687
  %c = mul i64 %next, -7723592293110705685
  %d = mul i64 %space, 2870177450012600261
  %ab = xor i64 %a, %b
  %cd = xor i64 %c, %d
  %abcd = add i64 %ab, %cd
  %high = lshr i64 %abcd, 29
  %mixed = xor i64 %abcd, %high
  %spread = mul i64 %mixed, -4658895280553007687
  %top = lshr i64 %spread, 32
  ret i64 %top
}}
define internal void @insert(ptr %cover, i64 %start, i64 %end, i64 %next, i64 %space, i64 %count) {{
entry:
  %table = call ptr @pointer(ptr %cover, i64 {table})
  %mask = call i64 @get(ptr %cover, i64 {table_mask})
  %first = call i64 @slot(i64 %start, i64 %end, i64 %next, i64 %space)
  br label %probe
probe:
  %position = phi i64 [ %first, %entry ], [ %after, %other ]
  %index = and i64 %position, %mask
  %scaled = mul i64 %index, 40
  %at = getelementptr i8, ptr %table, i64 %scaled
  %old = call i64 @get(ptr %at, i64 32)
  %free = icmp eq i64 %old, 0
  br i1 %free, label %new, label %compare
compare:
  %s = call i64 @get(ptr %at, i64 0)
  %e = call i64 @get(ptr %at, i64 8)
  %n = call i64 @get(ptr %at, i64 16)
  %p = call i64 @get(ptr %at, i64 24)
  %ds = xor i64 %s, %start
  %de = xor i64 %e, %end
  %dn = xor i64 %n, %next
  %dp = xor i64 %p, %space
  %d1 = or i64 %ds, %de
  %d2 = or i64 %dn, %dp
  %different = or i64 %d1, %d2
  %same = icmp eq i64 %different, 0
  br i1 %same, label %known, label %other
other:
  %after = add i64 %index, 1
  br label %probe
known:
  %more = add i64 %old, %count
  call void @put(ptr %at, i64 32, i64 %more)
  ret void
new:
  %used = call i64 @get(ptr %cover, i64 {table_used})
  %limit = call i64 @get(ptr %cover, i64 {table_limit})
  %full = icmp uge i64 %used, %limit
  br i1 %full, label %lost, label %fill
lost:
  call void @add(ptr %cover, i64 {runs_lost}, i64 %count)
  ret void
fill:
  call void @add(ptr %cover, i64 {table_used}, i64 1)
  call void @put(ptr %at, i64 0, i64 %start)
  call void @put(ptr %at, i64 8, i64 %end)
  call void @put(ptr %at, i64 16, i64 %next)
  call void @put(ptr %at, i64 24, i64 %space)
  call void @put(ptr %at, i64 32, i64 %count)
  ret void
}}
; Put the %length entries of an older table into the present one.
define void @move(ptr %cover, ptr %old, i64 %length) {{
entry:
  br label %each
each:
  %index = phi i64 [ 0, %entry ], [ %next_index, %skip ]
  %done = icmp eq i64 %index, %length
  br i1 %done, label %end, label %look
look:
  %scaled = mul i64 %index, 40
  %at = getelementptr i8, ptr %old, i64 %scaled
  %count = call i64 @get(ptr %at, i64 32)
  %free = icmp eq i64 %count, 0
  br i1 %free, label %skip, label %take
take:
  %s = call i64 @get(ptr %at, i64 0)
  %e = call i64 @get(ptr %at, i64 8)
  %n = call i64 @get(ptr %at, i64 16)
  %p = call i64 @get(ptr %at, i64 24)
  call void @insert(ptr %cover, i64 %s, i64 %e, i64 %n, i64 %p, i64 %count)
  br label %skip
skip:
  %next_index = add i64 %index, 1
  br label %each
end:
  ret void
}}
; Called after @block has counted, and not for a block that it left alone.
define void @cover(ptr %uc, i64 %address, i32 %size, ptr %cover) {{
  %hart = call ptr @pointer(ptr %cover, i64 {cover_hart})
  %reason = call i64 @get(ptr %hart, i64 {reason})
  %stops = icmp ne i64 %reason, 0
  br i1 %stops, label %leave, label %enter
leave:
  ret void
enter:
  %clock = call ptr @pointer(ptr %hart, i64 {clock})
  %units = call i64 @get(ptr %clock, i64 {units})
  %base = call i64 @get(ptr %hart, i64 {executed_base})
  %bytes = zext i32 %size to i64
  %own = add i64 %units, %base
  %entry = sub i64 %own, %bytes
  %start = call i64 @get(ptr %cover, i64 {block_start})
  %end = call i64 @get(ptr %cover, i64 {block_end})
  %entered = call i64 @get(ptr %cover, i64 {block_entry})
  %retired = sub i64 %entry, %entered
  %length = sub i64 %end, %start
  %midway = icmp ult i64 %retired, %length
  %part = add i64 %start, %retired
  %left = select i1 %midway, i64 %part, i64 %end
  call void @put(ptr %cover, i64 {block_start}, i64 %address)
  %behind = add i64 %address, %bytes
  call void @put(ptr %cover, i64 {block_end}, i64 %behind)
  call void @put(ptr %cover, i64 {block_entry}, i64 %entry)
  %run = call i64 @get(ptr %cover, i64 {run_start})
  %none = icmp eq i64 %run, -1
  %straight = icmp eq i64 %left, %address
  %taken = xor i1 %straight, true
  %begins = or i1 %none, %taken
  br i1 %begins, label %begin, label %done
begin:
  call void @put(ptr %cover, i64 {run_start}, i64 %address)
  %old_space = call i64 @get(ptr %cover, i64 {run_space})
  %env = call ptr @pointer(ptr %hart, i64 {env})
  %space = call i64 @space(ptr %env)
  call void @put(ptr %cover, i64 {run_space}, i64 %space)
  br i1 %none, label %done, label %record
record:
  call void @insert(ptr %cover, i64 %run, i64 %left, i64 %address, i64 %old_space, i64 1)
  ret void
done:
  ret void
}}
"""


@cache
def callbacks(space: str) -> Mapping[str, int]:
    """The compiled callbacks. `space`: IR text of `i64 @space(ptr %env)`, which tells a hart's
    address space (see ENTRY_WORDS)."""
    words = {name: offset(HartCell, name) for name, *_ in HartCell._fields_}
    words |= {name: offset(ClockCell, name) for name, *_ in ClockCell._fields_}
    words |= {name: offset(CoverCell, name) for name, *_ in CoverCell._fields_}
    words["uc_emu_stop"] = 0  # the helpers' @stop is not called
    return native.compile_ir((native.HELPERS + _IR).format(**words) + space, FUNCTIONS)

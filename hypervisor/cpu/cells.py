"""Memory shared between Python and the native callbacks: plain words, one struct a role."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_uint64

NEVER = (1 << 64) - 1
"""As a deadline: none. As `previous_end`: the next block counts as a taken transfer."""

UNITS_PER_TICK = 128
"""Machine clock units (one byte of retired code each) per tick of the 10 MHz timebase."""


class ClockCell(ctypes.Structure):
    """The machine's serial clock, in units: bytes of code retired plus idle time passed over."""

    _fields_ = [
        ("units", c_uint64),  # now, exact at safe points
        ("visible", c_uint64),  # `units` at the last taken transfer: what the guest sees
        ("deadline", c_uint64),  # stop at the first taken transfer at or after this; 0: at once
        ("idle", c_uint64),  # units that passed with no code executed
        ("host_writes", c_uint64),  # grows when others than a hart may write RAM
        ("harts", c_uint64),  # address of the first HartCell, 0: a hart alone looks after itself
    ]
    units: int
    visible: int
    deadline: int
    idle: int
    host_writes: int
    harts: int


class Reason:
    """Why a hart's run ended (`HartCell.reason`)."""

    NONE = 0  # the hart waits for an interrupt, or the engine reported an error
    DEADLINE = 1
    FIRMWARE_CALL = 2
    DOUBLE_FAULT = 3
    CODE_CHECK = 4  # seen by `Hart.run` only
    BREAKPOINT = 5
    STEP = 6
    WATCHPOINT = 7


TRAP_CAUSES = 32


class HartCell(ctypes.Structure):
    """What the native callbacks know of one hart."""

    _fields_ = [
        ("clock", c_uint64),  # address of the ClockCell
        ("next_hart", c_uint64),  # address of the next HartCell on the same clock, 0: the last
        ("uc", c_uint64),
        ("env", c_uint64),
        ("cpu", c_uint64),
        ("previous_end", c_uint64),  # end address of the last counted block
        ("code_check", c_uint64),  # not 0: translations may be stale from the next block on
        ("reason", c_uint64),
        ("firmware_calls", c_uint64),  # 1: ecall from S-mode is ours (built-in SBI)
        ("watch_code", c_uint64),  # 1: every barrier for code (fence.i, IC) looks for changes
        ("host_writes_seen", c_uint64),  # ClockCell.host_writes at the last flush
        ("instruction", c_uint64),  # scratch for the faulting instruction
        ("trapped_at", c_uint64),  # where the last trap was taken whose handler could start
        ("traps", c_uint64 * TRAP_CAUSES),
        ("code_barriers", c_uint64),  # how many there were
        ("flushes", c_uint64),  # times that all translations were dropped
        ("dropped_pages", c_uint64),  # times that some of a page alone were
        ("ram_host", c_uint64),  # where RAM lies in the host
        ("ram_size", c_uint64),
        ("shadow", c_uint64),  # code pages as they were when first translated, as RAM is laid out
        ("translated_words", c_uint64),  # a byte for each 4 bytes of RAM: they were translated
        ("listed", c_uint64),  # a byte for each page of RAM: it is in `pages`
        ("pages", c_uint64),  # u32 each: numbers of the pages that hold translated code
        ("page_count", c_uint64),
        ("drop_all", c_uint64),  # 1: all translations are to be dropped
        ("cntp_ctl", c_uint64),  # AArch64: the generic timers' registers
        ("cntp_cval", c_uint64),
        ("cntv_ctl", c_uint64),
        ("cntv_cval", c_uint64),
        ("timer_changed", c_uint64),  # 1: a timer's register was written
        ("tlb_stale", c_uint64),  # 1: another hart said that the TLB is, before this runs on
        ("ram_base", c_uint64),  # guest-physical
        ("ram_addr", c_uint64),  # as the engine numbers RAM
        # For stops that a debugger asks for; "at" and "until" are bytes this hart has retired.
        ("executed_base", c_uint64),  # added to `units` in a run: this hart's retired bytes
        ("resume_pc", c_uint64),  # do not stop here again ...
        ("resume_at", c_uint64),  # ... at this moment
        ("step_from", c_uint64),
        ("step_to", c_uint64),
        ("until", c_uint64),
        ("last_pc", c_uint64),
        ("last_at", c_uint64),
        ("last_units", c_uint64),
        ("failed_store", c_uint64),  # the engine's error number of a store that ended the run
    ]
    clock: int
    next_hart: int
    uc: int
    env: int
    cpu: int
    previous_end: int
    code_check: int
    reason: int
    firmware_calls: int
    watch_code: int
    host_writes_seen: int
    instruction: int
    trapped_at: int
    traps: ctypes.Array[c_uint64]
    code_barriers: int
    flushes: int
    dropped_pages: int
    ram_host: int
    ram_size: int
    shadow: int
    translated_words: int
    listed: int
    pages: int
    page_count: int
    drop_all: int
    cntp_ctl: int
    cntp_cval: int
    cntv_ctl: int
    cntv_cval: int
    timer_changed: int
    tlb_stale: int
    ram_base: int
    ram_addr: int
    executed_base: int
    resume_pc: int
    resume_at: int
    step_from: int
    step_to: int
    until: int
    last_pc: int
    last_at: int
    last_units: int
    failed_store: int


class WatchCell(ctypes.Structure):
    """A watchpoint, and the access that met it (guest-physical addresses)."""

    _fields_ = [
        ("watch_hart", c_uint64),  # address of the HartCell
        ("watch_begin", c_uint64),
        ("watch_length", c_uint64),
        ("watch_type", c_uint64),  # of the access: library.MEM_READ or MEM_WRITE
        ("watch_address", c_uint64),
        ("watch_size", c_uint64),
        ("watch_value", c_uint64),  # of a store
    ]
    watch_hart: int
    watch_begin: int
    watch_length: int
    watch_type: int
    watch_address: int
    watch_size: int
    watch_value: int


def offset(structure: type[ctypes.Structure], field: str) -> int:
    """Bytes from the struct's start to `field`."""
    position: int = getattr(structure, field).offset
    return position


def link(clock: ClockCell, cells: Sequence[HartCell]) -> None:
    """Let the harts of one clock know of each other. The cells must outlive the clock's use."""
    addresses = [ctypes.addressof(cell) for cell in cells]
    clock.harts = addresses[0]
    for cell, following in zip(cells, [*addresses[1:], 0], strict=True):
        cell.next_hart = following

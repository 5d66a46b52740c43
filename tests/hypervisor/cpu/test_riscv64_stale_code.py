"""Code written through another mapping of its page runs as written after fence.i.

Without the fence.i trap the engine keeps translations of the old code: each test's guest sees
the old value then (`test_without_the_trap_stale_code_runs` shows that it does).
"""

from __future__ import annotations

import ctypes
import struct

import pytest

from hypervisor.cpu import library
from hypervisor.cpu.cells import NEVER

RAM = 0x8000_0000
ROOT, LEVEL1, LEVEL0 = RAM + 0x10000, RAM + 0x11000, RAM + 0x12000
PAGE = RAM + 0x20000
READ_EXECUTE, READ_WRITE, POINTER = 0xCB, 0xC7, 0x01

RETURN_1 = 0x00100513  # li a0, 1
RETURN = 0x00008067

EdgeHook = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64), ctypes.c_void_p, ctypes.c_void_p
)
"""Told of each block that is translated; the first word of what describes it is its pc."""

PATCH_TWO_FUNCTIONS = """
    li s0, 0x80040000
    li s1, 0x80041000
    li s2, 0x00200513
    jalr s0
    li t0, 0x800
    add s3, s0, t0
    jalr s3
    sw s2, 0(s1)
    add s4, s1, t0
    sw s2, 0(s4)
    {fence}
    jalr s0
    mv s5, a0
    jalr s3
    wfi
"""


def map_pages(memory):
    """Sv39: the first 16 pages of RAM executable, PAGE executable at one address and writable
    at another."""

    def entry(physical, flags):
        return struct.pack("<Q", physical >> 12 << 10 | flags)

    memory.write(ROOT + 8 * 2, entry(LEVEL1, POINTER))
    memory.write(LEVEL1, entry(LEVEL0, POINTER))
    for number in range(16):
        memory.write(LEVEL0 + 8 * number, entry(RAM + 4096 * number, READ_EXECUTE))
    memory.write(LEVEL0 + 8 * 0x40, entry(PAGE, READ_EXECUTE))
    memory.write(LEVEL0 + 8 * 0x41, entry(PAGE, READ_WRITE))
    for offset in (0, 0x800):
        memory.write(PAGE + offset, struct.pack("<II", RETURN_1, RETURN))


def run_patching(rig, fence, after_user_code=True):
    rig.memory.write(RAM, rig.assemble(PATCH_TWO_FUNCTIONS.format(fence=fence)))
    map_pages(rig.memory)
    hart = rig.harts[0]
    hart.registers["priv"] = 1
    hart.begin(RAM)
    hart.registers["satp"] = 8 << 60 | ROOT >> 12
    hart.cell.watch_code = int(after_user_code)
    hart.run()
    assert hart.waiting
    return hart.registers["s5"], hart.registers["a0"]


def test_fence_i_makes_both_patched_functions_new(rig):
    assert run_patching(rig, "fence.i") == (2, 2)


def test_fence_i_of_a_small_guest_without_user_code_sees_its_stores(rig):
    assert run_patching(rig, "fence.i", after_user_code=False) == (2, 2)


def test_without_the_trap_stale_code_runs(rig):
    first, second = run_patching(rig, "sfence.vma")

    assert 1 in (first, second)


@pytest.mark.parametrize("source", ["host", "other hart"])
def test_code_written_from_outside_runs_new_after_fence_i(two_harts, source):
    rig = two_harts
    loop = rig.assemble("""
        la s0, function
        jalr s0
        mv s1, a0
        wfi
        fence.i
        jalr s0
        wfi
    .balign 64
    function:
        li a0, 1
        .option norvc
        ret
    """)
    rig.memory.write(RAM, loop)
    one, other = rig.harts
    function = RAM + 64
    one.begin(RAM)
    one.run()
    patch = rig.assemble(f"li t0, {function}\n li t1, 0x4509\n sh t1, 0(t0)\n wfi")  # c.li a0, 2
    if source == "host":
        rig.memory.write(function, struct.pack("<H", 0x4509))
    else:
        one.cell.watch_code = 1  # as hart_start sets it when a second hart begins
        rig.memory.map[0x8000 : 0x8000 + len(patch)] = patch
        other.begin(RAM + 0x8000)
        other.run()
    rig.clock.cell.deadline = NEVER
    one.waiting = False
    one.run()

    assert one.registers["s1"] == 1
    assert one.registers["a0"] == 2


def test_fence_i_before_any_user_code_keeps_translations(rig):
    hart = rig.load("fence.i\n fence.i\n wfi")
    before = hart.cell.flushes, hart.cell.dropped_pages

    hart.run()

    assert hart.cell.code_barriers == 2
    assert (hart.cell.flushes, hart.cell.dropped_pages) == before


def test_fence_i_with_unchanged_code_keeps_translations(rig):
    hart = rig.load("call f\n fence.i\n call f\n wfi\nf: addi a0, a0, 1\n ret")
    hart.cell.watch_code = 1
    before = hart.cell.flushes, hart.cell.dropped_pages

    hart.run()

    assert hart.registers["a0"] == 2
    assert (hart.cell.flushes, hart.cell.dropped_pages) == before


def test_changed_word_drops_the_blocks_that_hold_it_and_no_others(rig):
    """Two functions in a page, of which one is written."""
    hart = rig.load("""
        .option norvc
        jal f
        jal g
        wfi
    f:  addi a0, a0, 1
        ret
    g:  addi a0, a0, 16
        ret
    """)
    hart.run()
    translated = []
    count = EdgeHook(lambda uc, block, previous, data: translated.append(block[0] - RAM))
    hart.engine.hook(library.HOOK_EDGE_GENERATED, library.address_of(count), 0)
    rig.memory.write(RAM + 0xC, struct.pack("<I", 0x00250513))  # f: addi a0, a0, 2

    hart.notice_host_writes()
    hart.pc = RAM
    hart.waiting = False
    hart.run()

    assert hart.registers["a0"] == 1 + 16 + 2 + 16
    assert {0, 4, 0xC, 0x14} & set(translated) == {0xC}


def test_page_that_holds_no_code_any_more_is_not_compared_again(rig):
    """Three pages hold code; two of them are written, the first of the list among them."""
    hart = rig.load("""
        li t0, 0x80001000
        jalr t0
        li t0, 0x80002000
        jalr t0
        wfi
    """)
    for page in (1, 2):
        rig.memory.write(RAM + 0x1000 * page, struct.pack("<II", RETURN_1, RETURN))
    hart.run()
    before = hart.cell.page_count
    for page in (0, 2):
        rig.memory.write(RAM + 0x1000 * page, bytes(64))

    hart.notice_host_writes()

    assert before == 3
    assert (hart.cell.page_count, hart.cell.dropped_pages) == (1, 2)
    assert ctypes.string_at(hart.cell.listed, 3) == bytes((0, 1, 0))
    assert ctypes.c_uint32.from_address(hart.cell.pages).value == 1

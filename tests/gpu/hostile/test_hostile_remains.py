"""What was in memory before: nobody's old bytes are in what a context is given."""

from __future__ import annotations

import mmap
import os
import stat

import pytest

from gpu import opencl as cl
from gpu import protocol as p
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
from gpu.worker.printed import PRINTF_ROOM
from tests.gpu.hostile.conftest import Attacker
from tests.gpu.hostile.test_hostile_kernels import FINE, memory_of

OLD = b"\xa5\x5a\xc3\x3c"
MARK = b"left behind by a kernel that has ended"
MARKING = f"""
__kernel void k(__global char *a) {{
    __local char l[16384];
    volatile char x[4096];
    const char text[] = {{ {", ".join(str(byte ^ 0x55) for byte in MARK)} }};
    for (int i = 0; i < 16384; i++) l[i] = text[i % sizeof text] ^ 0x55;
    for (int i = 0; i < 4096; i++) x[i] = l[i];
    a[0] = l[a[0]] + x[a[1]];
}}"""


@pytest.mark.parametrize("sharing", ["zero-copy", "map", "copy"])
def test_new_buffer_has_nothing_of_an_old_one(sharing: str) -> None:
    with GuestBench(sharing=sharing) as guest:
        guest.set_up()
        found = [life_of_a_buffer(guest, size) for size in (4096, 1 << 20, 8 << 20) for _ in "abc"]

    assert found == [True] * 9


def life_of_a_buffer(guest: GuestBench, size: int) -> bool:
    """Whether it was zero when it was new. It is not when it goes."""
    guest.write(0, b"\xff" * size)
    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=size),
        p.ReadBuffer(queue=QUEUE, buffer=20, size=size, blob=BULK),
        p.FillBuffer(queue=QUEUE, buffer=20, size=size, pattern=OLD),
        p.Release(id=20),
    )
    return guest.read(0, size) == bytes(size)


@pytest.mark.parametrize("sharing", ["zero-copy", "map", "copy"])
@pytest.mark.parametrize("side", [16, 1024])
def test_new_image_has_nothing_of_an_old_one(sharing: str, side: int) -> None:
    with GuestBench(sharing=sharing) as guest:
        guest.set_up()
        found = [life_of_an_image(guest, side) for _ in range(3)]

    assert found == [True] * 3


def life_of_an_image(guest: GuestBench, side: int) -> bool:
    """Whether it was zero when it was new. It is not when it goes."""
    guest.write(0, b"\xff" * (4 * side * side))
    guest.do(
        p.CreateImage(
            id=20,
            context=CONTEXT,
            type=cl.MemObject.IMAGE2D,
            width=side,
            height=side,
            channel_order=cl.ChannelOrder.RGBA,
            channel_type=cl.ChannelType.UNSIGNED_INT8,
        ),
        p.ReadImage(queue=QUEUE, image=20, origin=(0, 0, 0), region=(side, side, 1), blob=BULK),
        p.FillImage(queue=QUEUE, image=20, origin=(0, 0, 0), region=(side, side, 1), color=OLD * 4),
        p.Release(id=20),
    )
    return guest.read(0, 4 * side * side) == bytes(4 * side * side)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into the worker from outside")
def test_next_worker_has_nothing_of_the_last(attacker: Attacker) -> None:
    context = attacker.guest.context
    attacker.run(MARKING)
    old = memory_of(context.link.worker.pid)
    attacker.run("__kernel void k(__global int *a) { *(__global int *)0 = 1; }")
    attacker.run(FINE)
    new = memory_of(context.link.worker.pid)
    spare = memory_of(attacker.guest.gpu.workers._spare.pid)

    assert MARK in old
    assert MARK not in new
    assert MARK not in spare


FILES = """
__kernel void k(__global long *a) {
    __global char *room = (__global char *)(a + 1024);
    for (long fd = 0; fd < 1024; fd++) {
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(5L), "D"(fd), "S"(room)
            : "rcx", "r11", "memory");
        uint mode = *(__global uint *)(room + 24), size = *(__global uint *)(room + 48);
        a[fd] = result ? 0 : (mode & 0170000) | (long)size << 32;
    }
}"""
"""fstat of all that may be open."""


def test_worker_has_no_file_open_but_null_and_what_is_its_own(attacker: Attacker) -> None:
    """That is its socket, its progress, and the file in memory that kernels print to."""
    found = attacker.run(FILES, 16384)
    assert found is not None

    kinds = sorted(kind for kind in memoryview(found[:8192]).cast("q") if kind)

    one_page = stat.S_IFREG | mmap.PAGESIZE << 32
    printed = stat.S_IFREG | PRINTF_ROOM << 32
    assert kinds == [*[stat.S_IFCHR] * 2, stat.S_IFSOCK, one_page, printed]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into the worker from outside")
def test_kernel_that_writes_its_progress_is_ended_all_the_same(attacker: Attacker) -> None:
    with open(f"/proc/{attacker.guest.context.link.worker.pid}/maps") as maps:
        line = next(line for line in maps if "gpu-progress" in line)
    address = int(line.partition("-")[0], 16)
    source = f"""
    __kernel void k(__global int *a) {{
        volatile __global ulong *cells = (volatile __global ulong *){address}L;
        for (ulong i = 0;; i++) cells[0] = i & 1 ? i : i << 32;
    }}"""

    assert attacker.run(source) is None
    assert "took more than 1 s" in attacker.reason()
    assert attacker.run(FINE) is not None

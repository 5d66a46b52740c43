"""Kernels that hang, run wild, take memory and look around: what happens then."""

from __future__ import annotations

import ctypes
import os

import pytest

from gpu import protocol as p
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, GuestBench
from tests.gpu.hostile.conftest import SECRET, Attacker

FINE = "__kernel void k(__global int *a) { a[0] = 7; }"
HOSTS_SECRET = b"what only the hypervisor's own process may know...."


def test_endless_kernel_is_ended_by_the_watchdog(attacker: Attacker) -> None:
    source = "__kernel void k(volatile __global int *a) { a[0] = 0; while (a[0] == 0); }"

    assert attacker.run(source) is None
    assert "took more than 1 s" in attacker.reason()
    assert attacker.run(FINE) is not None


def test_kernel_that_prints_for_ever_is_ended_too(attacker: Attacker) -> None:
    source = '__kernel void k(__global int *a) { while (true) printf("text"); }'

    assert attacker.run(source) is None
    assert "took more than 1 s" in attacker.reason()
    assert attacker.run(FINE) is not None


@pytest.mark.parametrize(
    "store",
    ["a[1L << 33] = 1;", "*(__global int *)0 = 1;", "*(__global int *)(1L << 62) = 1;"],
    ids=["far out of bounds", "null", "no address"],
)
def test_wild_store_loses_only_its_context(attacker: Attacker, store: str) -> None:
    assert attacker.run(f"__kernel void k(__global int *a) {{ {store} }}") is None
    assert "SIGSEGV" in attacker.reason()
    assert attacker.run(FINE) is not None


def test_stores_behind_a_buffer_hurt_nobody_else(attacker: Attacker) -> None:
    """They may hit other memory of the same context, or end it, at once or later: that is the
    guest's affair."""
    loop = "for (long i = 0; i < 1 << 22; i++) a[1024 + i] = 0x41414141;"

    attacker.run(f"__kernel void k(__global int *a) {{ {loop} }}")

    assert any([attacker.run(FINE), attacker.run(FINE)])


def test_endless_recursion_of_the_stack_loses_only_its_context(attacker: Attacker) -> None:
    source = """
    __kernel void k(__global int *a) {
        __asm__ volatile("1: push %%rax; jmp 1b" ::: "memory");
    }"""

    assert attacker.run(source) is None
    assert attacker.run(FINE) is not None


def test_private_array_larger_than_the_stack_loses_only_its_context(attacker: Attacker) -> None:
    source = """
    __kernel void k(__global int *a) {
        volatile int x[16000000];
        for (int i = 0; i < 16000000; i++) x[i] = i + a[0];
        a[0] = x[5];
    }"""

    assert attacker.run(source) is None
    assert attacker.run(FINE) is not None


def test_two_hundred_gibibytes_are_refused_beyond_the_quota(attacker: Attacker) -> None:
    guest = attacker.guest
    guest.wait(guest.submit(p.CreateContext(id=CONTEXT)))
    used = guest.gpu.used

    huge = [
        guest.status_of(p.CreateBuffer(id=100 + i, context=CONTEXT, size=1 << 30))
        for i in range(200)
    ]
    large = [
        guest.status_of(p.CreateBuffer(id=100 + i, context=CONTEXT, size=64 << 20))
        for i in range(8)
    ]
    taken = guest.gpu.used - used
    guest.wait(guest.submit(*(p.Release(id=100 + i) for i in range(8)), p.Release(id=CONTEXT)))
    guest.ask(p.GetError())

    assert set(huge) <= {Status.INVALID_BUFFER_SIZE, Status.MEM_OBJECT_ALLOCATION_FAILURE}
    assert large.count(Status.SUCCESS) == 3
    assert taken == large.count(Status.SUCCESS) * (64 << 20)
    assert guest.gpu.used == used
    attacker.neighbour.compute()


def test_secret_of_the_hypervisor_is_not_at_its_address(attacker: Attacker) -> None:
    secret = ctypes.create_string_buffer(HOSTS_SECRET)
    address = ctypes.addressof(secret)
    source = f"""
    __kernel void k(__global char *a) {{
        for (int i = 0; i < {len(HOSTS_SECRET)}; i++)
            a[i] = ((__global char *){address}L)[i];
    }}"""

    found = attacker.run(source)

    assert HOSTS_SECRET not in (found or b"")
    assert HOSTS_SECRET not in attacker.guest.bench.memory.read(0x8000_0000, 16 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into the worker from outside")
def test_worker_has_nothing_of_the_hypervisor_or_another_context(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its memory is searched, which is all that a kernel can reach."""
    monkeypatch.setenv("A_PASSWORD", HOSTS_SECRET.decode())
    own = b"what this context itself has"
    with GuestBench() as guest:
        guest.set_up()
        guest.write(0, own)
        guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK))
        memory = memory_of(guest.context.link.worker.pid)
    neighbours = memory_of(attacker.neighbour.context.link.worker.pid)

    assert own in memory
    assert SECRET in neighbours
    assert SECRET not in memory
    assert HOSTS_SECRET not in memory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into the worker from outside")
@pytest.mark.parametrize(("isolation", "has_granted"), [("shared", True), ("strict", False)])
def test_worker_maps_no_more_of_the_guest_than_its_isolation_says(
    isolation: str, has_granted: bool
) -> None:
    granted, kept, named = b"granted, but never named", b"never granted at all", b"named data"
    with GuestBench(isolation=isolation) as guest:
        guest.context.revoke(BULK)
        guest.context.grant(BULK, [(0x8000_0000 + guest.bulk_at, 1 << 20)])
        guest.set_up()
        guest.write(0, named)
        guest.write(8192, granted)
        guest.write(2 << 20, kept)
        guest.do(
            p.CreateBuffer(id=20, context=CONTEXT, size=4096),
            p.WriteBuffer(queue=2, buffer=20, size=64, blob=BULK),
        )
        memory = memory_of(guest.context.link.worker.pid)

    assert named in memory
    assert (granted in memory) == has_granted
    assert kept not in memory


def memory_of(pid: int) -> bytes:
    """What a process can read of its memory."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            start, end = (int(each, 16) for each in span.split("-"))
            found.append(read_memory(memory, start, end) if "r" in rights else b"")
    return b"\0".join(found)


def read_memory(memory, start: int, end: int) -> bytes:
    try:
        memory.seek(start)
        return memory.read(end - start)
    except (OSError, OverflowError):  # what only the kernel may read
        return b""

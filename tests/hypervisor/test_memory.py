"""Guest RAM: bounds, pages, digests, and what is given back to the host."""

from __future__ import annotations

import os
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.cpu.cells import ClockCell
from hypervisor.device import BackendError, MemoryAccessError
from hypervisor.memory import PAGE, Memory
from tests.effort import effort

BASE, SIZE = 0x8000_0000, 1 << 20


@pytest.fixture
def memory():
    ram = Memory(BASE, SIZE)
    yield ram
    ram.close()


@pytest.mark.parametrize("address", [BASE, BASE + 1, BASE + SIZE - 5])
def test_what_is_written_is_read(memory, address):
    memory.write(address, b"hello")

    assert memory.read(address, 5) == b"hello"
    assert bytes(memory.view(address, 5)) == b"hello"


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_any_bytes_can_be_written(memory, data):
    memory.write(BASE, data)

    assert memory.read(BASE, 1) == b"x"


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (BASE - 1, 1),
        (BASE - 1, 2),
        (BASE + SIZE, 1),
        (BASE + SIZE - 1, 2),
        (BASE, SIZE + 1),
        (0, 8),
        ((1 << 64) - 4, 8),
        (BASE, 1 << 64),
    ],
)
def test_outside_is_refused_and_changes_nothing(memory, address, size):
    with pytest.raises(MemoryAccessError):
        memory.read(address, size)
    with pytest.raises(MemoryAccessError):
        memory.view(address, size)
    assert not memory.contains(address, size)


def test_write_that_reaches_outside_writes_nothing(memory):
    with pytest.raises(MemoryAccessError):
        memory.write(BASE + SIZE - 2, b"xyz")

    assert memory.read(BASE + SIZE - 2, 2) == b"\0\0"


@settings(max_examples=effort(40, 2_000))
@given(st.dictionaries(st.integers(0, SIZE // PAGE - 1), st.binary(min_size=1), max_size=20))
def test_pages_are_those_with_anything_but_zeroes(contents):
    memory = Memory(BASE, SIZE)
    for page, data in contents.items():
        memory.write(BASE + page * PAGE, data)

    used = sorted(page * PAGE for page, data in contents.items() if any(data))

    assert memory.pages() == used
    memory.close()


def test_digest_is_of_the_contents_and_their_place(memory):
    empty = memory.digest()
    memory.write(BASE, b"x")
    one = memory.digest()
    memory.write(BASE, b"\0")
    memory.write(BASE + PAGE, b"x")
    moved = memory.digest()
    memory.write(BASE + PAGE, b"\0")

    assert len({empty, one, moved}) == 3
    assert memory.digest() == empty


def test_clearing_gives_the_hosts_memory_back(memory):
    memory.write(BASE, b"x" * SIZE)
    before = os.fstat(memory.fd).st_blocks

    memory.clear()

    assert before * 512 >= SIZE
    assert os.fstat(memory.fd).st_blocks == 0
    assert memory.read(BASE, SIZE) == bytes(SIZE)


def test_every_write_is_told(memory):
    cell = ClockCell()
    memory.on_write.append(cell)

    memory.write(BASE, b"x")
    memory.view(BASE, 1)[0] = 3
    memory.wrote()

    assert cell.host_writes == 2


def test_ram_that_the_host_cannot_give_is_one_sentence():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    descriptors = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))
    try:
        with pytest.raises(BackendError, match="the host cannot give 65536 MiB of RAM"):
            Memory(BASE, 64 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_closing_gives_the_descriptor_back():
    before = os.listdir("/proc/self/fd")

    Memory(BASE, SIZE).close()

    assert os.listdir("/proc/self/fd") == before


def test_file_of_the_ram_cannot_be_shrunk_by_who_is_given_it(memory):
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, PAGE)

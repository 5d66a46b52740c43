"""States of RAM kept page by page."""

from __future__ import annotations

import random

import pytest

from hypervisor.memory import PAGE, Memory
from hypervisor.pages import PageStore, StoreFull

BASE = 0x8000_0000


@pytest.fixture
def memory():
    memory = Memory(BASE, 64 * PAGE)
    yield memory
    memory.close()


@pytest.fixture
def store(memory):
    store = PageStore(memory, 32 * PAGE)
    yield store
    store.close()


def test_states_come_back_in_any_order(memory, store):
    chance = random.Random(3)
    kept = []
    for _ in range(8):
        for _ in range(3):
            memory.write(BASE + chance.randrange(64) * PAGE + 8, chance.randbytes(8))
        kept.append((store.capture(), memory.digest()))
    chance.shuffle(kept)
    for slots, digest in kept:
        store.restore(slots)
        assert memory.digest() == digest


def test_page_that_did_not_change_is_kept_once(memory, store):
    memory.write(BASE, b"x" * 3 * PAGE)
    store.capture()
    store.capture()
    memory.write(BASE, b"y")
    store.capture()

    assert store.used == 4 * PAGE


def test_cleared_memory_is_a_change(memory, store):
    empty = store.capture()
    memory.write(BASE + PAGE, b"x")
    full = store.capture()
    digest = memory.digest()
    memory.clear()
    cleared = store.capture()

    store.restore(full)
    assert memory.digest() == digest
    store.restore(cleared)
    assert memory.pages() == []
    store.restore(empty)
    assert memory.pages() == []


def test_full_store_keeps_nothing_more_until_a_state_is_dropped(memory, store):
    memory.write(BASE, b"a" * 20 * PAGE)
    first = store.capture()
    memory.write(BASE, b"b" * 10 * PAGE)
    second = store.capture()
    memory.write(BASE, b"c" * 10 * PAGE)
    with pytest.raises(StoreFull):
        store.capture()

    store.drop(first)
    third = store.capture()

    store.restore(second)
    assert memory.read(BASE, 1) == b"b"
    store.restore(third)
    assert memory.read(BASE, 11 * PAGE)[-1:] == b"a"
    assert memory.read(BASE, 1) == b"c"


def test_write_after_a_restore_is_noticed(memory, store):
    memory.write(BASE, b"a")
    first = store.capture()
    memory.write(BASE, b"b")
    store.capture()
    store.restore(first)
    memory.write(BASE, b"c")
    third = store.capture()
    memory.write(BASE, b"d")

    store.restore(third)

    assert memory.read(BASE, 1) == b"c"

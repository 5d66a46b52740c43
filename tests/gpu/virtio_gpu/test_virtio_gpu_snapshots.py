"""Snapshots of the virtio GPU's display."""

from struct import unpack_from

import cbor2
import pytest

from gpu.virtio_gpu.protocol import Command
from hypervisor.device.testing import Bench

OPTIONS = {"display": {"memory": "1M"}}


@pytest.fixture
def shown(build, bench, driver_of):
    """A display that shows a picture with a cursor, and has a blob; and its driver."""
    gpu = build(bench, **OPTIONS)
    driver = driver_of(gpu)
    driver.picture(1)
    driver.picture(2, 64, 64)
    driver.blob(3, [(driver.allocate(4096, 4096), 4096)])
    driver.ask(Command.SET_SCANOUT, 4, 2, 12, 6, 0, 1)
    driver.ask(Command.UPDATE_CURSOR, 0, 2, 2, 2, 0, 0, queue=1)
    gpu.resize(300, 200)
    return gpu, driver


@pytest.fixture
def restored(shown, build, bench):
    """Another device that was made of the first one's state, on a copy of its memory."""
    gpu, _ = shown
    other_bench = Bench()
    other_bench.memory = bench.memory
    other = build(other_bench, **OPTIONS)
    other.load(cbor2.loads(cbor2.dumps(gpu.save())))
    return other


def test_display_shows_the_same_after_a_restore(shown, restored):
    assert restored.scanout.rgb() == shown[0].scanout.rgb()
    assert restored.save() == shown[0].save()


def test_restored_display_holds_as_much_of_its_quota(shown, restored):
    assert restored.resources.quota.used == shown[0].resources.quota.used


def test_driver_goes_on_after_a_restore(shown, restored):
    _, driver = shown
    driver.device = restored

    driver.ask(Command.TRANSFER_TO_HOST_2D, 0, 0, 16, 8, 0, 1)
    driver.ask(Command.RESOURCE_UNREF, 3)

    assert restored.scanout.picture.width == 12
    assert [state["number"] for state in restored.resources.save()] == [1, 2]


def test_fences_in_flight_are_answered_after_a_restore(shown, build, bench):
    gpu, driver = shown
    driver.context(1)
    on_ring = driver.submit(b"a", flags=3, fence=1, ring=4)
    shared = driver.submit(b"b", flags=1, fence=2)
    behind = driver.request(Command.GET_DISPLAY_INFO, header=(1, 3, 0, 0))
    driver.queues[0].used()
    state = cbor2.loads(cbor2.dumps(gpu.save()))
    other = build(bench, **OPTIONS)

    other.load(state)
    other.core.made[0].complete(0)
    first = driver.queues[0].used()
    other.core.made[0].complete(4)

    assert [head for head, _ in first] == [shared.head, behind.head]
    assert [head for head, _ in driver.queues[0].used()] == [on_ring.head]
    assert unpack_from("<IIQ", behind.data()) == (0x1101, 1, 3)
    assert other.save()["fences"]["pending"] == []


def test_fenced_cursor_request_is_answered_in_its_queue(bench, build, shown):
    gpu, driver = shown
    driver.context(1)
    driver.submit(b"a", flags=1, fence=1)
    cursor = driver.request(Command.MOVE_CURSOR, 0, 5, 6, 0, 0, 0, header=(1, 2, 0, 0), queue=1)
    for queue in driver.queues[:2]:
        queue.used()
    other = build(bench, **OPTIONS)

    other.load(cbor2.loads(cbor2.dumps(gpu.save())))
    other.core.made[0].complete(0)

    assert len(driver.queues[0].used()) == 1
    assert [head for head, _ in driver.queues[1].used()] == [cursor.head]


def test_requests_that_wait_for_a_full_context_do_so_after_a_restore(shown, build, bench):
    gpu, driver = shown
    driver.context(1)
    driver.submit(b"a", flags=3, fence=1, ring=4)
    gpu.core.made[0].is_full = True
    waiting = [
        driver.submit(b"b", flags=1, fence=2),
        driver.request(Command.MOVE_CURSOR, 0, 5, 6, 0, 0, 0, header=(1, 3, 0, 0), queue=1),
    ]
    before = driver.queues[0].used(), driver.queues[1].used()
    state = cbor2.loads(cbor2.dumps(gpu.save()))
    other = build(bench, **OPTIONS)

    other.load(state)
    early = list(other.core.made[0].submitted)
    other.core.made[0].complete(4)
    driver.queues[0].used()
    other.core.made[0].complete(0)

    assert waiting[1].head not in [head for head, _ in before[1]]
    assert (early, other.core.made[0].submitted) == ([(4, b"")], [(4, b""), (0, b"b")])
    assert [head for head, _ in driver.queues[0].used()] == [waiting[0].head]
    assert [head for head, _ in driver.queues[1].used()] == [waiting[1].head]
    assert other.save()["parked"] == []


def test_watchers_see_the_restored_picture(shown):
    gpu, _ = shown
    state = gpu.save()
    gpu.reset()
    seen = []
    gpu.scanout.watchers.append(seen.append)

    gpu.load(state)

    assert seen[-1] == (0, 0, 12, 6)


PARKED = {"queue": 0, "header": [0] * 5, "head": 1, "readable": [], "writable": []}
DAMAGE = [
    {"shown": [9, 16, 8, 64, 0, 2]},
    {"shown": [1, 16, 9, 64, 0, 2]},
    {"shown": [1, 16, 8, 64, 0, 3000]},
    {"shown": [1, 16, 8, 60, 0, 2]},
    {"shown": [3, 16, 8, 1024, 0, 2]},
    {"shown": [1, 2]},
    {"resources": [{"number": 1, "size": 4096, "pieces": [[0x10, 4096]]}]},
    {"resources": [{"number": 0, "size": 4096, "pieces": None}]},
    {
        "resources": [
            {"number": 1, "size": 1, "pieces": None, "pixels": b"", "format": 2}
            | {"width": 512, "height": 513}
        ]
    },
    {"parked": [PARKED | {"queue": 2}]},
    {"parked": [PARKED | {"head": 1 << 16}]},
    {"parked": [PARKED | {"readable": [[0x10, 24]]}]},
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_state_that_cannot_be_is_refused(shown, damage):
    gpu, _ = shown

    with pytest.raises(ValueError, match=r"snapshot|unpack|rows"):
        gpu.load(gpu.save() | damage)

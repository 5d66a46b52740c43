"""The virtio GPU's contexts, capability set and fences against VIRTIO 1.2, section 5.7."""

from struct import unpack_from

import pytest

from gpu.opencl import Status
from gpu.virtio_gpu import protocol
from gpu.virtio_gpu.device import VirtioGpu
from gpu.virtio_gpu.protocol import Command, Header, Response

OK = Response.OK_NODATA

FENCE, RING = protocol.FLAG_FENCE, protocol.FLAG_FENCE | protocol.FLAG_INFO_RING_IDX


def answered(driver, *offers):
    """Which of the offers came back since the last call."""
    heads = [head for head, _ in driver.queues[0].used()]
    return [heads.index(offer.head) if offer.head in heads else None for offer in offers]


def test_core_brings_its_features_and_capability_set(driver, gpu):
    info = unpack_from("<3I", driver.ask(Command.GET_CAPSET_INFO, 0)[1])
    kind, data = driver.ask(Command.GET_CAPSET, 30, 1)

    assert driver.offered() & 0x1F == 0b11011
    assert driver.get(0x10C) == 1
    assert info == (30, 1, 12)
    assert (kind, data[:12]) == (Response.OK_CAPSET, b"capabilities")


def test_gpu_without_a_core_is_a_display_alone(bench, driver_of):
    driver = driver_of(bench.build(VirtioGpu, compute=False))

    assert driver.offered() & 0x1F == 0b00010
    assert driver.get(0x10C) == 0
    assert driver.ask(Command.GET_CAPSET, 30, 1)[0] == Response.ERR_INVALID_PARAMETER
    assert driver.context(1, 30) == Response.ERR_INVALID_PARAMETER


def test_context_is_made_at_the_core_under_its_name(driver, core):
    assert driver.context(1, 30) == OK
    assert [context.label for context in core.made] == ["prog"]


def test_name_of_a_context_cannot_drive_the_hosts_terminal(driver, core):
    assert driver.context(1, 30, "é\x1b[2J\r\n\0".encode() + b"\xff") == OK
    assert [context.label for context in core.made] == ["é?[2J???\ufffd"]


def test_context_without_capability_set_is_tolerated(driver, core):
    address = driver.allocate(4096, 4096)
    driver.blob(7, [(address, 4096)])

    kinds = [
        driver.context(1, 0),
        driver.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))[0],
        driver.ask(Command.CTX_DETACH_RESOURCE, 7, header=(0, 0, 1, 0))[0],
        driver.ask(Command.CTX_DESTROY, header=(0, 0, 1, 0))[0],
    ]

    assert kinds == [OK] * 4
    assert core.made == []


def test_attached_blob_is_granted_in_whole_pieces(driver, core):
    place = driver.allocate(5 * 4096, 4096)
    pieces = [(place + 8192, 4096), (place, 4096), (place + 4096, 4096)]
    driver.context()
    driver.blob(7, pieces)

    driver.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))

    assert core.made[0].blobs == {7: [(place + 8192, 4096), (place, 8192)]}


@pytest.mark.parametrize(
    ("command", "header"),
    [
        (Command.CTX_DETACH_RESOURCE, (0, 0, 1, 0)),
        (Command.RESOURCE_DETACH_BACKING, (0, 0, 0, 0)),
        (Command.RESOURCE_UNREF, (0, 0, 0, 0)),
    ],
)
def test_blob_is_revoked_when_it_goes(driver, core, command, header):
    address = driver.allocate(4096, 4096)
    driver.context()
    driver.blob(7, [(address, 4096)])
    driver.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))

    driver.ask(command, 7, header=header)

    assert core.made[0].blobs == {}


def test_blob_of_broken_pages_is_not_granted(driver, core):
    address = driver.allocate(8192, 4096)
    driver.context()
    driver.blob(7, [(address + 512, 4096)])

    kind = driver.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))[0]

    assert kind == Response.ERR_INVALID_PARAMETER
    assert core.made[0].blobs == {}


def test_blob_that_the_core_refuses_is_not_attached(driver, core):
    address = driver.allocate(4096, 4096)
    driver.context()
    driver.blob(7, [(address, 4096)])
    core.made[0].granted = Status.MEM_OBJECT_ALLOCATION_FAILURE

    kind = driver.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))[0]

    assert kind == Response.ERR_OUT_OF_MEMORY


@pytest.mark.parametrize(("size", "mem"), [(0, 1), (8192, 1), (4096, 2), (4096, 3), (4096, 0)])
def test_blob_that_cannot_be_is_refused(driver, size, mem):
    address = driver.allocate(4096, 4096)

    assert driver.blob(7, [(address, 4096)], size, mem) == Response.ERR_INVALID_PARAMETER


def test_submission_reaches_its_ring_and_is_answered_at_once(driver, core):
    driver.context()
    driver.queues[0].used()

    offer = driver.submit(b"commands", flags=protocol.FLAG_INFO_RING_IDX, ring=5)

    assert core.made[0].submitted == [(5, b"commands")]
    assert answered(driver, offer) == [0]


def test_fence_is_answered_when_its_ring_completes(driver, core):
    driver.context()
    first = driver.submit(b"a", flags=RING, fence=10, ring=1)
    other = driver.submit(b"b", flags=RING, fence=11, ring=2)
    driver.queues[0].used()

    core.made[0].complete(2)
    early = answered(driver, first, other)
    core.made[0].complete(1)

    assert early == [None, 0]
    assert answered(driver, first, other) == [0, None]
    assert Header(*protocol.HEADER.unpack(first.data()[:24])) == (OK, 3, 10, 1, 1)


def test_fences_without_a_ring_are_answered_in_order(driver, core):
    driver.context(1)
    driver.context(2)
    slow = driver.submit(b"a", context=1, flags=FENCE, fence=1)
    quick = driver.submit(b"b", context=2, flags=FENCE, fence=2)
    flush = driver.request(Command.GET_DISPLAY_INFO, header=(FENCE, 3, 0, 0))
    driver.queues[0].used()

    core.made[1].complete(0)
    early = answered(driver, slow, quick, flush)
    core.made[0].complete(0)

    assert early == [None, None, None]
    assert answered(driver, slow, quick, flush) == [0, 1, 2]


def test_fence_on_a_ring_waits_whatever_was_asked(driver, core):
    driver.context()
    driver.submit(b"a", flags=protocol.FLAG_INFO_RING_IDX, ring=1)
    offer = driver.request(Command.GET_DISPLAY_INFO, header=(RING, 9, 1, 1))

    driver.queues[0].used()
    core.made[0].complete(1)
    early = answered(driver, offer)
    core.made[0].complete(1)

    assert (early, answered(driver, offer)) == ([None], [0])


def test_destroying_a_context_answers_its_fences(driver, core):
    driver.context()
    offer = driver.submit(b"a", flags=RING, fence=1, ring=1)

    driver.ask(Command.CTX_DESTROY, header=(0, 0, 1, 0))
    core.made[0].complete(1)

    assert core.made[0].closed
    assert [head for head, _ in driver.queues[0].used()].count(offer.head) == 1


@pytest.mark.parametrize("act", ["reset", "queue reset"])
def test_fence_that_was_reset_away_is_never_answered(driver, core, act):
    driver.context()
    driver.submit(b"a", flags=RING, fence=1, ring=1)
    waiting = core.made[0]
    driver.set(0x030, 0)
    driver.set(*{"reset": (0x070, 0), "queue reset": (0x0C0, 1)}[act])
    driver.start(size=64)

    waiting.complete(1)

    assert driver.queues[0].used() == []


REFUSED = [
    (Response.ERR_INVALID_CONTEXT_ID, Command.CTX_CREATE, (0, 30, b""), 0),
    (Response.ERR_INVALID_CONTEXT_ID, Command.CTX_CREATE, (0, 30, b""), 1),
    (Response.ERR_INVALID_PARAMETER, Command.CTX_CREATE, (0, 1, b""), 9),
    (Response.ERR_INVALID_CONTEXT_ID, Command.CTX_DESTROY, (), 9),
    (Response.ERR_INVALID_CONTEXT_ID, Command.CTX_ATTACH_RESOURCE, (7,), 9),
    (Response.ERR_INVALID_RESOURCE_ID, Command.CTX_ATTACH_RESOURCE, (8,), 1),
    (Response.ERR_INVALID_CONTEXT_ID, Command.SUBMIT_3D, (0,), 9),
    (Response.ERR_INVALID_CONTEXT_ID, Command.SUBMIT_3D, (0,), 2),
    (Response.ERR_INVALID_PARAMETER, Command.SUBMIT_3D, (64,), 1),
    (Response.ERR_INVALID_PARAMETER, Command.SUBMIT_3D, (0xFFFF_FFFF,), 1),
    (Response.ERR_INVALID_PARAMETER, Command.GET_CAPSET, (1, 1), 0),
]


@pytest.mark.parametrize(("error", "command", "fields", "context"), REFUSED)
def test_request_that_cannot_be_is_refused(driver, core, error, command, fields, context):
    driver.context(1)
    driver.context(2, 0)
    driver.blob(7, [(driver.allocate(4096, 4096), 4096)])

    kind = driver.ask(command, *fields, header=(0, 0, context, 0))[0]

    assert kind == error
    assert core.made[0].submitted == []
    assert not core.made[0].closed


def test_refused_submission_still_signals_its_fence_in_order(driver, core):
    driver.context()
    first = driver.submit(b"a", flags=RING, fence=1, ring=1)
    refused = driver.request(Command.SUBMIT_3D, 99, header=(RING, 2, 1, 1))
    driver.queues[0].used()

    early = answered(driver, first, refused)
    core.made[0].complete(1)
    core.made[0].complete(1)

    assert (early, answered(driver, first, refused)) == ([None, None], [0, 1])
    assert unpack_from("<I", refused.data())[0] == Response.ERR_INVALID_PARAMETER


@pytest.mark.parametrize("ring", [64, 255])
def test_ring_that_is_not_there_is_refused(driver, core, ring):
    driver.context()

    offer = driver.submit(b"a", flags=RING, fence=1, ring=ring)

    assert unpack_from("<I", offer.data())[0] == Response.ERR_INVALID_PARAMETER
    assert core.made[0].submitted == []


def test_number_of_contexts_is_bounded(driver):
    kinds = [driver.context(number, 0) for number in range(1, 66)]

    assert kinds[63:] == [OK, Response.ERR_OUT_OF_MEMORY]


# -- contexts that are full --------------------------------------------------------------------


@pytest.fixture
def full(driver, core):
    """A driver of which context 1 is full, with a submission under way, and context 2 is not."""
    driver.context(1)
    driver.context(2)
    driver.submit(b"a", context=1, flags=RING, fence=1, ring=1)
    core.made[0].is_full = True
    driver.queues[0].used()
    return driver


def make_room(core):
    core.made[0].is_full = False
    core.made[0].complete(1)


def test_submissions_to_a_full_context_wait_until_it_has_room(full, core):
    fenced = full.submit(b"b", flags=RING, fence=2, ring=1)
    plain = full.submit(b"c", flags=protocol.FLAG_INFO_RING_IDX, ring=2)
    early = core.made[0].submitted[1:], answered(full, fenced, plain)

    make_room(core)

    assert early == ([], [None, None])
    assert core.made[0].submitted[1:] == [(1, b"b"), (2, b"c")]
    assert answered(full, fenced, plain)[1] is not None


def test_requests_of_others_pass_those_of_a_full_context(full, core):
    full.submit(b"b", flags=RING, fence=2, ring=1)

    other = full.submit(b"c", context=2)
    display = full.request(Command.GET_DISPLAY_INFO, header=(FENCE, 3, 0, 0))

    assert core.made[1].submitted == [(0, b"c")]
    assert answered(full, other, display) == [0, 1]


def test_requests_of_a_full_context_keep_their_order(full, core):
    full.blob(7, [(full.allocate(4096, 4096), 4096)])
    full.submit(b"b", flags=RING, fence=2, ring=1)
    attach = full.request(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))
    full.queues[0].used()
    core.made[0].is_full = False
    again = full.submit(b"c", flags=RING, fence=3, ring=1)
    early = len(core.made[0].submitted), dict(core.made[0].blobs), answered(full, attach, again)

    core.made[0].complete(1)

    assert early == (1, {}, [None, None])
    assert [stream for _, stream in core.made[0].submitted] == [b"a", b"b", b"c"]
    assert list(core.made[0].blobs) == [7]


@pytest.mark.parametrize("command", [Command.RESOURCE_UNREF, Command.RESOURCE_DETACH_BACKING])
def test_blob_of_a_full_context_ends_after_what_was_submitted(full, core, command):
    full.blob(7, [(full.allocate(4096, 4096), 4096)])
    core.made[0].is_full = False
    full.ask(Command.CTX_ATTACH_RESOURCE, 7, header=(0, 0, 1, 0))
    core.made[0].is_full = True
    full.submit(b"b", flags=RING, fence=2, ring=1)

    full.request(command, 7)
    early = list(core.made[0].blobs)
    make_room(core)

    assert (early, list(core.made[0].blobs)) == ([7], [])


def test_fences_without_a_ring_stay_in_order_behind_a_full_context(full, core):
    slow = full.submit(b"b", flags=FENCE, fence=2)
    quick = full.request(Command.GET_DISPLAY_INFO, header=(FENCE, 3, 0, 0))
    early = answered(full, slow, quick)

    make_room(core)
    middle = answered(full, slow, quick)
    core.made[0].complete(0)

    assert (early, middle) == ([None, None], [None, None])
    assert answered(full, slow, quick) == [0, 1]


def test_full_context_can_be_destroyed(full, core):
    waiting = full.submit(b"b", flags=RING, fence=2, ring=1)
    full.queues[0].used()

    kind = full.ask(Command.CTX_DESTROY, header=(0, 0, 1, 0))[0]

    assert kind == OK
    assert core.made[0].closed
    assert core.made[0].submitted == [(1, b"a")]
    assert unpack_from("<I", waiting.data())[0] == Response.ERR_INVALID_CONTEXT_ID


def test_reset_forgets_what_waits_for_a_full_context(full, core):
    full.submit(b"b", flags=RING, fence=2, ring=1)
    full.set(0x030, 0)
    full.set(0x0C0, 1)
    full.start(size=64)

    make_room(core)

    assert core.made[0].submitted == [(1, b"a")]


def test_context_that_is_full_for_good_is_given_an_error_in_order(driver, core):
    driver.context(1)
    first = driver.submit(b"a", flags=RING, fence=1, ring=1)
    core.made[0].is_full = core.made[0].is_stuck = True
    driver.queues[0].used()

    refused = driver.submit(b"b", flags=RING, fence=2, ring=1)
    early = answered(driver, first, refused)
    core.made[0].complete(1)
    core.made[0].complete(1)

    assert (early, answered(driver, first, refused)) == ([None, None], [0, 1])
    assert unpack_from("<I", refused.data())[0] == Response.ERR_OUT_OF_MEMORY
    assert core.made[0].submitted == [(1, b"a"), (1, b"")]

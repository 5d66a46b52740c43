"""Buffers: made, copied, filled, mapped, and refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpu import protocol as p
from gpu.opencl import MapFlags, MemFlags, Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

HUGE = (1 << 64) - 1


def buffer(identifier: int, size: int = 4096, **more: int) -> p.CreateBuffer:
    return p.CreateBuffer(id=identifier, context=CONTEXT, size=size, **more)


def read(guest: GuestBench, identifier: int, size: int) -> bytes:
    guest.do(p.ReadBuffer(queue=QUEUE, buffer=identifier, size=size, blob=BULK, blob_offset=65536))
    return guest.read(65536, size)


def test_released_buffer_lasts_until_its_commands_are_done(guest: GuestBench) -> None:
    size = 8 << 20

    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=size),
        p.FillBuffer(queue=QUEUE, buffer=20, size=size, pattern=b"kept"),
        p.ReadBuffer(queue=QUEUE, buffer=20, size=size, blob=BULK),
        p.FillBuffer(queue=QUEUE, buffer=20, size=size, pattern=b"gone"),
        p.Release(id=20),
    )

    assert guest.read(0, size) == b"kept" * (size // 4)


def test_new_buffer_is_zero(guest: GuestBench) -> None:
    guest.do(buffer(20))

    assert read(guest, 20, 4096) == bytes(4096)


def test_buffer_is_a_copy_of_a_blob(guest: GuestBench) -> None:
    guest.write(8, b"once")

    guest.do(buffer(20, 4, blob=BULK, blob_offset=8, flags=MemFlags.COPY_HOST_PTR))
    guest.write(8, b"then")

    assert read(guest, 20, 4) == b"once"


def test_inline_write_fill_and_copy(guest: GuestBench) -> None:
    guest.do(
        buffer(20, 64),
        buffer(21, 64),
        p.FillBuffer(queue=QUEUE, buffer=20, size=64, pattern=b"ab"),
        p.WriteBufferInline(queue=QUEUE, buffer=20, offset=3, data=b"XYZ"),
        p.CopyBuffer(
            queue=QUEUE, source=20, destination=21, size=8, source_offset=2, destination_offset=10
        ),
    )

    assert read(guest, 21, 64) == bytes(10) + b"aXYZabab" + bytes(46)


def test_rectangles(guest: GuestBench) -> None:
    rows = bytes(range(64))
    guest.write(0, rows)
    guest.write(4096, b"\xee" * 64)
    shape = {"buffer_row_pitch": 8, "host_row_pitch": 8, "region": (3, 2, 1)}

    guest.do(
        buffer(20, 64),
        buffer(21, 64),
        p.WriteBufferRect(
            queue=QUEUE, buffer=20, blob=BULK, buffer_origin=(1, 1, 0), host_origin=(2, 3, 0),
            **shape,
        ),
        p.CopyBufferRect(
            queue=QUEUE, source=20, destination=21, source_origin=(1, 1, 0),
            destination_origin=(0, 0, 0), region=(3, 2, 1), source_row_pitch=8,
            destination_row_pitch=8,
        ),
        p.ReadBufferRect(
            queue=QUEUE, buffer=21, blob=BULK, blob_offset=4096, buffer_origin=(0, 0, 0),
            host_origin=(4, 1, 0), **shape,
        ),
    )  # fmt: skip

    expected = bytearray(b"\xee" * 64)
    expected[12:15], expected[20:23] = rows[26:29], rows[34:37]
    assert guest.read(4096, 64) == expected


def test_sub_buffer_is_a_part(guest: GuestBench) -> None:
    guest.do(
        buffer(20, 4096),
        p.CreateSubBuffer(id=21, buffer=20, origin=1024, size=16),
        p.WriteBufferInline(queue=QUEUE, buffer=21, data=b"part of the whole"[:16]),
    )

    assert read(guest, 20, 2048)[1024:1040] == b"part of the whol"


def test_sub_buffer_outlives_the_handle_of_its_buffer(guest: GuestBench) -> None:
    guest.do(
        buffer(20, 4096),
        p.CreateSubBuffer(id=21, buffer=20, origin=1024, size=16),
        p.Release(id=20),
        p.WriteBufferInline(queue=QUEUE, buffer=21, data=b"still"),
    )

    assert read(guest, 21, 5) == b"still"
    assert guest.status_of(p.ReadBuffer(queue=QUEUE, buffer=20, size=1, blob=BULK)) == (
        Status.INVALID_MEM_OBJECT
    )


@pytest.fixture(params=["zero-copy", "map", "copy", "strict"])
def mapper(request: pytest.FixtureRequest) -> Iterator[GuestBench]:
    """A guest whose device shares memory in each way there is."""
    how = request.param
    options = {"isolation": "strict"} if how == "strict" else {}
    with GuestBench(sharing="auto" if how == "strict" else how, **options) as guest:
        guest.set_up()
        yield guest


def test_mapped_buffer_is_read_and_written_in_its_blob(mapper: GuestBench) -> None:
    guest = mapper
    guest.write(4096, b"initial.")
    guest.do(
        buffer(20, 4096, blob=BULK, blob_offset=4096),
        p.FillBuffer(queue=QUEUE, buffer=20, offset=8, size=8, pattern=b"filled.."),
        p.MapBuffer(queue=QUEUE, buffer=20, size=64, flags=MapFlags.READ | MapFlags.WRITE, id=40),
    )
    mapped = guest.read(4096, 16)
    guest.write(4096, b"written.")
    guest.do(p.Unmap(queue=QUEUE, mapping=40))

    assert mapped == b"initial.filled.."
    assert read(guest, 20, 16) == b"written.filled.."


def test_invalidated_mapping_gives_back_what_was_written(mapper: GuestBench) -> None:
    guest = mapper
    guest.do(
        buffer(20, 4096, blob=BULK, blob_offset=4096),
        p.MapBuffer(queue=QUEUE, buffer=20, size=64, flags=MapFlags.WRITE_INVALIDATE_REGION, id=40),
    )
    guest.write(4096, b"n" * 64)
    guest.do(p.Unmap(queue=QUEUE, mapping=40))

    assert read(guest, 20, 64) == b"n" * 64


def test_only_copies_count(mapper: GuestBench) -> None:
    guest = mapper
    before = guest.gpu.bounced_bytes
    guest.do(
        buffer(20, 1 << 20, blob=BULK, blob_offset=0),
        p.FillBuffer(queue=QUEUE, buffer=20, size=1 << 20, pattern=b"."),
        p.MapBuffer(queue=QUEUE, buffer=20, size=1 << 20, flags=MapFlags.READ, id=40),
    )

    reaches = guest.gpu.limits.sharing != "copy" and guest.gpu.options.isolation == "shared"
    assert (guest.gpu.bounced_bytes == before) == reaches


REFUSED = {
    "no such context": (p.CreateBuffer(id=20, context=99, size=1), Status.INVALID_CONTEXT),
    "a queue as context": (p.CreateBuffer(id=20, context=QUEUE, size=1), Status.INVALID_CONTEXT),
    "an id in use": (buffer(QUEUE), Status.INVALID_VALUE),
    "the id zero": (buffer(0), Status.INVALID_VALUE),
    "no size": (p.CreateBuffer(id=20, context=CONTEXT, size=0), Status.INVALID_BUFFER_SIZE),
    "more than the quota": (buffer(20, 2 << 30), Status.INVALID_BUFFER_SIZE),
    "any size at all": (buffer(20, HUGE), Status.INVALID_BUFFER_SIZE),
    "two ways of access": (buffer(20, flags=3), Status.INVALID_VALUE),
    "unknown flags": (buffer(20, flags=1 << 40), Status.INVALID_VALUE),
    "a copy of nothing": (buffer(20, flags=MemFlags.COPY_HOST_PTR), Status.INVALID_HOST_PTR),
    "no such blob": (buffer(20, blob=77), Status.INVALID_VALUE),
    "beyond its blob": (buffer(20, blob=BULK, blob_offset=16 << 20), Status.INVALID_HOST_PTR),
    "an offset that overflows": (
        buffer(20, blob=BULK, blob_offset=HUGE - 127), Status.INVALID_HOST_PTR,
    ),
    "an odd place": (
        buffer(20, 64, blob=BULK, blob_offset=4), Status.MISALIGNED_SUB_BUFFER_OFFSET,
    ),
    "a read beyond": (
        p.ReadBuffer(queue=QUEUE, buffer=11, offset=4000, size=97, blob=BULK),
        Status.INVALID_VALUE,
    ),
    "a read that overflows": (
        p.ReadBuffer(queue=QUEUE, buffer=11, offset=HUGE, size=2, blob=BULK),
        Status.INVALID_VALUE,
    ),
    "a read to beyond the blob": (
        p.ReadBuffer(queue=QUEUE, buffer=11, size=8, blob=BULK, blob_offset=HUGE),
        Status.INVALID_VALUE,
    ),
    "a queue that is a buffer": (
        p.ReadBuffer(queue=11, buffer=11, size=8, blob=BULK), Status.INVALID_COMMAND_QUEUE,
    ),
    "a buffer that is a queue": (
        p.ReadBuffer(queue=QUEUE, buffer=QUEUE, size=8, blob=BULK), Status.INVALID_MEM_OBJECT,
    ),
    "an event that is not there": (
        p.ReadBuffer(queue=QUEUE, buffer=11, size=8, blob=BULK, wait=(99,)),
        Status.INVALID_EVENT_WAIT_LIST,
    ),
    "its own event": (
        p.ReadBuffer(queue=QUEUE, buffer=11, size=8, blob=BULK, wait=(50,), event=50),
        Status.INVALID_EVENT_WAIT_LIST,
    ),
    "an event of another context": (
        p.ReadBuffer(queue=QUEUE, buffer=11, size=8, blob=BULK, wait=(14,)),
        Status.INVALID_CONTEXT,
    ),
    "a buffer of another context": (
        p.ReadBuffer(queue=QUEUE, buffer=13, size=8, blob=BULK), Status.INVALID_CONTEXT,
    ),
    "overlapping copies": (
        p.CopyBuffer(queue=QUEUE, source=11, destination=11, size=8, destination_offset=4),
        Status.MEM_COPY_OVERLAP,
    ),
    "overlap by a sub-buffer": (
        p.CopyBuffer(queue=QUEUE, source=11, destination=15, size=2048),
        Status.MEM_COPY_OVERLAP,
    ),
    "boxes that meet beyond their rows": (
        p.CopyBufferRect(
            queue=QUEUE, source=11, destination=11, source_origin=(0, 0, 0),
            destination_origin=(2, 1, 0), region=(1, 4, 1), source_row_pitch=1,
            source_slice_pitch=4, destination_row_pitch=1, destination_slice_pitch=4,
        ),
        Status.MEM_COPY_OVERLAP,
    ),
    "a pattern of three": (
        p.FillBuffer(queue=QUEUE, buffer=11, size=9, pattern=b"abc"), Status.INVALID_VALUE,
    ),
    "a fill at an odd place": (
        p.FillBuffer(queue=QUEUE, buffer=11, offset=1, size=4, pattern=b"abcd"),
        Status.INVALID_VALUE,
    ),
    "a box without depth": (
        p.ReadBufferRect(
            queue=QUEUE, buffer=11, blob=BULK, buffer_origin=(0, 0, 0), host_origin=(0, 0, 0),
            region=(1, 1, 0),
        ),
        Status.INVALID_VALUE,
    ),
    "a box that overflows": (
        p.ReadBufferRect(
            queue=QUEUE, buffer=11, blob=BULK, buffer_origin=(0, 0, 0), host_origin=(0, 0, 0),
            region=(1 << 40, 1 << 40, 1 << 40),
        ),
        Status.INVALID_VALUE,
    ),
    "a row pitch that is too short": (
        p.ReadBufferRect(
            queue=QUEUE, buffer=11, blob=BULK, buffer_origin=(0, 0, 0), host_origin=(0, 0, 0),
            region=(8, 2, 1), buffer_row_pitch=4,
        ),
        Status.INVALID_VALUE,
    ),
    "a sub-buffer of a sub-buffer": (
        p.CreateSubBuffer(id=20, buffer=15, origin=0, size=8), Status.INVALID_MEM_OBJECT,
    ),
    "a sub-buffer at an odd place": (
        p.CreateSubBuffer(id=20, buffer=11, origin=4, size=8),
        Status.MISALIGNED_SUB_BUFFER_OFFSET,
    ),
    "a sub-buffer beyond": (
        p.CreateSubBuffer(id=20, buffer=11, origin=0, size=4097), Status.INVALID_VALUE,
    ),
    "a sub-buffer that may do more": (
        p.CreateSubBuffer(id=20, buffer=12, origin=0, size=8, flags=1), Status.INVALID_VALUE,
    ),
    "a map of what has no blob": (
        p.MapBuffer(queue=QUEUE, buffer=11, size=8, flags=1, id=20), Status.MAP_FAILURE,
    ),
    "a map for nothing": (
        p.MapBuffer(queue=QUEUE, buffer=16, size=8, flags=0, id=20), Status.INVALID_VALUE,
    ),
    "a write where the host may only read": (
        p.WriteBufferInline(queue=QUEUE, buffer=12, data=b"x"), Status.INVALID_OPERATION,
    ),
    "an unmap of a buffer": (p.Unmap(queue=QUEUE, mapping=11), Status.INVALID_VALUE),
    "a command of the ring": (
        p.GrantMemory(blob=5, ranges=(0, 4096)), Status.INVALID_OPERATION,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused(guest: GuestBench, case: str) -> None:
    command, error = REFUSED[case]
    guest.do(
        buffer(11),
        buffer(12, flags=MemFlags.READ_ONLY | MemFlags.HOST_READ_ONLY),
        p.CreateContext(id=10),
        p.CreateBuffer(id=13, context=10, size=4096),
        p.CreateUserEvent(id=14, context=10),
        p.CreateSubBuffer(id=15, buffer=11, origin=1024, size=2048),
        buffer(16, blob=BULK, blob_offset=0),
    )
    before = set(guest.context.table)

    status = guest.status_of(command)

    assert Status(status) == error
    assert set(guest.context.table) == before


def test_failed_command_without_an_answer_leaves_its_error(guest: GuestBench) -> None:
    guest.wait(
        guest.submit(
            p.Flush(queue=QUEUE),
            p.ReadBuffer(queue=QUEUE, buffer=99, size=8, blob=BULK, event=30),
            p.Release(id=98),
        )
    )
    number = guest.context.commands - 2

    first = guest.ask(p.GetError())
    second = guest.ask(p.GetError())

    assert (first.index, first.opcode) == (number, p.ReadBuffer.opcode)
    assert first.error == Status.INVALID_MEM_OBJECT
    assert second.error == 0
    assert guest.ask(p.GetEventStatus(event=30)).execution == Status.INVALID_MEM_OBJECT


def test_quota_is_given_back(guest: GuestBench) -> None:
    size = 600 << 20
    guest.do(buffer(20, size))
    full = guest.status_of(buffer(21, size))
    guest.do(p.Release(id=20))

    assert full == Status.MEM_OBJECT_ALLOCATION_FAILURE
    assert guest.status_of(buffer(21, size)) == 0


def test_revoked_blob_is_out_of_reach(guest: GuestBench) -> None:
    memory = guest.bench.memory
    context = guest.context
    assert context.grant(7, [(memory.base + (8 << 20), 1 << 16)]) == 0
    guest.do(
        buffer(20, 4096, blob=7),
        p.FillBuffer(queue=QUEUE, buffer=20, size=4096, pattern=b"1"),
    )

    assert context.revoke(7) == 0
    status = guest.status_of(p.FillBuffer(queue=QUEUE, buffer=20, size=4096, pattern=b"2"))

    assert status == Status.INVALID_MEM_OBJECT
    assert memory.read(memory.base + (8 << 20), 4) == b"1111"
    assert context.revoke(7) == Status.INVALID_VALUE


def test_scattered_pages_are_one_blob(guest: GuestBench) -> None:
    memory = guest.bench.memory
    pages = [memory.base + (9 << 20) + 8192 * i for i in (3, 1, 2)]
    assert guest.context.grant(8, [(page, 4096) for page in pages]) == 0

    guest.do(
        buffer(20, 3 * 4096, blob=8),
        p.FillBuffer(queue=QUEUE, buffer=20, offset=4000, size=200, pattern=b"#"),
    )
    guest.context.revoke(8)

    assert memory.read(pages[0], 4096) == bytes(4000) + b"#" * 96
    assert memory.read(pages[1], 4096) == b"#" * 104 + bytes(3992)


@pytest.mark.parametrize(
    "pieces", [[], [(0, 4096)], [(0x8000_0000, 100)], [(0x8000_0001, 4096)], [(1 << 60, 4096)]]
)
def test_grant_of_what_is_not_ram_is_refused(
    guest: GuestBench, pieces: list[tuple[int, int]]
) -> None:
    assert guest.context.grant(9, pieces) == Status.INVALID_VALUE

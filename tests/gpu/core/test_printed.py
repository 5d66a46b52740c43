"""What kernels print, as a guest reads it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest

from gpu import protocol as p
from gpu.capture_file import CaptureReader
from gpu.core.context import Context
from gpu.opencl import Status
from gpu.replay import replay
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
from gpu.worker.printed import MOST, prints

SOURCE = r"""
__kernel void report(uint n) { printf("%u %s\n", (uint)get_global_id(0) + n, "items"); }
__kernel void much(uint n) { for (uint i = 0; i < n; i++) printf("0123456789abcde\n"); }
"""
SILENT = "__kernel void silent(__global float *x) { x[0] = sin(x[1]); }"
PLACE = 0x2000


@pytest.fixture
def guest() -> Iterator[GuestBench]:
    with GuestBench() as bench:
        yield printing(bench)


def printing(bench: GuestBench) -> GuestBench:
    """A guest with the kernels `report` and `much`, 30 and 31."""
    bench.set_up()
    bench.program(10, SOURCE)
    bench.do(
        p.CreateKernel(id=30, program=10, function_name=b"report"),
        p.CreateKernel(id=31, program=10, function_name=b"much"),
        p.SetArgument(kernel=30, index=0, value=struct.pack("<I", 0)),
    )
    return bench


def report(items: int, group: int = 1, wait: tuple[int, ...] = ()) -> p.NdRange:
    return p.NdRange(
        queue=QUEUE,
        kernel=30,
        dimensions=1,
        global_size=(items, 1, 1),
        local_size=(group, 1, 1),
        wait=wait,
    )


def much(lines: int) -> tuple[p.Command, ...]:
    return (
        p.SetArgument(kernel=31, index=0, value=struct.pack("<I", lines)),
        p.NdRange(queue=QUEUE, kernel=31, dimensions=1, global_size=(1, 1, 1)),
    )


def read_printed(size: int = 4096) -> p.ReadPrinted:
    return p.ReadPrinted(context=CONTEXT, blob=BULK, blob_offset=PLACE, size=size)


def printed(bench: GuestBench, size: int = 4096) -> bytes:
    bench.do(read_printed(size))
    count = int.from_bytes(bench.read(PLACE, 4), "little")
    return bench.read(PLACE + 4, count)


@pytest.mark.parametrize("group", [1, 8, 64])
def test_work_items_print_in_their_order(guest: GuestBench, group: int) -> None:
    guest.do(report(64, group))

    assert printed(guest) == b"".join(b"%d items\n" % i for i in range(64))


def test_kernels_print_in_their_order(guest: GuestBench) -> None:
    for first in range(4):
        value = struct.pack("<I", first)
        guest.submit(p.SetArgument(kernel=30, index=0, value=value), report(1))

    assert printed(guest) == b"0 items\n1 items\n2 items\n3 items\n"


def test_text_is_read_once(guest: GuestBench) -> None:
    guest.do(report(1))

    assert (printed(guest), printed(guest)) == (b"0 items\n", b"")


def test_text_beyond_the_room_is_there_the_next_time(guest: GuestBench) -> None:
    guest.do(report(2))

    assert [printed(guest, 4 + 10) for _ in range(3)] == [b"0 items\n1 ", b"items\n", b""]


def test_behind_the_text_are_zeros(guest: GuestBench) -> None:
    guest.write(PLACE, b"\xff" * 32)
    guest.do(report(1), read_printed(20))

    assert guest.read(PLACE, 32) == struct.pack("<I8s8x", 8, b"0 items\n") + b"\xff" * 12


def test_what_waits_has_printed_nothing(guest: GuestBench) -> None:
    guest.do(p.CreateUserEvent(id=40, context=CONTEXT))
    guest.submit(report(1, wait=(40,)), ring=1)
    before = printed(guest)

    guest.do(p.SetUserEventStatus(event=40, status=0))

    assert (before, printed(guest)) == (b"", b"0 items\n")


def test_more_than_is_kept_is_dropped(guest: GuestBench) -> None:
    guest.do(*much(MOST // 16 - 1), report(3))

    text = printed(guest, 4 + 2 * MOST)

    assert text == b"0123456789abcde\n" * (MOST // 16 - 1) + b"0 items\n1 items\n"


def test_kernel_that_prints_more_than_the_runtime_holds_does_no_harm(guest: GuestBench) -> None:
    guest.do(*much(2_000_000))
    flood = printed(guest, 4 + MOST)
    guest.do(report(1))

    assert flood == b"0123456789abcde\n" * (MOST // 16)
    assert printed(guest) == b"0 items\n"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"size": 3}, Status.INVALID_VALUE),
        ({"size": 1 << 40}, Status.INVALID_VALUE),
        ({"blob_offset": (1 << 64) - 1}, Status.INVALID_VALUE),
        ({"blob": 99}, Status.INVALID_VALUE),
        ({"context": QUEUE}, Status.INVALID_CONTEXT),
    ],
)
def test_wrong_place_is_refused_and_the_text_stays(
    guest: GuestBench, wrong: dict[str, Any], status: Status
) -> None:
    guest.do(report(1))
    right = {"context": CONTEXT, "blob": BULK, "blob_offset": PLACE, "size": 64}

    assert guest.status_of(p.ReadPrinted(**{**right, **wrong})) == status
    assert printed(guest) == b"0 items\n"


def test_contexts_do_not_see_each_others_text(guest: GuestBench) -> None:
    guest.do(report(1))
    other = guest.new_context("other")
    guest.ask(p.CreateContext(id=CONTEXT), context=other)

    guest.ask(read_printed(), context=other)

    assert guest.read(PLACE, 16) == bytes(16)
    assert printed(guest) == b"0 items\n"


def test_strict_isolation_reads_it_too() -> None:
    with GuestBench(isolation="strict") as guest:
        printing(guest).do(report(2))

        assert printed(guest) == b"0 items\n1 items\n"


def test_snapshot_has_what_was_not_read(guest: GuestBench) -> None:
    guest.do(report(2))
    printed(guest, 4 + 8)
    state = cbor2.loads(cbor2.dumps(guest.gpu.save()))

    def resume(context: Context, ring: int, tag: int) -> Callable[[], None]:
        return lambda: None

    with GuestBench() as other:
        other.bench.clock.advance(guest.bench.clock.now() - other.bench.clock.now())
        other.gpu.load(state, resume)
        other.context = other.gpu.contexts[1]

        assert printed(other) == b"1 items\n"
    assert printed(guest) == b"1 items\n"


def test_repetition_without_the_guest_prints_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.gpu"
    with GuestBench(capture=str(path)) as guest:
        printing(guest).do(report(64, 8))
        printed(guest)

    with CaptureReader(path) as reader:
        assert replay(reader).differences == []


def test_program_says_whether_it_prints(guest: GuestBench) -> None:
    guest.program(11, SILENT)
    guest.do(p.CreateProgram(id=12, context=CONTEXT, source=SOURCE.encode()))

    found = [guest.ask(p.GetProgramPrints(program=program)).prints for program in (10, 11, 12)]

    assert found == [1, 0, 0]


@pytest.mark.parametrize(
    ("binary", "expected"),
    [
        (b"poclbin\0 _printf_buffer __pocl_printf_float", False),
        (b"poclbin\0 __pocl_printf_float \0__pocl_printf\0", True),
        (b"BC printf", True),
        (b"BC sin", False),
        (b"", False),
    ],
)
def test_binary_tells_whether_it_prints(binary: bytes, expected: bool) -> None:
    assert prints(binary) == expected

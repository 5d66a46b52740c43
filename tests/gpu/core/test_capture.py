"""Captures: what a GPU was asked is done again without the guest, with the same results."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest
import zstandard

from gpu import protocol as p
from gpu.capture_file import CaptureError, CaptureReader
from gpu.replay import Result, replay
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

SIZE = 4096
SOURCE = """
__kernel void blend(__global uint *x, __global const uint *y) {
    size_t i = get_global_id(0);
    x[i] = x[i] * 1664525u + y[i];
}
"""
MIX = p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(SIZE // 4, 1, 1))


def test_memory_that_a_stream_reads_is_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu.core.capture.MAX_MEMORY", SIZE)
    path = tmp_path / "run.gpu"
    with GuestBench(capture=str(path)) as guest:
        guest.set_up()
        guest.write(0, bytes(range(256)) * (8 * SIZE // 256))
        guest.do(
            p.CreateBuffer(id=20, context=CONTEXT, size=8 * SIZE),
            *[p.WriteBuffer(queue=QUEUE, buffer=20, size=8 * SIZE, blob=BULK)] * 4,
            p.ReadBuffer(queue=QUEUE, buffer=20, size=8 * SIZE, blob=BULK, blob_offset=8 * SIZE),
        )

    with CaptureReader(path) as reader:
        memory = [record for record in reader.records() if record[0] == "memory"]
    with CaptureReader(path) as reader:
        result = replay(reader)

    assert len(memory) == 32
    assert max(sum(len(data) for _, data in record[2]) for record in memory) == SIZE
    assert result.differences == []


def work(guest: GuestBench) -> bytes:
    """Buffers in guest memory and the device's, written by the guest between and by mapping."""
    noise = random.Random(1)
    guest.set_up()
    guest.program(10, SOURCE)
    guest.write(0, noise.randbytes(2 * SIZE))
    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=SIZE, blob=BULK),
        p.CreateBuffer(id=21, context=CONTEXT, size=SIZE, blob=BULK, blob_offset=SIZE),
        p.CreateBuffer(id=22, context=CONTEXT, size=SIZE),
        p.CreateKernel(id=30, program=10, function_name=b"blend"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.SetArgumentObject(kernel=30, index=1, object=21),
        MIX,
    )
    guest.write(SIZE, noise.randbytes(SIZE))  # the guest does not map, and need not here
    guest.do(MIX, MIX)
    for _ in range(8):  # several under way at once
        guest.submit(MIX)
    guest.do(
        p.MapBuffer(queue=QUEUE, buffer=21, size=SIZE, id=40, flags=3),
    )
    guest.write(SIZE, noise.randbytes(SIZE))
    guest.write(3 * SIZE, noise.randbytes(SIZE))
    guest.do(
        p.Unmap(queue=QUEUE, mapping=40),
        p.WriteBuffer(queue=QUEUE, buffer=22, size=SIZE, blob=BULK, blob_offset=3 * SIZE),
        p.SetArgumentObject(kernel=30, index=0, object=22),
        MIX,
        p.ReadBuffer(queue=QUEUE, buffer=22, size=SIZE, blob=BULK, blob_offset=2 * SIZE),
    )
    return guest.read(0, 3 * SIZE)


def do_again(path: Path, **how: object) -> Result:
    with CaptureReader(path) as reader:
        return replay(reader, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("capture") / "run.gpu"
    with GuestBench(capture=str(path)) as guest:
        work(guest)
    return path


def test_capture_is_done_again_bit_for_bit(capture: Path) -> None:
    result = do_again(capture)

    assert result.differences == []
    assert result.submissions == result.completions > 10
    assert result.output_bytes >= 4 * SIZE
    assert result.kernels["blend"].runs == 12
    assert result.kernels["blend"].items == 12 * SIZE // 4


def test_two_runs_make_the_same_capture(capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.gpu"
    with GuestBench(capture=str(path)) as guest:
        work(guest)

    assert path.read_bytes() == capture.read_bytes()


def test_capture_changes_nothing_of_the_run(tmp_path: Path) -> None:
    with GuestBench(capture=str(tmp_path / "run.gpu")) as watched, GuestBench() as alone:
        results = work(watched), work(alone)

        assert results[0] == results[1]
        assert watched.bench.clock.now() == alone.bench.clock.now()
        assert watched.gpu.save() == alone.gpu.save()


def test_program_that_was_replaced_makes_other_results(capture: Path) -> None:
    source = SOURCE.replace("1664525u", "1664526u").encode()

    result = do_again(capture, sources={(1, 10): source})

    assert result.completions == result.submissions
    assert any("are not what they were" in str(each) for each in result.differences)


def test_strict_isolation_is_captured_too(tmp_path: Path) -> None:
    path = tmp_path / "run.gpu"
    with GuestBench(capture=str(path), isolation="strict") as guest:
        work(guest)

    result = do_again(path)

    assert result.differences == []
    assert result.output_bytes >= SIZE


def test_capture_that_was_cut_off_is_done_as_far_as_it_goes(capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gpu"
    path.write_bytes(capture.read_bytes()[:-400])

    result = do_again(path)

    assert result.differences == []
    assert result.submissions > 1


def rewrite(source: Path, path: Path, change: Callable[[list[object]], list[object]]) -> Path:
    """A capture with other records."""
    with CaptureReader(source) as reader:
        items = [reader.header, *change(list(reader.records()))]
    data = b"".join(cbor2.dumps(item) for item in items)
    path.write_bytes(zstandard.ZstdCompressor().compress(data))
    return path


@pytest.mark.parametrize(
    "records",
    [
        [["nonsense", 0]],
        [["submit", 0, 1]],
        [["submit", 0, 99, 0, 0, b""]],
        [["memory", 0, [[0, b"x"]]]],
        [["grant", 0, 1, 1, 7]],
        ["submit"],
        [["context", "soon", 1, "x"]],
    ],
)
def test_damaged_capture_is_said_to_be(capture: Path, tmp_path: Path, records: list) -> None:
    path = rewrite(capture, tmp_path / "bad.gpu", lambda _: records)

    with pytest.raises(CaptureError, match="damaged"):
        do_again(path)


@pytest.mark.parametrize("data", [b"", b"text", zstandard.compress(b"\x80"), b"\x28\xb5\x2f\xfd"])
def test_file_that_is_no_capture_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "none.gpu"
    path.write_bytes(data)

    with pytest.raises(CaptureError, match="no capture of a GPU"):
        CaptureReader(path)


def fill(identifier: int, blob_offset: int) -> tuple[p.Command, ...]:
    return (
        p.CreateBuffer(
            id=identifier, context=CONTEXT, size=SIZE, blob=BULK, blob_offset=blob_offset
        ),
        p.FillBuffer(queue=QUEUE, buffer=identifier, size=SIZE, pattern=b"1"),
        p.ReadBuffer(queue=QUEUE, buffer=identifier, size=SIZE, blob=BULK, blob_offset=0),
    )


def test_capture_forgets_a_context_that_is_closed(tmp_path: Path) -> None:
    with GuestBench(capture=str(tmp_path / "run.gpu")) as guest:
        other = guest.new_context("other")
        set_up = p.CreateContext(id=CONTEXT), p.CreateQueue(id=QUEUE, context=CONTEXT)
        guest.wait(guest.submit(*set_up, *fill(20, SIZE), context=other))
        guest.submit(*fill(21, 2 * SIZE), context=other)
        capture = guest.gpu.capture
        assert capture is not None
        under_way = len(capture._in_use), len(capture._owed)
        known = len(capture._known)

        other.close()

        assert under_way == (1, 1)
        assert known > 0
        assert (capture._in_use, capture._owed, capture._known) == ({}, {}, {})


def test_capture_that_forgets_what_is_known_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu.core.capture._MOST_KNOWN", 1)
    path = tmp_path / "run.gpu"
    with GuestBench(capture=str(path)) as guest:
        work(guest)
        assert guest.gpu.capture is not None
        known = len(guest.gpu.capture._known)

    with CaptureReader(path) as reader:
        result = replay(reader)

    assert known == 1
    assert result.differences == []

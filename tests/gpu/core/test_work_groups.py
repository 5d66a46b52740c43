"""Kernels run in code that was compiled for the size of their work-groups."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from gpu import protocol as p
from gpu.core.link import Link
from gpu.core.work_groups import MAX_SIZES, choose
from gpu.host.builds import Builds
from gpu.host.process import WorkerLostError
from gpu.host.result import Built
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
from gpu.worker.groups import Groups

SOURCE = """
__kernel void reverse(__global uint *a, __local uint *line)
{
    uint i = get_local_id(0), n = get_local_size(0);
    line[i] = get_global_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    a[get_global_id(0)] = line[n - 1 - i];
}
"""
ITEMS = 64


@pytest.fixture
def reverse(guest: GuestBench) -> GuestBench:
    """The kernel 11 of program 10, with a buffer 20 on the blob."""
    guest.program(10, SOURCE)
    guest.do(
        p.CreateKernel(id=11, program=10, function_name=b"reverse"),
        p.CreateBuffer(id=20, context=CONTEXT, size=1 << 16, blob=BULK),
        p.SetArgumentObject(kernel=11, index=0, object=20),
        p.SetArgumentLocal(kernel=11, index=1, size=4096),
    )
    guest.write(0, bytes(1 << 16))
    return guest


def launch(size: int, items: int = ITEMS, kernel: int = 11, offset: int = 0) -> p.NdRange:
    return p.NdRange(
        queue=QUEUE, kernel=kernel, dimensions=1, global_size=(items, 1, 1),
        local_size=(size, 0, 0), offset=(offset, 0, 0),
    )  # fmt: skip


def reversed_groups(size: int, items: int = ITEMS, offset: int = 0) -> bytes:
    numbers = [offset + group + i for group in range(0, items, size) for i in reversed(range(size))]
    return struct.pack(f"<{items}I", *numbers)


def sizes_sent(guest: GuestBench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sizes that the worker is given code for, from now on."""
    found: list[str] = []
    operate = guest.context.link.operate

    def spy(operation: tuple[Any, ...], *more: Any) -> int:
        if operation[0] == "group":
            found.append(operation[2])
        return operate(operation, *more)

    monkeypatch.setattr(guest.context.link, "operate", spy)
    return found


def test_each_size_is_compiled_once(reverse: GuestBench, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sizes_sent(reverse, monkeypatch)

    reverse.do(launch(8), launch(16), launch(8, 32))

    assert sent == ["8-1-1", "16-1-1"]


@pytest.mark.parametrize("size", [1, 3, 32])
@pytest.mark.parametrize("offset", [0, 5])
def test_result_is_that_of_the_size(reverse: GuestBench, size: int, offset: int) -> None:
    items = 96

    reverse.do(launch(size, items, offset=offset))

    found = reverse.read(4 * offset, 4 * items)
    assert found == reversed_groups(size, items, offset)


def test_grids_of_any_width_follow_each_other(reverse: GuestBench) -> None:
    guest = reverse
    guest.do(p.CreateBuffer(id=21, context=CONTEXT, size=1 << 20, blob=BULK))

    guest.do(launch(8), p.SetArgumentObject(kernel=11, index=0, object=21), launch(8, 1 << 18))
    wide = guest.read(0, 1 << 20)
    guest.do(launch(8, offset=8))

    assert wide == reversed_groups(8, 1 << 18)
    assert guest.read(32, 4 * ITEMS) == reversed_groups(8, offset=8)


def test_where_the_compiler_can_not_the_kernel_runs_as_it_is(
    reverse: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(builds: Builds, worker: Any, recipe: tuple[Any, ...], key: str) -> Built:
        worker.close()
        return Built(Status.BUILD_PROGRAM_FAILURE, "not for these\n")

    monkeypatch.setattr(Builds, "finish", refuse)
    sent = sizes_sent(reverse, monkeypatch)
    reverse.gpu.has_slow_groups = False
    reverse.bench.messages.clear()

    reverse.do(launch(4))
    computed = reverse.read(0, 4 * ITEMS)
    reverse.do(launch(2))

    assert sent == []
    assert computed == reversed_groups(4)
    assert reverse.bench.messages == [
        "gpu0: a program can not be compiled for work-groups of 4-1-1, and runs slower in them:"
        " 'not for these'"
    ]


def test_where_the_compiler_is_lost_no_other_code_runs_instead(
    reverse: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would depend on the host's time which code computes, and so perhaps the last bits."""
    started: list[Any] = []

    def be_lost(builds: Builds, recipe: tuple[Any, ...], binary: bytes) -> Any:
        started.append(recipe[:2])
        raise WorkerLostError("there is no process")

    monkeypatch.setattr(Builds, "start", be_lost)
    reverse.bench.messages.clear()
    reverse.do(p.FillBuffer(queue=QUEUE, buffer=20, size=4 * ITEMS, pattern=b"x"))

    refused = [reverse.status_of(launch(64)) for _ in range(2)]
    left = reverse.read(0, 4 * ITEMS)
    reverse.do(launch(1))

    assert refused == [Status.OUT_OF_RESOURCES] * 2
    assert left == b"x" * (4 * ITEMS)
    assert started == [("group", "64-1-1")]
    assert reverse.bench.messages == [
        "gpu0: context test: no kernel of a program runs in work-groups of 64-1-1, for which it"
        " could not be compiled: there is no process"
    ]
    assert reverse.read(0, 4 * ITEMS) == reversed_groups(1)


def test_what_is_compiled_does_not_depend_on_what_the_disk_keeps(
    reverse: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builds, "_keep", lambda *result: None)
    monkeypatch.setattr(Builds, "cached", lambda builds, key: None)
    sent = sizes_sent(reverse, monkeypatch)

    reverse.do(launch(32))

    assert sent == ["32-1-1"]
    assert reverse.read(0, 4 * ITEMS) == reversed_groups(32)


def test_a_program_is_compiled_for_a_number_of_sizes_only(
    reverse: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sizes_sent(reverse, monkeypatch)
    reverse.context.table[10].groups = tuple(map(str, range(MAX_SIZES)))

    reverse.do(launch(2))

    assert sent == []
    assert reverse.read(0, 4 * ITEMS) == reversed_groups(2)


def test_program_of_a_binary_is_compiled_too(
    reverse: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = reverse.ask(p.GetProgramInfo(program=10)).key
    sent = sizes_sent(reverse, monkeypatch)

    reverse.do(
        p.CreateProgramWithBinary(id=12, context=CONTEXT, key=key),
        p.BuildProgram(program=12),
        p.CreateKernel(id=13, program=12, function_name=b"reverse"),
        p.SetArgumentObject(kernel=13, index=0, object=20),
        p.SetArgumentLocal(kernel=13, index=1, size=4096),
        launch(8, kernel=13),
    )

    assert sent == ["8-1-1"]
    assert reverse.read(0, 4 * ITEMS) == reversed_groups(8)


def test_device_without_such_code_is_given_none_by_a_snapshot(
    reverse: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverse.do(launch(8))
    state = reverse.gpu.save()
    given = []
    operate = Link.operate

    def spy(link: Link, operation: tuple[Any, ...], *more: Any) -> int:
        given.append(operation[0])
        return operate(link, operation, *more)

    monkeypatch.setattr(Link, "operate", spy)
    with GuestBench() as other:
        monkeypatch.setattr(other.gpu.limits, "has_groups", False)
        other.bench.clock.advance(reverse.bench.clock.now() - other.bench.clock.now())
        other.bench.memory.data[:] = reverse.bench.memory.data[:]
        other.gpu.load(state, lambda context, ring, tag: lambda: None)
        other.context = other.gpu.contexts[1]
        other.do(launch(8))

        assert "program" in given
        assert "group" not in given
        assert other.read(0, 4 * ITEMS) == reversed_groups(8)


@pytest.mark.parametrize(
    ("whole", "chosen"),
    [
        ((1,), (1,)), ((1023,), (1,)), ((31, 33), (1, 1)),
        ((1024,), (64,)), ((1 << 20,), (256,)), ((1000,), (1,)), ((10_000,), (16,)),
        ((1500,), (75,)), ((1_000_003,), (1,)), ((512, 512), (256, 1)),
        ((16, 64, 64), (16, 16, 1)), ((3, 4096), (3, 64)),
    ],
)  # fmt: skip
def test_choice_of_a_size(whole: tuple[int, ...], chosen: tuple[int, ...]) -> None:
    assert choose(whole, 4096) == chosen


def test_choice_of_a_size_has_a_limit() -> None:
    assert choose((1 << 20,), 8) == (8,)


@pytest.mark.parametrize(
    ("offset", "folders"),
    [
        (None, ["4-2-1-goffs0", "4-2-1-goffs0-smallgrid"]), ((1, 0), ["4-2-1", "4-2-1-smallgrid"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("objects", "code"), [({}, b"for any size"), ({"k": b"for 4-2-1"}, b"for 4-2-1")]
)
def test_code_lies_where_the_runtime_looks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offset: tuple[int, ...] | None,
    folders: list[str],
    objects: dict[str, bytes],
    code: bytes,
) -> None:
    monkeypatch.setenv("POCL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("POCL_WORK_GROUP_SPECIALIZATION", "0")
    name = "AB/" + "C" * 38
    generic = tmp_path / name / "k" / "0-0-0" / "k.so"
    generic.parent.mkdir(parents=True)
    generic.write_bytes(b"for any size")
    groups = Groups()
    groups.program(1, b"head" + name.encode())
    groups.kernel(2, 1, "k")

    groups.add(1, "4-2-1", objects)
    groups.prepare(2, (4, 2), offset)

    found = [(tmp_path / name / "k" / folder / "k.so").read_bytes() for folder in folders]
    assert found == [code] * 2


def test_code_that_the_disk_had_no_room_for_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("POCL_WORK_GROUP_SPECIALIZATION", "0")
    name = "AB/" + "C" * 38
    groups = Groups()
    groups.program(1, b"head" + name.encode())
    write = Path.write_bytes

    def write_half(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="no space"):
        groups.add(1, "4-2-1", {"k": b"all of the code"})
    monkeypatch.setattr(Path, "write_bytes", write)
    path = tmp_path / name / "k" / "4-2-1" / "k.so"
    was_there = path.exists()
    groups.add(1, "4-2-1", {"k": b"all of the code"})

    assert not was_there
    assert path.read_bytes() == b"all of the code"

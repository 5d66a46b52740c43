"""Snapshots of the GPU, with requests in flight."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest

from gpu import protocol as p
from gpu.core.context import Context
from gpu.core.gpu import STATE_VERSION
from gpu.core.load import write_file
from gpu.core.save import read_file
from gpu.host.builds import Builds
from gpu.host.findings import Finding
from gpu.host.process import WorkerLostError
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

ADD = "__kernel void add(__global uint *a, uint n) { a[get_global_id(0)] += n; }"


@pytest.fixture
def before() -> Iterator[GuestBench]:
    with GuestBench() as guest:
        guest.set_up()
        yield guest


@pytest.fixture
def after() -> Iterator[GuestBench]:
    with GuestBench() as guest:
        yield guest


def move(before: GuestBench, after: GuestBench) -> list[int]:
    """Save one guest, load it into another; the tags signalled there from now on."""
    state = cbor2.loads(cbor2.dumps(before.gpu.save()))
    after.bench.memory.data[:] = before.bench.memory.data[:]
    after.bench.clock.advance(before.bench.clock.now() - after.bench.clock.now())
    signalled: list[int] = []

    def resume(context: Context, ring: int, tag: int) -> Callable[[], None]:
        return lambda: signalled.append(tag)

    after.gpu.load(state, resume)
    after.context = after.gpu.contexts[1]
    return signalled


def test_request_in_flight_completes_after_a_restore(before: GuestBench, after: GuestBench) -> None:
    before.program(10, ADD)
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateKernel(id=30, program=10, function_name=b"add"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.SetArgument(kernel=30, index=1, value=struct.pack("<I", 7)),
    )
    run = p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(64, 1, 1))
    tag = before.submit(run)

    signalled = move(before, after)
    early = list(signalled)
    after.bench.clock.advance(1 << 50)
    after.do(run, p.ReadBuffer(queue=QUEUE, buffer=20, size=256, blob=BULK))

    assert early == []
    assert signalled == [tag]
    assert after.read(0, 256) == struct.pack("<I", 14) * 64


def test_command_that_waits_for_a_user_event_waits_after_a_restore(
    before: GuestBench, after: GuestBench
) -> None:
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateUserEvent(id=40, context=CONTEXT),
    )
    tag = before.submit(
        p.FillBuffer(queue=QUEUE, buffer=20, size=256, pattern=b"\5", wait=(40,), event=41),
        ring=5,
    )

    signalled = move(before, after)
    after.bench.clock.advance(1 << 40)
    early = list(signalled)
    after.do(p.SetUserEventStatus(event=40, status=0))
    after.do(p.ReadBuffer(queue=QUEUE, buffer=20, size=256, blob=BULK))

    assert early == []
    assert signalled == [tag]
    assert after.read(0, 256) == bytes([5]) * 256
    assert after.ask(p.GetEventStatus(event=41)).execution == 0


def test_saving_changes_nothing(before: GuestBench) -> None:
    before.program(10, ADD)
    before.do(p.CreateBuffer(id=20, context=CONTEXT, size=1 << 16))
    before.submit(p.FillBuffer(queue=QUEUE, buffer=20, size=1 << 16, pattern=b"\5"))

    first = cbor2.dumps(before.gpu.save())
    second = cbor2.dumps(before.gpu.save())

    assert first == second


def test_answer_that_is_due_later_is_in_the_snapshot(before: GuestBench, after: GuestBench) -> None:
    place = p.AnswerPlace(1, 0, 1 << 12)
    before.do(p.CreateProgram(id=10, context=CONTEXT, source=ADD.encode()))
    stream = p.BuildProgram(program=10).encode(place)
    before.submit_bytes(stream)
    before.bench.memory.write(before.bench.memory.base, b"\xff" * 8)

    signalled = move(before, after)
    after.bench.clock.advance(1 << 50)

    assert len(signalled) == 1
    assert after.bench.memory.read(after.bench.memory.base, 8) == bytes(8)


def test_image_and_mapping_survive(before: GuestBench, after: GuestBench) -> None:
    before.write(0, bytes(range(256)))
    before.do(
        p.CreateImage(
            id=50, context=CONTEXT, type=0x10F1, channel_order=0x10B5, channel_type=0x10DA,
            width=8, height=8,
        ),
        p.WriteImage(queue=QUEUE, image=50, blob=BULK, origin=(0, 0, 0), region=(8, 8, 1)),
        p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK, blob_offset=4096),
        p.MapBuffer(queue=QUEUE, buffer=20, flags=2, size=4096, id=60),
    )  # fmt: skip

    move(before, after)
    after.write(0, bytes(256))
    after.do(
        p.Unmap(queue=QUEUE, mapping=60),
        p.ReadImage(queue=QUEUE, image=50, blob=BULK, origin=(0, 0, 0), region=(8, 8, 1)),
    )

    assert after.read(0, 256) == bytes(range(256))


def test_kernels_compiled_for_a_size_of_work_groups_are_so_after_a_restore(
    before: GuestBench, after: GuestBench
) -> None:
    run = p.NdRange(
        queue=QUEUE, kernel=30, dimensions=1, global_size=(64, 1, 1), local_size=(8, 0, 0)
    )
    before.program(10, ADD)
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateKernel(id=30, program=10, function_name=b"add"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.SetArgument(kernel=30, index=1, value=struct.pack("<I", 7)),
        run,
    )

    move(before, after)
    after.do(run, p.ReadBuffer(queue=QUEUE, buffer=20, size=256, blob=BULK))

    assert after.context.table[10].groups == ("8-1-1",)
    assert after.read(0, 256) == struct.pack("<I", 14) * 64


def test_launches_that_are_known_cost_no_more_after_a_restore(
    before: GuestBench, after: GuestBench
) -> None:
    runs = [
        p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(n, 1, 1), local_size=(1, 0, 0))
        for n in range(1, 9)
    ]
    before.program(10, ADD)
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateKernel(id=30, program=10, function_name=b"add"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.SetArgument(kernel=30, index=1, value=struct.pack("<I", 7)),
        *runs,
    )

    move(before, after)
    after.do(*runs, p.ReadBuffer(queue=QUEUE, buffer=20, size=4, blob=BULK))

    assert after.context.host_used == before.context.host_used
    assert after.gpu.host_used == before.gpu.host_used
    assert after.read(0, 4) == struct.pack("<I", 2 * 8 * 7)


def test_worker_that_dies_while_it_is_saved_is_lost_with_all_fences_to_come(
    before: GuestBench, after: GuestBench
) -> None:
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateUserEvent(id=40, context=CONTEXT),
    )
    fill = p.FillBuffer(queue=QUEUE, buffer=20, size=256, pattern=b"\5", wait=(40,), event=41)
    tags = [before.submit(fill), before.submit(p.Marker(queue=QUEUE, event=42), ring=1)]
    link = before.context.link
    link.wait(link.message)
    assert link.worker is not None
    os.kill(link.worker.pid, signal.SIGKILL)

    signalled = move(before, after)
    after.bench.clock.advance(1 << 50)

    assert sorted(signalled) == tags
    assert after.context.lost
    assert after.ask(p.GetEventStatus(event=41)).execution == Status.OUT_OF_RESOURCES


def test_contents_of_a_released_buffer_are_saved_for_who_waits_to_read_it(
    before: GuestBench, after: GuestBench
) -> None:
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateSubBuffer(id=21, buffer=20, origin=128, size=128),
        p.FillBuffer(queue=QUEUE, buffer=21, size=128, pattern=b"\5"),
        p.CreateUserEvent(id=40, context=CONTEXT),
    )
    before.submit(
        p.ReadBuffer(queue=QUEUE, buffer=21, size=128, blob=BULK, wait=(40,)),
        p.Release(id=21),
        p.Release(id=20),
    )

    move(before, after)
    after.do(p.SetUserEventStatus(event=40, status=0), ring=1)

    assert after.read(0, 128) == bytes([5]) * 128


def test_what_was_found_and_not_told_is_told_after_a_restore(
    before: GuestBench, after: GuestBench
) -> None:
    before.do(p.CreateBuffer(id=20, context=CONTEXT, size=64))
    before.submit(p.FillBuffer(queue=QUEUE, buffer=20, size=64, pattern=b"x"))
    link = before.context.link
    link.wait(link.message)
    link.found.add(link.message, [Finding("k", "a race", "address 0x1", 3)])

    signalled = move(before, after)
    early = dict(after.gpu.observation.mistakes)
    after.bench.clock.advance(1 << 50)

    assert (early, len(signalled)) == ({}, 1)
    assert after.gpu.observation.mistakes == {("k", "a race"): 3}


def test_build_that_failed_is_failed_after_a_restore(
    before: GuestBench, after: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before.do(p.CreateProgram(id=10, context=CONTEXT, source=ADD.encode()))
    with monkeypatch.context() as patch:
        patch.setattr(Builds, "start", lost)
        patch.setattr(Builds, "cached", lambda builds, key: None)
        before.status_of(p.BuildProgram(program=10))

    move(before, after)
    info = after.ask(p.GetProgramBuild(program=10))

    assert (info.build_status, info.log) == (-2, b"there is no process\n")


def test_snapshot_whose_program_is_not_built_here_is_refused(
    before: GuestBench, after: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before.program(10, ADD)
    monkeypatch.setattr(Builds, "start", lost)
    monkeypatch.setattr(Builds, "cached", lambda builds, key: None)

    with pytest.raises(ValueError, match="gpu0: a program of the snapshot cannot be built: there"):
        move(before, after)


def test_snapshot_whose_kernels_have_no_such_code_here_is_refused(
    before: GuestBench, after: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = p.NdRange(
        queue=QUEUE, kernel=30, dimensions=1, global_size=(64, 1, 1), local_size=(8, 0, 0)
    )
    before.program(10, ADD)
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateKernel(id=30, program=10, function_name=b"add"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.SetArgument(kernel=30, index=1, value=struct.pack("<I", 7)),
        run,
    )
    cached = Builds.cached
    group = before.gpu.builds.key_of(("group", "8-1-1", before.context.table[10].build.recipe))
    monkeypatch.setattr(Builds, "start", lost)
    monkeypatch.setattr(
        Builds, "cached", lambda builds, key: None if key == group else cached(builds, key)
    )

    with pytest.raises(ValueError, match="for work-groups of 8-1-1: there is no process"):
        move(before, after)


def lost(builds: Builds, recipe: tuple[Any, ...], binary: bytes) -> Any:
    raise WorkerLostError("there is no process")


def test_state_of_another_version_is_refused(before: GuestBench) -> None:
    state = before.gpu.save()
    state["version"] = 0

    with pytest.raises(ValueError, match="gpu0: the snapshot has a GPU's state of format 0; this"):
        before.gpu.load(state, lambda context, ring, tag: lambda: None)


def test_state_has_another_version_where_it_has_another_shape(before: GuestBench) -> None:
    """Who changes what snapshots have gives STATE_VERSION, and this, new values."""
    before.program(10, ADD)
    before.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=256),
        p.CreateSubBuffer(id=21, buffer=20, origin=128, size=128),
        p.CreateImage(
            id=22, context=CONTEXT, type=0x10F1, channel_order=0x10B5, channel_type=0x10DA,
            width=8, height=8,
        ),
        p.CreateSampler(id=23, context=CONTEXT, normalized=0, addressing=0x1131, filter=0x1140),
        p.CreateBuffer(id=25, context=CONTEXT, size=128, blob=BULK),
        p.MapBuffer(queue=QUEUE, buffer=25, flags=2, size=128, id=24),
        p.CreateKernel(id=30, program=10, function_name=b"add"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.SetArgument(kernel=30, index=1, value=struct.pack("<I", 7)),
        p.CreateUserEvent(id=40, context=CONTEXT),
        p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(64, 1, 1)),
    )  # fmt: skip
    run = p.NdRange(queue=QUEUE, kernel=30, dimensions=1, global_size=(64, 1, 1), wait=(40,))
    before.submit_bytes(run.encode() + p.GetEventStatus(event=40).encode(p.AnswerPlace(1, 0, 64)))

    shape = sorted(shape_of(before.gpu.save(), ""))

    digest = hashlib.sha256("\n".join(shape).encode()).hexdigest()[:16]
    assert (STATE_VERSION, digest) == (4, "a826e915f3716c73")


def shape_of(value: Any, path: str) -> set[str]:
    """The paths of all names in plain data."""
    if isinstance(value, dict):
        path = f"{path}{value.get('class', '')}"
        return {path}.union(*(shape_of(each, f"{path}.{name}") for name, each in value.items()))
    if isinstance(value, list):
        return {path}.union(*(shape_of(each, f"{path}[]") for each in value))
    return {path}


def test_files_are_read_and_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pread, write = os.pread, os.write
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 7), at))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    data = bytes(range(100))
    fd = os.memfd_create("contents")

    write_file(fd, data)

    assert read_file(fd, len(data)) == data
    os.close(fd)

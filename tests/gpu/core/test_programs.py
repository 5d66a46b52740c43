"""Programs and kernels: built, linked, from the cache, described, and refused."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from typing import Any

import pytest

from gpu import protocol as p
from gpu.core import device
from gpu.host import builds
from gpu.host.result import Built, scrub
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

SOURCE = """
#ifndef STEP
#define STEP 1
#endif
__kernel void add(__global uint *a, uint n, float4 unused, __local int *scratch,
                  __constant uint *table) { a[get_global_id(0)] += n * STEP + table[0]; }
__kernel __attribute__((reqd_work_group_size(4, 1, 1))) void four(__global uint *a)
{ a[get_global_id(0)] = get_local_size(0); }
struct pair { int x, y; };
__kernel void sum(__global int *a, struct pair both) { a[0] = both.x + both.y; }
__kernel void where(__global ulong *a)
{
    size_t i = get_global_id(1) * 4 + get_global_id(0);
    a[i - get_global_offset(1) * 4] = get_global_id(0) << 32 | get_global_id(1);
}
"""


@pytest.fixture
def built(guest: GuestBench) -> GuestBench:
    """The program 10 with kernels 11 to 14, and a buffer 20 on the blob."""
    guest.program(10, SOURCE)
    names = (b"add", b"four", b"sum", b"where")
    guest.do(
        *(p.CreateKernel(id=11 + i, program=10, function_name=n) for i, n in enumerate(names)),
        p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK),
    )
    guest.write(0, bytes(4096))
    return guest


def launch(kernel: int, size: int = 16, **more: object) -> p.NdRange:
    return p.NdRange(
        queue=QUEUE,
        kernel=kernel,
        dimensions=1,
        global_size=(size, 1, 1),
        **more,  # type: ignore[arg-type]
    )


def give_all(guest: GuestBench) -> None:
    guest.do(
        p.SetArgumentObject(kernel=11, index=0, object=20),
        p.SetArgument(kernel=11, index=1, value=struct.pack("<I", 5)),
        p.SetArgument(kernel=11, index=2, value=bytes(16)),
        p.SetArgumentLocal(kernel=11, index=3, size=64),
        p.SetArgumentObject(kernel=11, index=4, object=20),
    )


def test_kernel_info(built: GuestBench) -> None:
    info = built.ask(p.GetKernelInfo(kernel=11))
    fixed = built.ask(p.GetKernelInfo(kernel=12))

    assert info.num_args == 5
    assert info.names.split(b"\0")[:-1] == [b"a", b"n", b"unused", b"scratch", b"table"]
    assert info.type_names.split(b"\0")[1:3] == [b"uint", b"float4"]
    assert info.address_qualifiers == (0x119B, 0x119E, 0x119E, 0x119C, 0x119D)
    assert fixed.compile_work_group_size == (4, 1, 1)


def test_program_info_and_build_info(built: GuestBench) -> None:
    info = built.ask(p.GetProgramInfo(program=10))
    build = built.ask(p.GetProgramBuild(program=10))

    assert sorted(info.kernels.split(b";")) == [b"add", b"four", b"sum", b"where"]
    assert len(info.key) == 64
    assert (build.build_status, build.binary_type) == (0, 4)


def test_arguments_of_an_enqueued_kernel_are_those_it_was_enqueued_with(
    built: GuestBench,
) -> None:
    give_all(built)
    built.do(
        p.CreateBuffer(id=21, context=CONTEXT, size=64),
        p.SetArgumentObject(kernel=11, index=4, object=21),
        p.CreateUserEvent(id=30, context=CONTEXT),
    )
    waiting = built.submit(
        launch(11, wait=(30,)), p.SetArgument(kernel=11, index=1, value=struct.pack("<I", 700)),
        ring=4,
    )  # fmt: skip
    built.do(p.SetUserEventStatus(event=30, status=0))
    built.do(launch(11))

    assert waiting in built.signalled
    assert built.read(0, 64) == struct.pack("<16I", *[705] * 16)


def test_struct_is_given_by_its_bytes(built: GuestBench) -> None:
    built.do(
        p.SetArgumentObject(kernel=13, index=0, object=20),
        p.SetArgument(kernel=13, index=1, value=struct.pack("<ii", 40, 2)),
        p.Task(queue=QUEUE, kernel=13),
    )

    assert built.read(0, 4) == struct.pack("<i", 42)


def test_two_dimensions_with_an_offset(built: GuestBench) -> None:
    built.do(
        p.SetArgumentObject(kernel=14, index=0, object=20),
        p.NdRange(
            queue=QUEUE, kernel=14, dimensions=2, global_size=(4, 2, 1), offset=(0, 7, 0),
            local_size=(2, 1, 0),
        ),
    )  # fmt: skip

    expected = [x << 32 | y for y in (7, 8) for x in range(4)]
    assert struct.unpack("<8Q", built.read(0, 64)) == tuple(expected)


@pytest.mark.parametrize(
    ("options", "version"), [(b"", 120), (b"-cl-std=CL1.1", 110), (b"-cl-std=CL1.2", 120)]
)
def test_language_is_opencl_c_1_2_where_no_other_is_asked_for(
    guest: GuestBench, options: bytes, version: int
) -> None:
    source = "__kernel void tell(__global int *a) { *a = __OPENCL_C_VERSION__; }"
    guest.program(10, source, options)
    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=4),
        p.CreateKernel(id=30, program=10, function_name=b"tell"),
        p.SetArgumentObject(kernel=30, index=0, object=20),
        p.Task(queue=QUEUE, kernel=30),
        p.ReadBuffer(queue=QUEUE, buffer=20, size=4, blob=BULK),
    )

    assert struct.unpack("<I", guest.read(0, 4)) == (version,)


def test_options_reach_the_compiler(guest: GuestBench) -> None:
    guest.program(10, SOURCE, b"-D STEP=3 -I /somewhere -cl-mad-enable -w")
    guest.do(
        p.CreateKernel(id=11, program=10, function_name=b"add"),
        p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK),
        p.CreateBuffer(id=21, context=CONTEXT, size=64),
    )
    guest.write(0, bytes(4096))
    give_all(guest)

    guest.do(p.SetArgumentObject(kernel=11, index=4, object=21), launch(11, 1))

    assert guest.read(0, 4) == struct.pack("<I", 15)


def test_program_of_a_binarys_key(built: GuestBench) -> None:
    key = built.ask(p.GetProgramInfo(program=10)).key
    built.do(
        p.CreateProgramWithBinary(id=40, context=CONTEXT, key=key),
        p.BuildProgram(program=40),
        p.CreateKernel(id=41, program=40, function_name=b"four"),
        p.SetArgumentObject(kernel=41, index=0, object=20),
        launch(41, local_size=(4, 0, 0)),
    )

    assert built.read(0, 64) == struct.pack("<I", 4) * 16
    assert built.ask(p.GetProgramInfo(program=40)).key == key


def test_compile_with_a_header_and_link(guest: GuestBench) -> None:
    guest.do(
        p.CreateProgram(
            id=10, context=CONTEXT,
            source=b'#include "lib/twice.h"\n'
            b"__kernel void k(__global int *a) { a[0] = twice(ANSWER); }",
        ),
        p.CreateProgram(
            id=11, context=CONTEXT, source=b"int twice(int x) { return 2 * x; }"
        ),
        p.CreateProgram(
            id=12, context=CONTEXT, source=b"int twice(int x);\n#define ANSWER 21\n"
        ),
        p.CompileProgram(program=10, headers=(12,), names=b"lib/twice.h\0"),
        p.CompileProgram(program=11),
        p.LinkProgram(id=13, context=CONTEXT, programs=(10, 11)),
        p.CreateKernel(id=14, program=13, function_name=b"k"),
        p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK),
        p.SetArgumentObject(kernel=14, index=0, object=20),
        launch(14, 1),
    )  # fmt: skip

    assert guest.read(0, 4) == struct.pack("<i", 42)
    assert guest.ask(p.GetProgramBuild(program=10)).binary_type == 1
    assert guest.ask(p.GetProgramBuild(program=13)).binary_type == 4
    assert guest.ask(p.GetKernelInfo(kernel=14)).names == b"a\0"


def test_program_that_is_used_can_not_be_built_anew(built: GuestBench) -> None:
    assert built.status_of(p.BuildProgram(program=10)) == Status.INVALID_OPERATION


def test_build_that_failed_costs_nothing_again(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = b"__kernel void broken(__global int *a) { a[0] = nonsense; }"
    started = count_starts(monkeypatch)
    guest.do(*(p.CreateProgram(id=n, context=CONTEXT, source=source) for n in (10, 11)))

    statuses = [guest.status_of(p.BuildProgram(program=n)) for n in (10, 11, 10)]
    logs = {guest.ask(p.GetProgramBuild(program=n)).log for n in (10, 11)}

    assert statuses == [Status.BUILD_PROGRAM_FAILURE] * 3
    assert len(started) == 1
    assert len(logs) == 1
    assert b"nonsense" in logs.pop()


def test_failures_that_are_remembered_are_few(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "MAX_FAILURES", 1)
    started = count_starts(monkeypatch)
    guest.do(*(p.CreateProgram(id=n, context=CONTEXT, source=b"broken %d" % n) for n in (10, 11)))

    for n in (10, 11, 11, 10):
        guest.status_of(p.BuildProgram(program=n))

    assert [recipe[1] for recipe in started] == [b"broken 10", b"broken 11", b"broken 10"]


def test_build_whose_compiler_is_lost_is_tried_again(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = b"__kernel void again(__global int *a) { a[0] = 1; }"
    guest.do(p.CreateProgram(id=10, context=CONTEXT, source=source))
    guest.bench.messages.clear()

    with monkeypatch.context() as patch:
        start = builds.Builds.start
        patch.setattr(builds.Builds, "start", lambda *given: killed(start(*given)))
        first = guest.status_of(p.BuildProgram(program=10))
    second = guest.status_of(p.BuildProgram(program=10))

    assert (first, second) == (Status.BUILD_PROGRAM_FAILURE, Status.SUCCESS)
    assert guest.bench.messages == [
        "gpu0: context test: a program was not built: the compiler failed"
    ]


def test_build_that_had_too_little_memory_is_tried_again(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = b"__kernel void scarce(__global int *a) { a[0] = 1; }"
    guest.do(p.CreateProgram(id=10, context=CONTEXT, source=source))

    with monkeypatch.context() as patch:
        scarce = Built(Status.OUT_OF_HOST_MEMORY, "no memory\n")
        patch.setattr(builds, "parse", lambda *given: scarce)
        first = guest.status_of(p.BuildProgram(program=10))
    second = guest.status_of(p.BuildProgram(program=10))

    assert (first, second) == (Status.OUT_OF_HOST_MEMORY, Status.SUCCESS)


def test_lines_on_lost_builds_are_bounded(
    guest: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.do(p.CreateProgram(id=10, context=CONTEXT, source=b"__kernel void lost(void) {}"))
    guest.bench.messages.clear()
    monkeypatch.setattr(device, "MAX_UNBUILT", 1)
    monkeypatch.setattr(guest.gpu, "_unbuilt", 0)
    start = builds.Builds.start
    monkeypatch.setattr(builds.Builds, "start", lambda *given: killed(start(*given)))

    for _ in range(3):
        guest.status_of(p.BuildProgram(program=10))

    assert guest.bench.messages == [
        "gpu0: context test: a program was not built: the compiler failed",
        "gpu0: more programs were not built than are told here",
    ]


def count_starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The recipes of compilers that are started from now on."""
    started = []
    start = builds.Builds.start

    def spy(of: builds.Builds, recipe: tuple[Any, ...], binary: bytes) -> Any:
        started.append(recipe)
        return start(of, recipe, binary)

    monkeypatch.setattr(builds.Builds, "start", spy)
    return started


def killed(worker: builds.Worker) -> builds.Worker:
    os.kill(worker.pid, signal.SIGKILL)
    return worker


def test_failed_build_can_be_mended(guest: GuestBench) -> None:
    guest.do(p.CreateProgram(id=10, context=CONTEXT, source=b"__kernel void k() { x = MISSING; }"))

    first = guest.status_of(p.BuildProgram(program=10))
    kernel = guest.status_of(p.CreateKernel(id=11, program=10, function_name=b"k"))
    second = guest.status_of(p.BuildProgram(program=10, options=b"-DMISSING=1 -Dx=int_y_;int_y"))

    assert first == Status.BUILD_PROGRAM_FAILURE
    assert kernel == Status.INVALID_PROGRAM_EXECUTABLE
    assert second in (Status.BUILD_PROGRAM_FAILURE, Status.INVALID_BUILD_OPTIONS)


Case = tuple[Callable[[], p.Command], Status]
REFUSED: dict[str, Case] = {
    "no source": (
        lambda: p.CreateProgram(id=50, context=CONTEXT, source=b""), Status.INVALID_VALUE,
    ),
    "a key nobody knows": (
        lambda: p.CreateProgramWithBinary(id=50, context=CONTEXT, key=b"0" * 64),
        Status.INVALID_BINARY,
    ),
    "a key that is a path": (
        lambda: p.CreateProgramWithBinary(id=50, context=CONTEXT, key=b"../../../etc/passwd"),
        Status.INVALID_BINARY,
    ),
    "an option that is none": (
        lambda: p.BuildProgram(program=19, options=b"-include /etc/passwd"),
        Status.INVALID_BUILD_OPTIONS,
    ),
    "a plugin": (
        lambda: p.BuildProgram(program=19, options=b"-fplugin=/tmp/x.so"),
        Status.INVALID_BUILD_OPTIONS,
    ),
    "a definition that is more": (
        lambda: p.BuildProgram(program=19, options=b"-D 'A=1 -include /etc/passwd\n'"),
        Status.INVALID_BUILD_OPTIONS,
    ),
    "an open quote": (
        lambda: p.BuildProgram(program=19, options=b"-D'A"), Status.INVALID_BUILD_OPTIONS,
    ),
    "a compiler option that is none": (
        lambda: p.CompileProgram(program=19, options=b"-v"), Status.INVALID_COMPILER_OPTIONS,
    ),
    "a linker option that is none": (
        lambda: p.LinkProgram(id=50, context=CONTEXT, programs=(10,), options=b"-lm"),
        Status.INVALID_LINKER_OPTIONS,
    ),
    "a header by an absolute path": (
        lambda: p.CompileProgram(program=19, headers=(19,), names=b"/etc/passwd\0"),
        Status.INVALID_VALUE,
    ),
    "headers without names": (
        lambda: p.CompileProgram(program=19, headers=(19,), names=b""), Status.INVALID_VALUE,
    ),
    "linking what is not compiled": (
        lambda: p.LinkProgram(id=50, context=CONTEXT, programs=(19,)), Status.INVALID_PROGRAM,
    ),
    "a kernel of no program": (
        lambda: p.CreateKernel(id=50, program=20, function_name=b"add"), Status.INVALID_PROGRAM,
    ),
    "a kernel of a program that is not built": (
        lambda: p.CreateKernel(id=50, program=19, function_name=b"k"),
        Status.INVALID_PROGRAM_EXECUTABLE,
    ),
    "a kernel that is not there": (
        lambda: p.CreateKernel(id=50, program=10, function_name=b"nothing"),
        Status.INVALID_KERNEL_NAME,
    ),
    "an argument too many": (
        lambda: p.SetArgument(kernel=11, index=5, value=b"1234"), Status.INVALID_ARG_INDEX,
    ),
    "an argument's size": (
        lambda: p.SetArgument(kernel=11, index=1, value=b"12345678"), Status.INVALID_ARG_SIZE,
    ),
    "a pointer as bytes": (
        lambda: p.SetArgument(kernel=11, index=0, value=bytes(8)), Status.INVALID_ARG_VALUE,
    ),
    "local memory as bytes": (
        lambda: p.SetArgument(kernel=11, index=3, value=bytes(8)), Status.INVALID_ARG_VALUE,
    ),
    "a number as a buffer": (
        lambda: p.SetArgumentObject(kernel=11, index=1, object=20), Status.INVALID_ARG_VALUE,
    ),
    "a queue as a buffer": (
        lambda: p.SetArgumentObject(kernel=11, index=0, object=QUEUE), Status.INVALID_ARG_VALUE,
    ),
    "local memory for a buffer": (
        lambda: p.SetArgumentLocal(kernel=11, index=0, size=8), Status.INVALID_ARG_VALUE,
    ),
    "more local memory than there is": (
        lambda: p.SetArgumentLocal(kernel=11, index=3, size=1 << 40), Status.INVALID_ARG_SIZE,
    ),
    "arguments that are not set": (lambda: launch(11), Status.INVALID_KERNEL_ARGS),
    "no work": (lambda: launch(12, 0), Status.INVALID_GLOBAL_WORK_SIZE),
    "four dimensions": (
        lambda: p.NdRange(queue=QUEUE, kernel=12, dimensions=4, global_size=(4, 4, 4)),
        Status.INVALID_WORK_DIMENSION,
    ),
    "a group that does not divide": (
        lambda: launch(11, 16, local_size=(5, 0, 0)), Status.INVALID_WORK_GROUP_SIZE,
    ),
    "a group that is too large": (
        lambda: launch(11, 1 << 30, local_size=(1 << 29, 0, 0)), Status.INVALID_WORK_ITEM_SIZE,
    ),
    "another group than it was compiled for": (
        lambda: launch(12, 16, local_size=(8, 0, 0)), Status.INVALID_WORK_GROUP_SIZE,
    ),
    "an offset that overflows": (
        lambda: launch(12, 4, offset=((1 << 64) - 2, 0, 0)), Status.INVALID_GLOBAL_OFFSET,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused(built: GuestBench, case: str) -> None:
    make, error = REFUSED[case]
    built.do(p.CreateProgram(id=19, context=CONTEXT, source=b"__kernel void k() {}"))
    before = set(built.context.table)

    status = built.status_of(make())

    assert Status(status) == error
    assert set(built.context.table) == before


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("/tmp/x-y/tempfile_a.cl:3:4: error: no", "program.cl:3:4: error: no"),
        ('In "/usr/lib/clang/opencl-c.h"', 'In "..."'),
        ("a / b // c 1/2", "a / b // c 1/2"),
    ],
)
def test_log_has_no_path_of_the_host(log: str, shown: str) -> None:
    assert scrub(log) == shown


def test_program_of_too_many_parts_is_refused(guest: GuestBench) -> None:
    guest.do(
        p.CreateProgram(id=10, context=CONTEXT, source=b"int f(void) { return 1; }"),
        p.CompileProgram(program=10),
        p.LinkProgram(id=11, context=CONTEXT, programs=(10,), options=b"-create-library"),
    )

    status = guest.status_of(p.LinkProgram(id=12, context=CONTEXT, programs=(11,) * 256))

    assert status == Status.OUT_OF_HOST_MEMORY
    assert 12 not in guest.context.table


def test_program_of_too_long_headers_is_refused(guest: GuestBench) -> None:
    guest.do(
        p.CreateProgram(id=10, context=CONTEXT, source=b"int f(void) { return 1; }"),
        p.CreateProgram(id=11, context=CONTEXT, source=b" " * (1 << 20)),
    )

    names = b"".join(b"%d.h\0" % number for number in range(32))
    status = guest.status_of(p.CompileProgram(program=10, headers=(11,) * 32, names=names))

    assert status == Status.OUT_OF_HOST_MEMORY
    assert guest.context.table[10].build is None

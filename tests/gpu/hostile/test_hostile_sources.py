"""Sources and options that make the compiler read the host's files, or compile for ever."""

from __future__ import annotations

import os

import pytest

from gpu import protocol as p
from gpu.opencl import Status
from gpu.testing import CONTEXT, GuestBench
from tests.gpu.hostile.conftest import Attacker, Neighbour

FINE = b"__kernel void k(__global int *a) { a[0] = 7; }"
BOMB = b"""
#define A(x) x x x x x x x x x x
#define B(x) A(A(x))
#define C(x) B(B(B(x)))
__kernel void k(__global int *a) { C(a[0] += 1;) }
"""


def build(guest: GuestBench, source: bytes, options: bytes = b"") -> tuple[int, bytes]:
    """A build's status, and its log where there is one."""
    guest.wait(
        guest.submit(
            p.CreateContext(id=CONTEXT), p.CreateProgram(id=20, context=CONTEXT, source=source)
        )
    )
    status = guest.status_of(p.BuildProgram(program=20, options=options))
    log = guest.try_(p.GetProgramBuild(program=20))[1]
    guest.wait(guest.submit(p.Release(id=20), p.Release(id=CONTEXT)))
    guest.ask(p.GetError())
    return status, log.log if log is not None else b""


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../../../../etc/passwd", "/proc/self/environ", "/etc/os-release", __file__],
)
def test_host_file_cannot_be_included(attacker: Attacker, path: str) -> None:
    quoted, angled = (
        build(attacker.guest, f"#include {a}{path}{b}\n".encode() + FINE) for a, b in ('""', "<>")
    )

    for status, log in (quoted, angled):
        assert status == Status.BUILD_PROGRAM_FAILURE
        assert any(words in log for words in (b"not found", b"Permission denied"))
        assert not set(log.splitlines()) & set(contents(path).splitlines())


def contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_host_file_is_not_even_there_for_the_preprocessor(attacker: Attacker) -> None:
    source = b"""
    #if __has_include("/etc/passwd") || __has_include("/bin/sh") || __has_include("/proc/version")
    #error it is there
    #endif
    """

    assert build(attacker.guest, source + FINE) == (Status.SUCCESS, b"")


INCBIN = '.incbin \\"/etc/passwd\\"'
BESIDE_CODE = f"""
__asm__(".section .rodata\\n.global stolen\\nstolen: {INCBIN}\\n.text\\n");
extern __constant char stolen[];
__kernel void k(__global char *a) {{ for (int i = 0; i < 64; i++) a[i] = stolen[i]; }}
"""
IN_CODE = f"""
__kernel void k(__global char *a) {{
    __asm__ volatile("jmp 2f\\n1: {INCBIN}\\n2: lea 1b(%%rip), %%rsi; mov $64, %%rcx; rep movsb"
        :: "D"(a) : "rsi", "rcx", "memory");
}}
"""


@pytest.mark.parametrize("source", [BESIDE_CODE, IN_CODE], ids=["beside code", "in code"])
def test_incbin_finds_no_host_file(attacker: Attacker, source: str) -> None:
    """PoCL goes on where the assembler found no such file, with nothing in its place."""
    _, log = build(attacker.guest, source.encode())
    result = attacker.run(source) or b""

    assert contents("/etc/passwd")[:12] not in log + result


@pytest.mark.parametrize(
    "options",
    [
        b"-include /etc/passwd",
        b"-fplugin=/tmp/x.so",
        b"-Xclang -load",
        b"@/etc/passwd",
        b"-x ir",
        b"-o /tmp/x",
        b"--sysroot=/",
        b"-save-temps",
        b"-cl-std=CL1.2 -v",
        b"-DX=1 -###",
        b'-DX="',
        b"-DX=a\nb",
    ],
)
def test_option_that_is_not_opencls_is_refused(attacker: Attacker, options: bytes) -> None:
    assert build(attacker.guest, FINE, options)[0] == Status.INVALID_BUILD_OPTIONS


def test_include_folder_of_the_guest_means_nothing_here(attacker: Attacker) -> None:
    source = b"#include <passwd>\n" + FINE

    status, log = build(attacker.guest, source, b"-I /etc -I/etc")

    assert status == Status.BUILD_PROGRAM_FAILURE
    assert b"'passwd' file not found" in log


def test_definitions_can_not_make_options(attacker: Attacker) -> None:
    source = b"#if X != 2\n#error X\n#endif\n" + FINE

    assert build(attacker.guest, source, b"-DX=2 -DY=-include -DZ=/etc/passwd")[0] == 0


def test_log_has_no_path_of_the_host(attacker: Attacker) -> None:
    source = b"#pragma message __FILE__\n#warning is\n__kernel void k(void) { undeclared; }"

    status, log = build(attacker.guest, source)

    assert status == Status.BUILD_PROGRAM_FAILURE
    assert b"undeclared" in log
    assert b"hypervisor" not in log
    assert b"site-packages" not in log
    assert os.sep.encode() not in log


NAMES = b"""
__constant char names[] = __FILE__ " " __BASE_FILE__ " " __DATE__ " " __TIME__ " " __TIMESTAMP__;
__kernel void k(__global char *a) { for (int i = 0; i < sizeof names; i++) a[i] = names[i]; }
"""


def test_program_has_no_name_and_no_time_of_the_host(attacker: Attacker) -> None:
    """Else it would not be the same one each time, either."""
    result = attacker.run(NAMES.decode())

    assert result is not None
    assert result.partition(b"\0")[0] == (
        b"program.cl program.cl Jan  1 1970 00:00:00 Thu Jan  1 00:00:00 1970"
    )


def test_header_has_its_own_name_and_no_path(attacker: Attacker) -> None:
    guest = attacker.guest
    header = b"#pragma message __FILE__\n"
    compile_ = p.CompileProgram(program=20, headers=(21,), names=b"folder/a.h\0")
    guest.wait(
        guest.submit(
            p.CreateContext(id=CONTEXT),
            p.CreateProgram(id=20, context=CONTEXT, source=b'#include "folder/a.h"\n' + FINE),
            p.CreateProgram(id=21, context=CONTEXT, source=header),
        )
    )

    status = guest.status_of(compile_)
    log = guest.ask(p.GetProgramBuild(program=20)).log
    guest.wait(guest.submit(*(p.Release(id=i) for i in (21, 20, CONTEXT))))

    assert status == Status.SUCCESS
    assert b"a.h" in log
    assert b"hypervisor" not in log
    assert b"tmp" not in log


def test_compiler_bomb_fails_its_build_only() -> None:
    with GuestBench(opencl={"build_timeout": "1s", "timeout": "60s"}) as guest:
        neighbour = Neighbour(guest)
        guest.submit(p.CreateContext(id=CONTEXT))
        guest.submit(p.CreateProgram(id=20, context=CONTEXT, source=BOMB))
        bomb = guest.submit(p.BuildProgram(program=20))
        neighbour.compute()
        guest.wait(bomb)

        failed = guest.ask(p.GetError()).error
        log = guest.ask(p.GetProgramBuild(program=20)).log
        neighbour.compute()

        assert failed == Status.BUILD_PROGRAM_FAILURE
        assert log == b"it took too long\n"
        assert not guest.context.lost
        assert guest.bench.messages == [
            "gpu0: context test: a program was not built: it took too long"
        ]


@pytest.mark.parametrize(
    "source",
    [
        b"__constant char x[2000000000] = {1};\n__kernel void k(__global char *a) { *a = x[*a]; }",
        b"#include __FILE__\n" + FINE,
        b"__kernel void k(__global int *a) { a[0] = "
        + b"(" * 200_000
        + b"1"
        + b")" * 200_000
        + b";}",
    ],
    ids=["2 GB of constants", "includes itself", "deep"],
)
def test_source_that_takes_memory_without_end_fails_its_build_only(
    attacker: Attacker, source: bytes
) -> None:
    status, log = build(attacker.guest, source)

    attacker.neighbour.compute()
    assert status == Status.BUILD_PROGRAM_FAILURE
    assert log
    assert build(attacker.guest, FINE)[0] == Status.SUCCESS


def test_thousands_of_definitions_are_compiled(attacker: Attacker) -> None:
    options = b" ".join(b"-DA%d=A%d" % (i, i + 1) for i in range(4000))

    assert build(attacker.guest, FINE, options)[0] == Status.SUCCESS


def test_binary_that_is_not_from_the_cache_is_refused(attacker: Attacker) -> None:
    guest = attacker.guest
    guest.wait(guest.submit(p.CreateContext(id=CONTEXT)))

    keys = [b"\x7fELF" + bytes(64), b"0" * 64, b"../../../../etc/passwd", b"", b"/etc/passwd"]
    refused = [
        guest.status_of(p.CreateProgramWithBinary(id=20, context=CONTEXT, key=key)) for key in keys
    ]
    guest.wait(guest.submit(p.Release(id=CONTEXT)))
    guest.ask(p.GetError())

    assert refused == [Status.INVALID_BINARY] * len(keys)

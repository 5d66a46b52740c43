"""OpenCL in Debian on the virtual GPU: its own loader and clinfo, our library, real programs."""

from __future__ import annotations

import os
import re
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpu.guest.build import EXAMPLES, build_example, build_library
from hypervisor import Machine
from hypervisor.images import cpio

pytestmark = pytest.mark.guest

CONFIGS = Path(__file__).parents[2] / "configs"
PROMPT = "\n# "
USUAL = sorted(set(EXAMPLES) - {"endless", "held", "print"})
"""The examples that end by themselves, and say one line."""
ON_MUSL = ("errors", "transfers", "vector_add")

# The second GPU is for the programs that are to find no OpenCL on the host.
DESCRIPTION = """
base: {configs}/{machine}-gpu.yaml
devices:
  gpu0: {{opencl: {{timeout: 20s}}}}
  gpu1:
    type: virtio.gpu
    {place}
    opencl: {{platform: no platform has this name}}
"""
SECOND_PLACES = {
    "riscv64": "at: 0x1000_6000\n    irq: plic.6",
    "aarch64": "at: 0x0a00_6000\n    irq: gic.54",
}

everywhere = pytest.mark.parametrize("booted", ["riscv64", "aarch64"], indirect=True)
on_riscv64 = pytest.mark.parametrize("booted", ["riscv64"], indirect=True)

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def booted(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    build: Callable[[str], Path],
) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("gpu")
    path = folder / "machine.yaml"
    place = SECOND_PLACES[request.param]
    path.write_text(DESCRIPTION.format(configs=CONFIGS, machine=request.param, place=place))
    has_musl = {"riscv64": [f"boot.initrd={with_musl(build('gpu-musl.yaml'), folder)}"]}
    with Machine.load(path, has_musl.get(request.param, [])) as machine:
        machine.console.expect(PROMPT, timeout=400)
        yield machine


def with_musl(shell: Path, folder: Path) -> Path:
    """The shell, and in /opt/musl the library and examples that are for musl. Linux takes archives
    in a row."""
    files = [build_library("riscv64", "musl", folder)]
    files += [build_example(name, "riscv64", "musl", folder) for name in ON_MUSL]
    members = [cpio.Member(name, stat.S_IFDIR | 0o755) for name in ("opt", "opt/musl")]
    members += [
        cpio.Member(f"opt/musl/{file.name}", stat.S_IFREG | 0o755, file.read_bytes())
        for file in files
    ]
    path = folder / "initrd"
    path.write_bytes(shell.read_bytes() + cpio.write(members))
    return path


@pytest.fixture
def machine(booted: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield booted
    request.node.add_report_section("call", "console", booted.console.text[-3000:])


@pytest.fixture
def hidden(machine: Machine, ask: Ask) -> Iterator[None]:
    """Meanwhile there is only the GPU whose host has no OpenCL."""
    ask(machine, "mkdir -p /tmp/away; mv /dev/dri/renderD128 /dev/dri/card0 /tmp/away")
    yield
    ask(machine, "mv /tmp/away/* /dev/dri")


def worker_of(machine: Machine, program: str) -> int:
    """The process id of the worker of a guest's program: the kernel labels contexts by them."""
    core: Any = machine.devices["gpu0"].core  # type: ignore[attr-defined]
    (worker,) = [c.link.worker for c in list(core.contexts.values()) if program in c.label]
    return int(worker.pid)


@contextmanager
def killing(machine: Machine, program: str, text: str, seen: str) -> Iterator[list[float]]:
    """Kill the worker of a program when the console said `text`: the machine may be waiting for it
    by then. Has when that was, and when the console said `seen`."""
    begin = len(machine.console.text)
    times: list[float] = []
    done = threading.Event()

    def wait_for(text: str) -> bool:
        while text not in machine.console.text[begin:]:
            if done.wait(0.005):
                return False
        times.append(time.monotonic())
        return True

    def kill() -> None:
        if wait_for(text):
            os.kill(worker_of(machine, program), signal.SIGKILL)
            wait_for(seen)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()


@everywhere
def test_clinfo_lists_the_device(machine: Machine, ask: Ask) -> None:
    listed = ask(machine, "clinfo")

    assert re.search(r"Number of platforms +1\n", listed)
    assert re.search(r"Number of devices +1\n", listed)
    assert re.search(r"Device Version +OpenCL 1\.2", listed)
    assert re.search(r"Device Profile +FULL_PROFILE", listed)
    assert re.search(r"Max compute units +[1-9]", listed)
    assert re.search(r"clCreateContext\(NULL, \.\.\.\) \[default\] +Success", listed)
    assert [message for message in machine.messages if "gpu0" in message] == []


@everywhere
@pytest.mark.parametrize("name", USUAL)
def test_program_is_right(machine: Machine, ask: Ask, name: str) -> None:
    assert ask(machine, f"gpu-{name}; echo $?") == f"PASS {name}\n0"


@everywhere
def test_what_kernels_print_is_on_the_standard_output(machine: Machine, ask: Ask) -> None:
    said = ask(machine, "gpu-print | cat; echo $?")

    lines = ("0: 0.50 in group 0", "1: 1.50 in group 0", "2: 2.25 in group 1", "3: 3.00 in group 1")
    assert said.splitlines() == [*lines, "PASS print", "0"]


@on_riscv64
def test_programs_work_side_by_side(machine: Machine, ask: Ask) -> None:
    said = ask(machine, "(gpu-nbody & gpu-reduction & gpu-image_filter & wait)")

    passed = [line for line in said.splitlines() if line.startswith("PASS")]
    assert sorted(passed) == ["PASS image_filter", "PASS nbody", "PASS reduction"]


@on_riscv64
def test_library_is_libopencl_itself(machine: Machine, ask: Ask) -> None:
    """Without the loader: the same file is what a program is linked to."""
    folder = "/usr/lib/riscv64-linux-gnu/hypervisor"

    assert ask(machine, f"LD_LIBRARY_PATH={folder} gpu-nbody") == "PASS nbody"


@on_riscv64
@pytest.mark.parametrize("name", ON_MUSL)
def test_program_is_right_on_musl(machine: Machine, ask: Ask, name: str) -> None:
    """Without an ICD loader: the program has no other C library, and so no other libOpenCL."""
    said = ask(machine, f"LD_LIBRARY_PATH=/opt/musl /opt/musl/{name}; echo $?")

    assert said == f"PASS {name}\n0"


@everywhere
@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("name", [name for name in USUAL if name != "raw"])
def test_without_opencl_on_the_host_no_device_is_found(
    machine: Machine, ask: Ask, name: str
) -> None:
    assert ask(machine, f"gpu-{name}; echo $?") == "FAIL clGetDeviceIDs: error -1\n1"


@everywhere
@pytest.mark.usefixtures("hidden")
def test_without_opencl_on_the_host_clinfo_counts_no_device(machine: Machine, ask: Ask) -> None:
    assert re.search(r"Number of devices +0\n", ask(machine, "clinfo"))
    assert ask(machine, "gpu-raw") == "FAIL raw: there is no device that computes"


@on_riscv64
def test_killed_worker_disturbs_no_kernel_in_flight_elsewhere(machine: Machine, ask: Ask) -> None:
    before = len(machine.messages)

    with killing(machine, "gpu-endless", "RUNNING held", "LOST spin") as times:
        # By virtual time: one is ready before the other begins.
        said = ask(machine, "(sleep 2; gpu-endless) | gpu-held")

    begun, seen = times
    print(f"the guest's program had its error {seen - begun:.3f} s after the kill")
    assert said.splitlines() == [
        "RUNNING spin",
        "RUNNING held",
        "LOST spin",
        "FINISHED held",
        "RUNNING set",
        "PASS endless",
        "PASS held",
    ]
    (message,) = machine.messages[before:]
    assert message.endswith("is lost: the GPU's worker was ended by SIGKILL")
    assert ask(machine, "gpu-vector_add") == "PASS vector_add"

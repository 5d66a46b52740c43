"""The sandbox as another user than root, and on kernels that lack a part of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu.hostile.test_hostile_kernels import memory_of

HERE = Path(__file__).parent
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
SOME = "passwd or socket or parent or privileges"
"""Attacks that are made again each time; all others in campaigns."""
NAMESPACES, LANDLOCK, SECCOMP = "272", "444", "317"
LOOK = """
import sys
from gpu.testing import GuestBench
with GuestBench(opencl={"sandbox": sys.argv[1]}) as guest:
    print(guest.gpu.limits.reason or "a device", *guest.bench.messages, sep="\\n")
"""


WAIT = """
import sys
from gpu import protocol as p
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
with GuestBench() as guest:
    first = guest.context
    for context, secret in zip((first, guest.new_context("second")), sys.argv[1:]):
        guest.context = context
        guest.set_up()
        guest.write(0, secret.encode())
        guest.do(
            p.CreateBuffer(id=20, context=CONTEXT, size=64),
            p.WriteBuffer(queue=QUEUE, buffer=20, size=64, blob=BULK),
        )
        guest.write(0, bytes(64))
    workers = [first.link.worker, context.link.worker, guest.gpu.workers._spare]
    print(*(worker.describe() and worker.pid for worker in workers), flush=True)
    sys.stdin.read()
"""


def python(
    folder: Path, prelude: tuple[str, ...], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter by way of a script of this folder, with files of its own in `folder`."""
    with start(folder, prelude, *arguments) as running:
        out, errors = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, out, errors)


def start(
    folder: Path, prelude: tuple[str, ...], *arguments: str, **environment: str
) -> subprocess.Popen[str]:
    folder.chmod(0o777)
    script, *first = prelude
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *first, sys.executable, *arguments],
        cwd=HERE.parents[2],
        env={
            **{name: os.environ[name] for name in os.environ if "PYTEST" not in name},
            **environment,
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user reaches, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="hypervisor-test-") as name:
        yield Path(name)


@pytest.mark.parametrize(
    "chosen",
    [SOME, pytest.param("not bomb and not memory and not new_", marks=pytest.mark.slow)],
    ids=["some", "most"],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are run without root already")
def test_attacks_fail_without_root_too(folder: Path, chosen: str) -> None:
    files = [str(path) for path in HERE.glob("test_hostile_*.py")]

    done = python(folder, ("as_nobody.py",), *PYTEST, *files, "-k", chosen)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into the worker from outside")
def test_workers_of_a_user_without_rights_have_nothing_of_each_other(folder: Path) -> None:
    secrets = [f"secret-{number}-{os.urandom(8).hex()}".encode() for number in range(3)]
    hosts, *guests = (secret.decode() for secret in secrets)

    with start(folder, ("as_nobody.py",), "-c", WAIT, *guests, A_PASSWORD=hosts) as running:
        assert running.stdout is not None
        pids = [int(word) for word in running.stdout.readline().split()]
        memories = [memory_of(pid) for pid in pids]
        running.communicate("")

    found = [[secret in memory for secret in secrets] for memory in memories]
    assert found == [[False, True, False], [False, False, True], [False, False, False]]


@pytest.mark.parametrize(
    "chosen",
    [
        SOME,
        pytest.param(
            "passwd or refused or written or environ or compiler and not bomb",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["some", "most"],
)
def test_without_namespaces_landlock_keeps_the_hosts_files(folder: Path, chosen: str) -> None:
    names = ("system_calls", "sources", "constructors")
    files = [str(HERE / f"test_hostile_{name}.py") for name in names]

    done = python(folder, ("without.py", NAMESPACES), *PYTEST, *files, "-k", chosen)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        (NAMESPACES, "namespaces (Function not implemented)"),
        (LANDLOCK, "Landlock (Function not implemented)"),
        (f"{NAMESPACES},{LANDLOCK}", "namespaces (Function not implemented), Landlock ("),
    ],
)
def test_what_the_kernel_lacks_is_named_in_the_log(folder: Path, lacking: str, named: str) -> None:
    done = python(folder, ("without.py", lacking), "-c", LOOK, "auto")

    found, line = done.stdout.splitlines()
    assert found == "a device"
    assert line.startswith(f"gpu0: the worker's sandbox is without: {named}")


@pytest.mark.parametrize(("lacking", "name"), [(LANDLOCK, "Landlock"), (SECCOMP, "seccomp")])
def test_required_sandbox_that_is_not_whole_means_no_device(
    folder: Path, lacking: str, name: str
) -> None:
    done = python(folder, ("without.py", lacking), "-c", LOOK, "required")

    assert done.stdout.startswith(f"the GPU's worker is not sandboxed: no {name} (")

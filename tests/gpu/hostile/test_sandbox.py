"""The sandbox as another user than root, and on kernels that lack a part of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
NAMESPACES, LANDLOCK, SECCOMP = "272", "444", "317"
LOOK = """
import sys
from gpu.testing import GuestBench
with GuestBench(opencl={"sandbox": sys.argv[1]}) as guest:
    print(guest.gpu.limits.reason or "a device", *guest.bench.messages, sep="\\n")
"""


def python(
    folder: Path, prelude: tuple[str, ...], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter by way of a script of this folder, with files of its own in `folder`."""
    folder.chmod(0o777)
    script, *first = prelude
    return subprocess.run(
        [sys.executable, str(HERE / script), *first, sys.executable, *arguments],
        cwd=HERE.parents[2],
        env={
            **{name: os.environ[name] for name in os.environ if "PYTEST" not in name},
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user reaches, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="hypervisor-test-") as name:
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are run without root already")
def test_attacks_fail_without_root_too(folder: Path) -> None:
    files = [str(HERE / f"test_hostile_{name}.py") for name in ("system_calls", "sources")]

    done = python(folder, ("as_nobody.py",), *PYTEST, *files, "-k", "not bomb")

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_without_namespaces_landlock_keeps_the_hosts_files(folder: Path) -> None:
    chosen = "passwd or refused or written or environ"
    files = [str(HERE / f"test_hostile_{name}.py") for name in ("system_calls", "sources")]

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

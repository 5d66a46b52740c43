"""`make run`: Debian where its image can be had, else the guest that is bundled."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pexpect
import pytest

from hypervisor.images import NoPackageSource
from tools import first_run

FIRST_RUN = [sys.executable, "-m", "tools.first_run"]


@pytest.fixture
def with_opencl(tmp_path):
    """An environment without a package source: an empty cache and no apt."""
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    return {**os.environ, **home, "PATH": str(tmp_path)}


@pytest.fixture
def offline(with_opencl):
    """The same, and no OpenCL."""
    return {**with_opencl, "OCL_ICD_VENDORS": "/nonexistent"}


def test_debian_runs_where_its_image_is_there(monkeypatch):
    asked = []
    images = SimpleNamespace(path=asked.append)
    monkeypatch.setattr(first_run, "Images", lambda progress: images)

    assert first_run.choose() == first_run.DEBIAN
    assert asked == list(first_run.IMAGES)


def test_bundled_guest_runs_where_no_source_is_reached(monkeypatch, capfd):
    def path(reference):
        raise NoPackageSource("no archive\nis reached")

    monkeypatch.setattr(first_run, "Images", lambda progress: SimpleNamespace(path=path))
    monkeypatch.setattr(first_run, "has_opencl", lambda: False)

    assert first_run.choose() == first_run.BUNDLED
    assert capfd.readouterr().err == (
        "Debian's image cannot be had, so the bundled guest runs: no archive is reached\n"
    )


def test_bundled_guest_is_there_to_type_to(offline, tmp_path):
    child = pexpect.spawn(
        FIRST_RUN[0], FIRST_RUN[1:], env=offline, cwd=tmp_path, timeout=60, encoding="utf-8"
    )

    child.expect_exact("so the bundled guest runs: ")
    child.expect_exact("Ctrl-A x leaves")
    child.expect_exact("hello> ")
    child.send("help\r")
    child.expect_exact("hello> ")
    child.send("\x01x")
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus == 0


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"])
def test_run_without_a_terminal_ends_at_the_prompt(offline, tmp_path, redirection):
    command = f"{' '.join(FIRST_RUN)} {redirection}"

    done = subprocess.run(
        ["/bin/sh", "-c", command],
        check=False,
        env=offline,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"hello> ")


def test_guest_with_a_gpu_runs_where_there_is_opencl(with_opencl, tmp_path):
    done = subprocess.run(
        FIRST_RUN,
        check=False,
        env=with_opencl,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert b"PASS mandelbrot" in done.stdout

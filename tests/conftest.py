"""Fixtures that all tests share."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# What decides whether a change may land tries the same examples each time; a campaign tries others.
hypothesis.settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=3_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

LINKER_SCRIPT = """
SECTIONS { . = 0x80000000; .text : { *(.text*) } .data : { *(.data*) *(.rodata*) } }
"""

Assembler = Callable[[str], bytes]

REFERENCE = "reference"
"""The group of the tests that are restored from one boot of each machine."""


# Whoever starts the tests in the background may have them ignore Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run soak campaigns too")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out campaigns, unless they are asked for, and keep together what shares a fixture. What
    takes long begins first, so that several processes end at about the same time."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.fuzz)
    items.sort(key=_rank)
    if config.getoption("--run-slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def _rank(item: pytest.Item) -> int:
    if _group(item) == REFERENCE:
        return 0
    return 1 if item.get_closest_marker("guest") else 2


def _group(item: pytest.Item) -> str:
    """What runs in one process where tests run in several: a file, and all that is restored from
    one boot."""
    return REFERENCE if "reference_of" in getattr(item, "fixturenames", ()) else item.path.name


@pytest.fixture(scope="session")
def assemble(tmp_path_factory: pytest.TempPathFactory) -> Assembler:
    """RISC-V assembler source to a flat image for address 0x80000000."""
    folder = tmp_path_factory.mktemp("assembled")
    (folder / "link.ld").write_text(LINKER_SCRIPT)

    def run(source: str) -> bytes:
        name = hashlib.sha256(source.encode()).hexdigest()[:16]
        flat = folder / f"{name}.bin"
        if not flat.exists():
            _assemble(folder, name, source)
        return flat.read_bytes()

    return run


def _assemble(folder: Path, name: str, source: str) -> None:
    from elftools.elf.elffile import ELFFile

    text = folder / f"{name}.S"
    text.write_text(".globl _start\n_start:\n" + source)
    elf = folder / f"{name}.elf"
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none"),
            *("-mcpu=generic_rv64+m+a+f+d+c", "-nostdlib", "-static"),
            *(f"-Wl,-T,{folder / 'link.ld'}", "-o", str(elf), str(text)),
        ],
        check=True,
    )
    image = bytearray()
    with elf.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            start = segment["p_paddr"] - 0x8000_0000
            if start < 0 or not segment["p_filesz"]:
                continue
            image.extend(bytes(max(0, start + segment["p_filesz"] - len(image))))
            image[start : start + segment["p_filesz"]] = segment.data()
    (folder / f"{name}.bin").write_bytes(image)


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"

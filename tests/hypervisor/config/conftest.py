"""Small device types and a complete description for the tests of this directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from hypervisor.config import DescriptionError, DeviceTypeError, load_description
from hypervisor.device import Device, FileRef, Options, Size

DESCRIPTION = """\
machine: riscv64-virt
cpu: {arch: riscv64}
memory: {ram: {at: 0x8000_0000, size: 16M}}
boot: {entry: 0x8000_0000}
devices:
  plic: {type: fake.plic, at: 0x0c00_0000}
  uart0: {type: fake.uart, at: 0x1000_0000, irq: plic.10, backend: stdio}
  disk0: {type: fake.disk, at: 0x1000_1000, irq: plic.1}
"""


class FakePlic(Device):
    type = "fake.plic"
    summary = "an interrupt controller"
    address_size = 0x40_0000
    interrupt_inputs = 31


class FakeUart(Device):
    """A serial port."""

    class Options(Options):
        backend: str = Field(default="none", description="other end of the line")
        speed: int = Field(default=9600, ge=1, le=115_200, description="bits a second")

    type = "fake.uart"
    address_size = 0x100


class FakeDisk(Device):
    class Options(Options):
        file: FileRef | None = None
        read_only: bool = False
        size: Size = Field(default=0x1000, description="bytes of address space")

    type = "fake.disk"

    @classmethod
    def size_for(cls, options: Any) -> int:
        return int(options.size)


class FakeGic(Device):
    type = "fake.gic"
    arch = "aarch64"


class FakeHub(Device):
    type = "fake.hub"
    address_size = 0


FAKES = {model.type: model for model in (FakePlic, FakeUart, FakeDisk, FakeGic, FakeHub)}


def find_fake(name: str, directory: str) -> type[Device]:
    if name not in FAKES:
        raise DeviceTypeError(f"no device type '{name}'")
    return FAKES[name]


@pytest.fixture
def fakes() -> dict[str, type[Device]]:
    return dict(FAKES)


@pytest.fixture
def description(tmp_path: Path) -> Path:
    """A file with a complete, right description."""
    path = tmp_path / "machine.yaml"
    path.write_text(DESCRIPTION)
    return path


@pytest.fixture
def edited() -> Callable[[str, str], str]:
    """The description's text with one piece of it replaced."""

    def run(old: str, new: str) -> str:
        assert old in DESCRIPTION
        return DESCRIPTION.replace(old, new)

    return run


@pytest.fixture
def load(description: Path) -> Callable[..., Any]:
    """Loads the description, changed by `overrides` or replaced by `text`."""

    def run(*overrides: str, text: str = DESCRIPTION, **options: Any) -> Any:
        description.write_text(text)
        return load_description(str(description), overrides, find=find_fake, **options)

    return run


@pytest.fixture
def problems(load: Callable[..., Any], description: Path) -> Callable[..., list[str]]:
    """What is wrong with a description, each without the file's directory."""

    def run(*overrides: str, text: str = DESCRIPTION, **options: Any) -> list[str]:
        with pytest.raises(DescriptionError) as caught:
            load(*overrides, text=text, **options)
        return [str(each).replace(f"{description.parent}/", "") for each in caught.value.problems]

    return run

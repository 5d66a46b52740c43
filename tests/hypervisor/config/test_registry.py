from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.config import load_description
from hypervisor.config.registry import DeviceTypeError, device_types, find_device
from hypervisor.device import Device

BLINKER = """\
from __future__ import annotations

from pydantic import Field

from hypervisor.device import Device, Options


class BlinkerOptions(Options):
    rate: int = Field(default=1, description="blinks a second")


class Blinker(Device):
    Options = BlinkerOptions
    compatible = ("example,blinker",)
"""

Own = Callable[[str], str]


@pytest.fixture
def own_error(tmp_path: Path) -> Own:
    """What is wrong with type `./own.py:Own` when own.py holds a text."""

    def run(text: str) -> str:
        (tmp_path / "own.py").write_text(text)
        with pytest.raises(DeviceTypeError) as caught:
            find_device("./own.py:Own", str(tmp_path))
        return str(caught.value).replace(f"{tmp_path}/", "")

    return run


def test_installed_types_are_known_by_name() -> None:
    assert "ns16550a" in device_types()
    assert issubclass(find_device("ns16550a"), Device)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ns16550", "no device type 'ns16550'; did you mean 'ns16550a'?"),
        ("./blinker.py", "'./blinker.py' names no class; write './blinker.py:CLASS'"),
    ],
)
def test_unknown_type_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(DeviceTypeError) as caught:
        find_device(name)
    assert str(caught.value) == message


def test_class_in_a_file_beside_the_description_is_found(tmp_path: Path) -> None:
    (tmp_path / "blinker.py").write_text(BLINKER)
    model = find_device("./blinker.py:Blinker", str(tmp_path))
    assert model.Options(type="x", at=4096).model_dump()["rate"] == 1


def test_description_names_a_class_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "blinker.py").write_text(BLINKER)
    (tmp_path / "m.yaml").write_text(
        "machine: m\ncpu: {arch: riscv64}\nmemory: {ram: {at: 0x8000_0000, size: 1M}}\n"
        "boot: {entry: 0x8000_0000}\n"
        "devices: {led: {type: './blinker.py:Blinker', at: 0x1000_0000, rate: 5}}\n"
    )
    found = load_description(str(tmp_path / "m.yaml")).devices["led"]
    assert (found.model.__name__, found.options.rate) == ("Blinker", 5)


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "blinker.py").write_text(BLINKER)
    find_device("./blinker.py:Blinker", str(tmp_path))
    (tmp_path / "blinker.py").write_text(BLINKER.replace("example,blinker", "example,other-one"))
    model = find_device("./blinker.py:Blinker", str(tmp_path))
    assert model.compatible == ("example,other-one",)


def test_missing_class_names_the_nearest(own_error: Own) -> None:
    message = own_error("class Owl: pass\nclass Zebra: pass\n")
    assert message == "own.py has no class 'Own'; did you mean 'Owl'?"


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        DeviceTypeError, match=r"^cannot read .*/own.py: No such file or directory$"
    ):
        find_device("./own.py:Own", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nimport nosuch\n", "own.py:2: ModuleNotFoundError: No module named 'nosuch'"),
        ("\nclass Own(\n", "own.py:2:10: '(' was never closed"),
        ("def f():\n  raise SystemExit(3)\nf()\n", "own.py:2: SystemExit: 3"),
        (
            "open('/nonexistent')",
            "own.py:1: FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent'",
        ),
        (
            "class Own: pass",
            "'Own' in own.py is not a device: it must derive from hypervisor.device.Device",
        ),
        (
            "Own = 5",
            "'Own' in own.py is not a device: it must derive from hypervisor.device.Device",
        ),
        ("x = '\0'", "own.py: SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_failure_in_a_user_s_file_names_its_line(own_error: Own, text: str, message: str) -> None:
    assert own_error(text).replace("ValueError: source", "SyntaxError: source") == message

"""Parts of images that installed packages bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.images import ImageError, parts


class Greeting:
    """A part with one file."""

    def key(self, architecture: str) -> str:
        return f"1-{architecture}"

    def build(self, architecture: str, folder: Path) -> dict[str, tuple[Path, int]]:
        file = folder / "greeting"
        file.write_text(f"hello {architecture}\n")
        return {"etc/greeting": (file, 0o644)}


class Unwilling(Greeting):
    """A part that lacks its compiler."""

    def build(self, architecture: str, folder: Path) -> dict[str, tuple[Path, int]]:
        raise RuntimeError("its compiler is not installed: pip install compiler")


class Installed:
    """Entry points of the tests' own."""

    def __init__(self, name: str, kind: type) -> None:
        self.name = name
        self._kind = kind

    def load(self) -> type:
        return self._kind


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Installed("greeting", Greeting), Installed("unwilling", Unwilling)]
    monkeypatch.setattr(parts, "entry_points", lambda group: found)


@pytest.mark.usefixtures("installed")
def test_part_is_built_below_its_folder(tmp_path: Path) -> None:
    made = parts.build("greeting", "riscv64", tmp_path / "part")

    file, permissions = made["etc/greeting"]
    assert file.read_text() == "hello riscv64\n"
    assert permissions == 0o644


@pytest.mark.usefixtures("installed")
def test_keys_are_by_name() -> None:
    assert parts.key(["greeting"], "arm64") == {"greeting": "1-arm64"}


@pytest.mark.usefixtures("installed")
def test_unknown_part_is_named_with_its_nearest() -> None:
    with pytest.raises(ImageError, match="no image part 'greting'; did you mean 'greeting'"):
        parts.key(["greting"], "arm64")


@pytest.mark.usefixtures("installed")
def test_part_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="part 'unwilling' cannot be made: its compiler is not"):
        parts.build("unwilling", "riscv64", tmp_path / "part")


def test_the_library_is_a_part() -> None:
    keys = parts.key(["opencl", "opencl-examples"], "riscv64")

    assert len(set(keys.values())) == 2

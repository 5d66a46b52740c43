"""The descriptions that we ship, with the real devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.config import check_catalogue, load_description, load_text
from hypervisor.config.sources import shipped_directory

SHIPPED = sorted(Path(shipped_directory()).glob("*64-*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_description_is_right(path: Path) -> None:
    found = load_description(str(path), check_image=check_catalogue)
    assert found.console is not None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_description_reads_back_from_its_source(path: Path) -> None:
    found = load_description(str(path))
    again = load_text(found.source, "elsewhere/machine.yaml")
    assert (again.devices, again.boot) == (found.devices, found.boot)


def test_shipped_description_is_found_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_name = load_description("configs/riscv64-debian.yaml")
    assert by_name.digest == load_description("riscv64-debian.yaml").digest

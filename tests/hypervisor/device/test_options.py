"""The value types that device options are written in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hypervisor.device import Duration, FileRef, Options, Size


class Sample(Options):
    size: Size = 0
    wait: Duration = 0
    file: FileRef | None = None


@pytest.mark.parametrize(
    ("written", "expected"),
    [(4096, 4096), ("4096", 4096), ("64K", 65536), ("64 KiB", 65536), ("1g", 1 << 30)],
)
def test_size_is_read_in_binary_units(written: Any, expected: int) -> None:
    assert Sample(size=written).size == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [(5, 5), ("100us", 100_000), ("2 ms", 2_000_000), ("1.5s", 1_500_000_000)],
)
def test_duration_is_read_in_nanoseconds(written: Any, expected: int) -> None:
    assert Sample(wait=written).wait == expected


@pytest.mark.parametrize("written", ["64 bananas", "-1", "", -1])
def test_wrong_size_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="size"):
        Sample(size=written)


def test_empty_file_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        Sample(file="")


def test_file_name_keeps_its_type() -> None:
    assert isinstance(Sample(file="disk.img").file, FileRef)


def test_unknown_option_is_refused() -> None:
    with pytest.raises(ValidationError, match="bakend"):
        Sample(bakend="stdio")

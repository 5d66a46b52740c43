"""The finisher: power-off, failure codes, reset, and what Linux needs to find it."""

from __future__ import annotations

import pytest

from devices.power.sifive_test import SifiveTest
from hypervisor.device.testing import Bench
from hypervisor.device.tree import Ref


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def finisher(bench: Bench) -> SifiveTest:
    device: SifiveTest = bench.build(SifiveTest, "test0", at=0x10_0000)
    return device


@pytest.mark.parametrize(
    ("value", "requests"),
    [
        (0x5555, ["power-off 0"]),
        (0x0007_3333, ["power-off 7"]),
        (0x0000_3333, ["power-off 1"]),
        (0x7777, ["reset"]),
        (0x1234, []),
    ],
)
def test_written_code_asks_for_its_action(
    finisher: SifiveTest, bench: Bench, value: int, requests: list[str]
) -> None:
    finisher.write(0, 4, value)

    assert bench.control.requests == requests


def test_half_word_write_is_a_command_too(finisher: SifiveTest, bench: Bench) -> None:
    finisher.write(0, 2, 0x5555)

    assert bench.control.requests == ["power-off 0"]


def test_finisher_reads_as_zero(finisher: SifiveTest) -> None:
    assert finisher.read(0, 4) == 0


@pytest.mark.parametrize(
    ("index", "name", "value"), [(0, "poweroff", 0x5555), (1, "reboot", 0x7777)]
)
def test_syscon_nodes_name_the_register_and_its_value(
    finisher: SifiveTest, index: int, name: str, value: int
) -> None:
    node = finisher.extra_nodes()[index]

    assert node.name == name
    assert node.properties == {
        "compatible": f"syscon-{name}",
        "regmap": Ref("test0"),
        "offset": 0,
        "value": value,
    }

"""What every device type must hold to, whoever wrote it: found through the entry points, each is
built on a bench, driven with random accesses, reset, saved and restored."""

from __future__ import annotations

import inspect
import random
import tracemalloc
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypervisor.boot.fdt import flatten
from hypervisor.device import Device, Node
from hypervisor.device.testing import Bench
from hypervisor.device.testing.conformance import CHECKS, Check, Subject
from hypervisor.device.testing.hostile import RECORD, HostileGuest
from tests.effort import effort

MODELS = {entry.name: entry for entry in entry_points(group="hypervisor.devices")}

OPTIONS: dict[str, dict[str, Any]] = {
    "cfi.flash": {"size": "512K"},
    "virtio.blk": {"file": "disk.img", "overlay": "discard"},
}
"""What a type needs to be built; a file named here is 1 MiB of zeroes."""

ACCESSES = effort(2_000, 100_000)
"""Per type."""
BURST = 200
LARGEST_STATE = {"cfi.flash": 600_000}
"""Bytes of a snapshot: flash carries its sectors."""
SMALL_STATE = 24_000
MOST_MESSAGES = 300
MOST_MEMORY = 8 << 20
"""Bytes that random accesses may make a device hold at a time."""


class Burst(bytes):
    """Accesses, shown without the zeroes at their end."""

    def __repr__(self) -> str:
        return f"Burst.fromhex('{self.rstrip(bytes(1)).hex()}')"


every_model = pytest.mark.parametrize("type_name", sorted(MODELS))
bursts = st.binary(min_size=BURST * RECORD, max_size=BURST * RECORD).map(Burst)
fuzzing = settings(
    max_examples=max(ACCESSES // BURST, 1),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def options_of(type_name: str, folder: Path) -> dict[str, Any]:
    """What a type needs, with the files that it names made in `folder`."""
    wanted = OPTIONS.get(type_name, {})
    disk = folder / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    files = {key: str(disk) for key, value in wanted.items() if value == disk.name}
    return {"at": 0x1000_0000} | wanted | files


class Workbench:
    """Builds devices of any type, and closes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built: list[Device] = []

    def build(self, type_name: str) -> tuple[Device, Bench]:
        bench = Bench(harts=2)
        options = options_of(type_name, self.folder)
        device = bench.build(MODELS[type_name].load(), **options)
        self.built.append(device)
        return device, bench

    def close(self) -> None:
        while self.built:
            self.built.pop().close()


@pytest.fixture
def workbench(tmp_path: Path) -> Any:
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


@every_model
@fuzzing
@given(burst=bursts)
def test_random_accesses_are_survived(type_name: str, workbench: Workbench, burst: bytes) -> None:
    workbench.close()  # what the example before built
    device, bench = workbench.build(type_name)
    driver = HostileGuest(device, bench)

    driver.run(burst)

    assert driver.wrong == []
    assert len(bench.messages) <= MOST_MESSAGES


@pytest.mark.fuzz
@every_model
def test_flood_of_random_accesses_piles_nothing_up(type_name: str, workbench: Workbench) -> None:
    device, bench = workbench.build(type_name)
    driver = HostileGuest(device, bench)
    noise = random.Random(type_name)

    driver.run(noise.randbytes(BURST * RECORD))
    tracemalloc.start()
    try:
        for _ in range(effort(25, 500)):
            driver.run(noise.randbytes(BURST * RECORD))
            driver.answers.clear()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak <= MOST_MEMORY
    assert driver.wrong == []
    assert len(bench.messages) <= MOST_MESSAGES
    assert len(cbor2.dumps(device.save())) <= LARGEST_STATE.get(type_name, SMALL_STATE)


@every_model
@settings(fuzzing, max_examples=max(ACCESSES // BURST // 2, 1))
@given(before=bursts, after=bursts)
def test_random_accesses_find_no_difference_after_a_snapshot(
    type_name: str, workbench: Workbench, before: bytes, after: bytes
) -> None:
    workbench.close()  # what the example before built
    device, bench = workbench.build(type_name)
    driver = HostileGuest(device, bench)
    driver.run(before)
    saved = cbor2.loads(cbor2.dumps(device.save()))
    other, other_bench = workbench.build(type_name)
    other_bench.clock.advance(bench.clock.now())
    other.load(saved)
    restored = cbor2.loads(cbor2.dumps(other.save()))
    twin = HostileGuest(other, other_bench)
    twin.take_over(driver)
    driver.answers.clear()

    driver.run(after)
    twin.run(after)

    assert restored == saved
    assert twin.answers == driver.answers
    assert other.save() == device.save()


@every_model
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_model_passes_the_kits_checks(type_name: str, check: Check, tmp_path: Path) -> None:
    with Subject(MODELS[type_name].load(), **options_of(type_name, tmp_path)) as subject:
        check(subject)


@every_model
def test_type_is_documented(type_name: str) -> None:
    model = MODELS[type_name].load()
    module = inspect.getmodule(model)

    assert model.type == type_name
    assert model.__doc__
    assert module is not None
    assert module.__doc__


@every_model
def test_nodes_of_the_tree_flatten(type_name: str, workbench: Workbench) -> None:
    device, _ = workbench.build(type_name)
    node = device.node()
    assert node is not None
    node.label = device.name
    harts = [Node(f"cpu{h}", {}, [Node("intc", label=f"cpu{h}_intc")]) for h in range(2)]

    blob = flatten(Node("", {}, [*harts, node, *device.extra_nodes()]))

    assert blob[:4] == b"\xd0\x0d\xfe\xed"

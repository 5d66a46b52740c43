"""What every device type must hold to, whoever wrote it: found through the entry points, each is
built on a bench, driven with random accesses, reset, saved and restored."""

from __future__ import annotations

import inspect
import os
import random
import tracemalloc
from collections import Counter
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypervisor.boot.fdt import flatten
from hypervisor.device import Device, Node, Register, registers_of
from hypervisor.device.testing import Bench

MODELS = {entry.name: entry for entry in entry_points(group="hypervisor.devices")}

OPTIONS: dict[str, dict[str, Any]] = {
    "cfi.flash": {"size": "512K"},
    "virtio.blk": {"file": "disk.img", "overlay": "discard"},
}
"""What a type needs to be built; a file named here is 1 MiB of zeroes."""

ACCESSES = int(os.environ.get("HYPERVISOR_FUZZ", "2000"))
"""Accesses per type; `make fuzz` asks for 100,000."""
BURST = 200
RECORD = 8
"""Bytes that make one access: operation, offset (two), skew, value (four)."""
WIDTHS = (1, 2, 4, 8)
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


class Workbench:
    """Builds devices of any type, and closes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = folder / "disk.img"
        self.disk.write_bytes(bytes(1 << 20))
        self.built: list[Device] = []

    def build(self, type_name: str, **options: Any) -> tuple[Device, Bench]:
        bench = Bench(harts=2)
        wanted = OPTIONS.get(type_name, {}) | options
        files = {key: str(self.disk) for key, value in wanted.items() if value == self.disk.name}
        device = bench.build(MODELS[type_name].load(), at=0x1000_0000, **wanted | files)
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


class Driver:
    """Turns random bytes into a hostile guest's accesses, and notes what is wrong with answers."""

    def __init__(self, device: Device, bench: Bench) -> None:
        self.device = device
        self.bench = bench
        self.extent = device.size_for(device.options)
        self.table = list(registers_of(type(device)))
        self.wrong: list[str] = []
        self.answers: list[int] = []
        self.levels: dict[int, bool] = {}
        """Interrupt inputs that were driven."""

    def take_over(self, other: Driver) -> None:
        """Give this bench the time, the waiting input and the input levels of another."""
        self.bench.console.type(other.bench.console.waiting)
        for number, level in other.levels.items():
            self.device.input(number).set(level)
        self.levels = dict(other.levels)

    def run(self, burst: bytes) -> None:
        for at in range(0, len(burst), RECORD):
            self._step(burst[at : at + RECORD])

    def _step(self, record: bytes) -> None:
        operation, skew = record[0], record[3]
        where = int.from_bytes(record[1:3], "little")
        value = int.from_bytes(record[4:8], "little")
        offset, size = where * self.extent >> 16, WIDTHS[operation >> 3 & 3]
        if skew & 1 and self.table:
            offset, natural = self._register(where, skew)
            size = natural if skew & 8 else size
        offset = min(offset + (skew >> 4 & skew >> 2 & 3), self.extent - 1)
        actions = (self._read, self._read, self._write, self._write, self._write_small)
        others = (self._type, self._wait, self._toggle)
        (actions + others)[operation & 7](offset, size, value | value << 32)

    def _register(self, where: int, skew: int) -> tuple[int, int]:
        """A register's offset and size. All are as likely, and so are an array's first four."""
        index, number = divmod(where, len(self.table))
        register = self.table[number]
        index %= register.count if skew & 2 else min(register.count, 4)
        return register.offset + index * register.stride, register.size

    def _read(self, offset: int, size: int, value: int) -> None:
        answer = self.device.read(offset, size)
        self.answers.append(answer)
        if not 0 <= answer < 1 << 8 * size:
            self.wrong.append(f"{size}-byte read of {offset:#x} gave {answer:#x}")

    def _write(self, offset: int, size: int, value: int) -> None:
        self.device.write(offset, size, value & (1 << 8 * size) - 1)

    def _write_small(self, offset: int, size: int, value: int) -> None:
        self.device.write(offset, size, value & 0x1F)

    def _type(self, offset: int, size: int, value: int) -> None:
        self.bench.console.type(value.to_bytes(8, "little"))

    def _wait(self, offset: int, size: int, value: int) -> None:
        self.bench.clock.advance(value & 0xFF_FFFF)
        self.bench.run_posted()

    def _toggle(self, offset: int, size: int, value: int) -> None:
        if self.device.interrupt_inputs:
            number = self.device.first_input + offset % 64
            self.levels[number] = not self.levels.get(number, False)
            self.device.input(number).set(self.levels[number])


def registers(type_name: str) -> list[Register]:
    return list(registers_of(MODELS[type_name].load()))


@every_model
@fuzzing
@given(burst=bursts)
def test_random_accesses_are_survived(type_name: str, workbench: Workbench, burst: bytes) -> None:
    workbench.close()  # what the example before built
    device, bench = workbench.build(type_name)
    driver = Driver(device, bench)

    driver.run(burst)

    assert driver.wrong == []
    assert len(bench.messages) <= MOST_MESSAGES


@every_model
def test_flood_of_random_accesses_piles_nothing_up(type_name: str, workbench: Workbench) -> None:
    device, bench = workbench.build(type_name)
    driver = Driver(device, bench)
    noise = random.Random(type_name)

    driver.run(noise.randbytes(BURST * RECORD))
    tracemalloc.start()
    try:
        for _ in range(50):
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
    driver = Driver(device, bench)
    driver.run(before)
    saved = cbor2.loads(cbor2.dumps(device.save()))
    other, other_bench = workbench.build(type_name)
    other_bench.clock.advance(bench.clock.now())
    other.load(saved)
    restored = cbor2.loads(cbor2.dumps(other.save()))
    twin = Driver(other, other_bench)
    twin.take_over(driver)
    driver.answers.clear()

    driver.run(after)
    twin.run(after)

    assert restored == saved
    assert twin.answers == driver.answers
    assert other.save() == device.save()


@every_model
@settings(fuzzing, max_examples=5)
@given(burst=bursts)
def test_reset_after_random_accesses_returns_to_the_reset_values(
    type_name: str, workbench: Workbench, burst: bytes
) -> None:
    workbench.close()  # what the example before built
    device, bench = workbench.build(type_name)
    fresh = device.save()
    # Input that was typed and not yet taken would be taken after the reset.
    bench.console.type = lambda data: None  # type: ignore[method-assign]
    Driver(device, bench).run(burst)

    device.reset()

    after = device.save()
    assert after["registers"] == fresh["registers"]
    assert (after["bank"], after["irq"], after["timers"]) == (0, False, fresh["timers"])


@every_model
def test_reset_value_of_every_register_is_the_tables(type_name: str, workbench: Workbench) -> None:
    device, _ = workbench.build(type_name)

    differing = [
        register.name
        for register in registers(type_name)
        if device.values[register.name] != [register.reset] * register.count
    ]

    assert differing == []


@every_model
def test_read_only_registers_ignore_the_guest(type_name: str, workbench: Workbench) -> None:
    device, _ = workbench.build(type_name)
    shared = Counter(register.offset for register in registers(type_name))
    read_only = [
        register
        for register in registers(type_name)
        if register.access == "ro" and shared[register.offset] == 1
    ]
    before = device.save()

    for register in read_only:
        for value in (register.mask, 0):
            device.write(register.offset, register.size, value)

    assert device.save() == before


@every_model
def test_bits_that_are_not_writable_keep_their_value(type_name: str, workbench: Workbench) -> None:
    device, _ = workbench.build(type_name)
    plain = [
        register
        for register in registers(type_name)
        if register.access == "rw" and register.write_hook is None and not register.bank
    ]

    changed = []
    for register in plain:
        fixed = register.mask & ~register.writable & ~register.w1c
        before = device.values[register.name][0] & fixed
        for value in (register.mask, 0):
            device.write(register.offset, register.size, value)
            changed.append((device.values[register.name][0] & fixed) ^ before)

    assert not any(changed)


@every_model
@pytest.mark.parametrize("size", WIDTHS)
def test_straddling_accesses_to_every_register_are_answered(
    type_name: str, size: int, workbench: Workbench
) -> None:
    device, bench = workbench.build(type_name)
    driver = Driver(device, bench)

    starts = {
        register.offset + index * register.stride
        for register in driver.table
        for index in range(register.count)
    }
    for start in starts:
        for offset in range(max(start - size + 1, 0), min(start + 8, driver.extent)):
            driver._read(offset, size, 0)
            device.write(offset, size, 0)

    assert driver.wrong == []


@every_model
def test_every_register_lies_inside_the_device(type_name: str, workbench: Workbench) -> None:
    device, _ = workbench.build(type_name)

    outside = [
        register.name
        for register in registers(type_name)
        if register.offset + (register.count - 1) * register.stride + register.size
        > device.size_for(device.options)
    ]

    assert outside == []


@every_model
def test_fields_lie_inside_their_register_and_apart(type_name: str) -> None:
    crossing = []
    for register in registers(type_name):
        fields = sorted(register.fields, key=lambda field: field.lsb)
        crossing += [(register.name, f.name) for f in fields if f.mask > register.mask]
        crossing += [(register.name, b.name) for a, b in pairwise(fields) if a.mask & b.mask]

    assert crossing == []


@every_model
def test_type_is_documented(type_name: str) -> None:
    model = MODELS[type_name].load()
    module = inspect.getmodule(model)

    undescribed = [
        name for name, option in model.Options.model_fields.items() if not option.description
    ]

    assert model.type == type_name
    assert model.summary
    assert model.__doc__
    assert module is not None
    assert module.__doc__
    assert undescribed == []


@every_model
def test_nodes_of_the_tree_flatten(type_name: str, workbench: Workbench) -> None:
    device, _ = workbench.build(type_name)
    node = device.node()
    assert node is not None
    node.label = device.name
    harts = [Node(f"cpu{h}", {}, [Node("intc", label=f"cpu{h}_intc")]) for h in range(2)]

    blob = flatten(Node("", {}, [*harts, node, *device.extra_nodes()]))

    assert blob[:4] == b"\xd0\x0d\xfe\xed"

"""The base of device models: reset, snapshots, lines, timers and the device tree's node."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor.device import Board, Device, Line, Register
from hypervisor.device.testing import Bench


class Alarm(Device):
    """Raises its interrupt when a timer runs out."""

    type = "test.alarm"
    compatible = ("test,alarm",)
    state = ("rings",)

    DELAY = Register(0x0, doc="arms the timer, ns")
    COUNTS = Register(0x10, count=2)

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.rings = 0
        self.bell = self.timer("bell", self._ring)

    @DELAY.on_write
    def _delay_written(self, value: int) -> None:
        self.bell.arm(self.clock.now() + value)

    def _ring(self) -> None:
        self.rings += 1
        self.irq.set(True)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def alarm(bench: Bench) -> Alarm:
    device: Alarm = bench.build(Alarm, at=0x1000)
    return device


def test_reset_restores_registers_and_lowers_the_interrupt(alarm: Alarm, bench: Bench) -> None:
    alarm.write(0x0, 4, 100)
    bench.clock.advance(100)

    alarm.reset()

    assert (alarm.DELAY, alarm.irq.level) == (0, False)


def test_reset_cancels_timers(alarm: Alarm, bench: Bench) -> None:
    alarm.write(0x0, 4, 100)

    alarm.reset()
    bench.clock.advance(1000)

    assert alarm.rings == 0


def test_node_is_named_by_type_and_address(alarm: Alarm) -> None:
    node = alarm.node()

    assert node is not None
    assert node.name == "alarm@1000"


def test_device_without_compatible_is_not_in_the_tree(bench: Bench) -> None:
    assert bench.build(Device).node() is None


def test_device_without_inputs_refuses_to_give_one(alarm: Alarm) -> None:
    with pytest.raises(NotImplementedError, match=r"test\.alarm has no interrupt inputs"):
        alarm.input(1)


def test_controller_of_plain_inputs_writes_their_number(alarm: Alarm) -> None:
    assert alarm.interrupt_cells(10) == [10]


def test_saved_state_loads_into_a_new_instance(alarm: Alarm, bench: Bench) -> None:
    alarm.write(0x0, 4, 100)
    bench.clock.advance(100)
    alarm.write(0x14, 4, 5)
    other = Bench().build(Alarm, at=0x1000)

    other.load(alarm.save())

    assert other.save() == alarm.save()
    assert (other.rings, other.irq.level, other.values["COUNTS"]) == (1, True, [0, 5])


def test_armed_timer_fires_after_load(alarm: Alarm) -> None:
    alarm.write(0x0, 4, 100)
    bench = Bench()
    other = bench.build(Alarm)

    other.load(alarm.save())
    bench.clock.advance(100)

    assert other.rings == 1


def test_saved_state_is_a_copy(alarm: Alarm) -> None:
    saved = alarm.save()

    alarm.write(0x10, 4, 1)

    assert saved["registers"]["COUNTS"] == [0, 0]


@pytest.mark.parametrize(
    ("part", "content", "named"),
    [
        ("registers", {"DELAY": [1], "COUNTS": [0, 0], "NOVEL": [0]}, "register NOVEL"),
        ("registers", {"DELAY": [1], "COUNTS": [0]}, "register COUNTS"),
        ("registers", {"DELAY": [1]}, "register COUNTS"),
        ("timers", {"bell": None, "whistle": 5}, "timer whistle"),
        ("state", {"rings": 1, "wrongs": 0}, "state wrongs"),
    ],
)
def test_load_refuses_the_state_of_another_version_and_changes_nothing(
    alarm: Alarm, part: str, content: dict[str, Any], named: str
) -> None:
    before = alarm.save()

    with pytest.raises(ValueError, match=f"another version of test.alarm: {named} differs"):
        alarm.load(before | {part: content})

    assert alarm.save() == before


def test_line_tells_changes_only() -> None:
    seen: list[bool] = []
    line = Line("test", seen.append)

    for level in (False, True, True, False):
        line.set(level)

    assert seen == [True, False]


def test_connecting_a_high_line_tells_its_level() -> None:
    seen: list[bool] = []
    line = Line("test")
    line.set(True)

    line.connect(seen.append)

    assert seen == [True]


def test_bench_runs_timers_in_order_of_time(bench: Bench) -> None:
    order: list[tuple[str, int]] = []
    clock = bench.clock
    late = clock.timer("late", lambda: order.append(("late", clock.now())))
    early = clock.timer("early", lambda: order.append(("early", clock.now())))
    late.arm(20)
    early.arm(10)

    clock.advance(30)

    assert order == [("early", 10), ("late", 20)]


def test_bench_timer_armed_again_fires_once(bench: Bench) -> None:
    fired: list[int] = []
    timer = bench.clock.timer("t", lambda: fired.append(bench.clock.now()))
    timer.arm(10)
    timer.arm(20)

    bench.clock.advance(30)

    assert fired == [20]


def test_access_beside_the_table_is_said_once() -> None:
    bench = Bench()
    device = bench.build(Device)

    device.read(0x10, 4)
    device.read(0x10, 4)

    assert bench.messages == ["dev0: 4-byte read of unknown register 0x10"]

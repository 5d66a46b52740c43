"""The PL061: masked data, edges and levels, and the power button."""

from __future__ import annotations

import pytest

from devices.gpio.pl061 import PRESS, Pl061
from hypervisor.device.testing import Bench
from hypervisor.device.tree import Ref

DIR, IS, IBE, IEV, IE, RIS, MIS, IC, AFSEL = range(0x400, 0x424, 4)
EVERY_LINE = 0x3FC
POWER = 1 << 3


def data(lines: int) -> int:
    """The address that admits some lines."""
    return lines << 2


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def gpio(bench: Bench) -> Pl061:
    device: Pl061 = bench.build(Pl061, "gpio", at=0x0903_0000)
    return device


def pulse(gpio: Pl061, line: int) -> list[int]:
    """Raw interrupts after a line rose, and after it fell; cleared after each."""
    seen = []
    for level in (True, False):
        gpio.drive(line, level)
        seen.append(gpio.read(RIS, 4))
        gpio.write(IC, 4, 0xFF)
    return seen


def test_address_admits_lines(gpio: Pl061) -> None:
    gpio.write(DIR, 4, 0xFF)
    gpio.write(data(0xFF), 4, 0b1010_1010)

    gpio.write(data(0b0000_0110), 4, 0b0101_0101)

    assert gpio.read(data(0xFF), 4) == 0b1010_1100
    assert gpio.read(data(0b0000_1000), 4) == 0b0000_1000
    assert gpio.read(data(0), 4) == 0


def test_inputs_read_what_drives_them_and_outputs_what_was_written(gpio: Pl061) -> None:
    gpio.write(DIR, 4, 0x0F)
    gpio.write(EVERY_LINE, 4, 0x33)
    gpio.drive(7, True)
    gpio.drive(3, True)

    assert gpio.read(EVERY_LINE, 4) == 0x83


def test_line_made_an_input_again_reads_what_drives_it(gpio: Pl061) -> None:
    gpio.write(DIR, 4, 0xFF)
    gpio.write(EVERY_LINE, 4, 0x01)

    gpio.write(DIR, 4, 0xFE)

    assert gpio.read(EVERY_LINE, 4) == 0


@pytest.mark.parametrize(
    ("both", "event", "seen"),
    [(0, 1 << 5, [1 << 5, 0]), (0, 0, [0, 1 << 5]), (1 << 5, 0, [1 << 5, 1 << 5])],
    ids=["rising", "falling", "both"],
)
def test_edges_that_are_asked_for_are_latched(
    gpio: Pl061, both: int, event: int, seen: list[int]
) -> None:
    gpio.write(IBE, 4, both)
    gpio.write(IEV, 4, event)

    assert pulse(gpio, 5) == seen


@pytest.mark.parametrize("level", [True, False])
def test_level_interrupts_as_long_as_it_lasts(gpio: Pl061, level: bool) -> None:
    gpio.drive(5, not level)
    gpio.write(IS, 4, 1 << 5)
    gpio.write(IEV, 4, level << 5)
    gpio.write(IE, 4, 1 << 5)
    before = gpio.irq.level

    gpio.drive(5, level)
    gpio.write(IC, 4, 1 << 5)
    during = gpio.irq.level
    gpio.drive(5, not level)

    assert (before, during, gpio.irq.level) == (False, True, False)


def test_masked_edge_interrupts_once_let_through(gpio: Pl061) -> None:
    gpio.write(IEV, 4, 0xFF)
    gpio.drive(5, True)
    masked = gpio.irq.level, gpio.read(MIS, 4)

    gpio.write(IE, 4, 1 << 5)

    assert masked == (False, 0)
    assert (gpio.irq.level, gpio.read(MIS, 4)) == (True, 1 << 5)


def test_clearing_one_edge_keeps_the_others(gpio: Pl061) -> None:
    gpio.write(IEV, 4, 0xFF)
    gpio.write(IE, 4, 0xFF)
    gpio.drive(5, True)
    gpio.drive(6, True)

    gpio.write(IC, 4, 1 << 5)

    assert (gpio.read(RIS, 4), gpio.irq.level) == (1 << 6, True)


def test_pressed_button_is_held_and_let_go(gpio: Pl061, bench: Bench) -> None:
    gpio.press("power")

    bench.clock.advance(PRESS - 1)
    held = gpio.read(EVERY_LINE, 4)
    bench.clock.advance(1)

    assert (held, gpio.read(EVERY_LINE, 4)) == (POWER, 0)


def test_pressed_button_interrupts(gpio: Pl061) -> None:
    gpio.write(IBE, 4, POWER)
    gpio.write(IE, 4, POWER)

    gpio.press()

    assert gpio.irq.level is True


def test_button_that_is_not_there_cannot_be_pressed(gpio: Pl061) -> None:
    with pytest.raises(ValueError, match="gpio has only a button 'power': there is no 'reset'"):
        gpio.press("reset")


def test_gpio_without_buttons_says_so(bench: Bench) -> None:
    gpio = bench.build(Pl061, "gpio", power_button=False)

    with pytest.raises(ValueError, match="gpio has no buttons"):
        gpio.press("power")
    assert [node.name for node in gpio.extra_nodes()] == ["apb-pclk"]


def test_identification_is_a_pl061s(gpio: Pl061) -> None:
    identification = bytes(gpio.read(0xFE0 + 4 * n, 4) for n in range(8))

    assert identification == bytes([0x61, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1])


def test_alternate_function_is_answered_with_a_message(gpio: Pl061, bench: Bench) -> None:
    gpio.write(AFSEL, 4, 1)

    assert "AFSEL" in bench.messages[0]


def test_node_is_a_controller_of_lines_and_interrupts(gpio: Pl061) -> None:
    node = gpio.node()

    assert node.name == "gpio@9030000"
    assert node["#gpio-cells"] == 2
    assert node["gpio-controller"] is True
    assert node["interrupt-controller"] is True


def test_tree_tells_of_the_power_button(gpio: Pl061) -> None:
    _, keys = gpio.extra_nodes()

    key = keys.children[0]
    assert keys["compatible"] == "gpio-keys"
    assert (key["linux,code"], key["gpios"]) == (116, [Ref("gpio"), 3, 0])


def test_reset_lets_go_of_the_button(gpio: Pl061, bench: Bench) -> None:
    gpio.press()

    gpio.reset()
    bench.clock.advance(PRESS)

    assert gpio.read(EVERY_LINE, 4) == 0


def test_restored_button_is_let_go_in_time(gpio: Pl061, bench: Bench) -> None:
    gpio.write(IEV, 4, POWER)
    gpio.write(IE, 4, POWER)
    gpio.press()
    bench.clock.advance(PRESS // 2)
    other_bench = Bench()
    other = other_bench.build(Pl061, "gpio", at=0x0903_0000)
    other_bench.clock.advance(PRESS // 2)

    other.load(gpio.save())
    held = other.irq.level, other.read(EVERY_LINE, 4)
    other_bench.clock.advance(PRESS // 2)

    assert held == (True, POWER)
    assert other.read(EVERY_LINE, 4) == 0

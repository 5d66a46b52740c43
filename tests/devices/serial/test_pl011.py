"""The PL011 as a driver sees it: FIFO levels, the timeout, masks, loopback and identification."""

from __future__ import annotations

import pytest

from devices.serial.pl011 import FIFO_SIZE, Pl011
from hypervisor.device.testing import Bench
from hypervisor.device.tree import Ref

DR, RSR, FR, IBRD, FBRD, LCR_H, CR = 0x00, 0x04, 0x18, 0x24, 0x28, 0x2C, 0x30
IFLS, IMSC, RIS, MIS, ICR, DMACR = 0x34, 0x38, 0x3C, 0x40, 0x44, 0x48
RX, TX, RT, OE = 1 << 4, 1 << 5, 1 << 6, 1 << 10
MODEM = 0xF
ALL = 0x7FF
EMPTY, FULL = 0x10, 0x40
ON, LOOPBACK = 0x301, 0x381
TIMEOUT = 277_666
"""Nanoseconds of 32 bits at 115200 baud, of a divisor of 13 and 1/64."""


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def uart(bench: Bench) -> Pl011:
    """As Linux sets it up: FIFO on, 8n1 at 115200 baud, receiver on."""
    device: Pl011 = bench.build(Pl011, "uart0", at=0x0900_0000)
    device.write(IBRD, 4, 13)
    device.write(FBRD, 4, 1)
    device.write(LCR_H, 4, 0x70)
    device.write(CR, 4, ON)
    return device


def read_all(uart: Pl011, count: int) -> bytes:
    return bytes(uart.read(DR, 4) & 0xFF for _ in range(count))


def test_written_bytes_come_out_in_order(uart: Pl011, bench: Bench) -> None:
    for byte in b"hello":
        uart.write(DR, 4, byte)

    assert bench.console.output == b"hello"


def test_bytes_come_out_before_anything_is_set_up(bench: Bench) -> None:
    uart = bench.build(Pl011)

    uart.write(DR, 1, ord("x"))

    assert bench.console.output == b"x"


def test_transmitter_is_always_empty(uart: Pl011) -> None:
    uart.write(DR, 4, ord("x"))

    assert uart.read(FR, 4) == 0x97


def test_typed_bytes_are_read_in_order(uart: Pl011, bench: Bench) -> None:
    bench.console.type(b"abc")

    assert read_all(uart, 3) == b"abc"
    assert uart.read(FR, 4) & EMPTY


def test_flags_tell_empty_and_full(uart: Pl011, bench: Bench) -> None:
    bench.console.type(bytes(FIFO_SIZE - 1))
    some = uart.read(FR, 4) & (EMPTY | FULL)
    bench.console.type(b"x")

    assert (some, uart.read(FR, 4) & (EMPTY | FULL)) == (0, FULL)


def test_long_input_waits_outside_and_none_is_lost(uart: Pl011, bench: Bench) -> None:
    text = bytes(range(200))
    bench.console.type(text)

    waiting = len(uart.received)

    assert (waiting, read_all(uart, 200)) == (FIFO_SIZE, text)
    assert uart.read(RIS, 4) & OE == 0


@pytest.mark.parametrize("control", [0x300, 0x101], ids=["uart-off", "receiver-off"])
def test_input_waits_outside_until_the_receiver_is_on(
    uart: Pl011, bench: Bench, control: int
) -> None:
    uart.write(CR, 4, control)
    bench.console.type(b"a")
    before = uart.read(FR, 4) & EMPTY

    uart.write(CR, 4, ON)

    assert (before, uart.read(DR, 4)) == (EMPTY, ord("a"))


def test_without_fifo_one_byte_is_held(uart: Pl011, bench: Bench) -> None:
    uart.write(LCR_H, 4, 0x60)
    bench.console.type(b"abc")

    assert uart.read(RIS, 4) & RX
    assert len(uart.received) == 1
    assert read_all(uart, 3) == b"abc"


def test_empty_receiver_repeats_its_last_byte(uart: Pl011, bench: Bench) -> None:
    bench.console.type(b"a")
    uart.read(DR, 4)

    assert uart.read(DR, 4) == ord("a")


# -- interrupts --------------------------------------------------------------------------------


@pytest.mark.parametrize(("select", "level"), list(enumerate([2, 4, 8, 12, 14])))
def test_received_interrupt_starts_and_ends_at_the_trigger_level(
    uart: Pl011, bench: Bench, select: int, level: int
) -> None:
    uart.write(IFLS, 4, select << 3)
    uart.write(IMSC, 4, RX)
    bench.console.type(bytes(level - 1))
    before = uart.irq.level
    bench.console.type(b"x")
    reached = uart.irq.level

    uart.read(DR, 4)

    assert (before, reached, uart.irq.level) == (False, True, False)


def test_lowered_trigger_level_interrupts_for_what_is_there(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RX)
    bench.console.type(bytes(4))

    uart.write(IFLS, 4, 1 << 3)

    assert uart.irq.level is True


def test_few_bytes_interrupt_after_32_bit_times(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RX | RT)
    bench.console.type(b"abc")

    bench.clock.advance(TIMEOUT - 1)
    before = uart.irq.level
    bench.clock.advance(1)

    assert (before, uart.irq.level) == (False, True)
    assert uart.read(MIS, 4) == RT


def test_another_byte_starts_the_timeout_over(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RT)
    bench.console.type(b"a")
    bench.clock.advance(TIMEOUT - 1)

    bench.console.type(b"b")
    bench.clock.advance(TIMEOUT - 1)

    assert uart.irq.level is False


def test_timeout_ends_when_all_is_read(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RT)
    bench.console.type(b"ab")
    bench.clock.advance(TIMEOUT)

    uart.read(DR, 4)
    half = uart.irq.level
    uart.read(DR, 4)

    assert (half, uart.irq.level) == (True, False)


def test_emptied_fifo_does_not_time_out(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RT)
    bench.console.type(b"a")
    uart.read(DR, 4)

    bench.clock.advance(1_000_000_000)

    assert uart.irq.level is False


def test_cleared_timeout_comes_back_for_what_is_left(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RT)
    bench.console.type(b"a")
    bench.clock.advance(TIMEOUT)

    uart.write(ICR, 4, RT)
    cleared = uart.irq.level
    bench.clock.advance(TIMEOUT)

    assert (cleared, uart.irq.level) == (False, True)


def test_transmit_interrupt_comes_with_what_was_sent(uart: Pl011) -> None:
    uart.write(IMSC, 4, TX)
    before = uart.irq.level

    uart.write(DR, 4, ord("x"))
    sent = uart.irq.level
    uart.write(ICR, 4, TX)

    assert (before, sent, uart.irq.level) == (False, True, False)


def test_mask_hides_an_interrupt_and_keeps_it(uart: Pl011) -> None:
    uart.write(DR, 4, ord("x"))
    masked = uart.irq.level, uart.read(RIS, 4), uart.read(MIS, 4)

    uart.write(IMSC, 4, TX)

    assert masked == (False, TX, 0)
    assert (uart.irq.level, uart.read(MIS, 4)) == (True, TX)


def test_clearing_one_interrupt_keeps_the_others(uart: Pl011, bench: Bench) -> None:
    uart.write(DR, 4, ord("x"))
    bench.console.type(bytes(8))

    uart.write(ICR, 4, RX)

    assert uart.read(RIS, 4) == TX


# -- loopback ----------------------------------------------------------------------------------


def test_loopback_returns_bytes_and_sends_none_out(uart: Pl011, bench: Bench) -> None:
    uart.write(CR, 4, LOOPBACK)

    uart.write(DR, 4, 0x5A)

    assert uart.read(DR, 4) == 0x5A
    assert bench.console.output == b""


def test_loopback_holds_outside_input_back_until_it_ends(uart: Pl011, bench: Bench) -> None:
    uart.write(CR, 4, LOOPBACK)
    bench.console.type(b"a")
    during = uart.read(FR, 4) & EMPTY

    uart.write(CR, 4, ON)

    assert (during, uart.read(DR, 4)) == (EMPTY, ord("a"))


def test_overrun_keeps_the_fifo_and_shows_until_cleared(uart: Pl011) -> None:
    uart.write(CR, 4, LOOPBACK)
    for byte in range(FIFO_SIZE + 1):
        uart.write(DR, 4, byte)

    shown = uart.read(RIS, 4) & OE, uart.read(RSR, 4), uart.read(DR, 4)
    uart.write(RSR, 4, 0)

    assert shown == (OE, 0x8, 0x800)
    assert [uart.read(DR, 4) for _ in range(FIFO_SIZE - 1)] == list(range(1, FIFO_SIZE))


@pytest.mark.parametrize(
    ("output", "flag"), [(1 << 11, 0x1), (1 << 10, 0x2), (1 << 12, 0x4), (1 << 13, 0x100)]
)
def test_loopback_shows_modem_outputs_as_inputs(uart: Pl011, output: int, flag: int) -> None:
    uart.write(CR, 4, LOOPBACK | output)

    assert uart.read(FR, 4) & 0x107 == flag


@pytest.mark.parametrize(
    ("output", "interrupt"), [(1 << 11, 1 << 1), (1 << 10, 1 << 3), (1 << 12, 1 << 2), (1 << 13, 1)]
)
def test_changed_modem_input_interrupts(uart: Pl011, output: int, interrupt: int) -> None:
    uart.write(CR, 4, LOOPBACK)
    uart.write(ICR, 4, ALL)

    uart.write(CR, 4, LOOPBACK | output)

    assert uart.read(RIS, 4) & MODEM == interrupt


# -- what there is -----------------------------------------------------------------------------


def test_identification_is_a_pl011s(uart: Pl011) -> None:
    identification = bytes(uart.read(0xFE0 + 4 * n, 4) for n in range(8))

    assert identification == bytes([0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1])


def test_wanting_dma_is_answered_with_a_message(uart: Pl011, bench: Bench) -> None:
    uart.write(DMACR, 4, 0)
    quiet = list(bench.messages)

    uart.write(DMACR, 4, 1)

    assert quiet == []
    assert "DMACR" in bench.messages[0]


def test_node_names_its_clocks(uart: Pl011) -> None:
    node = uart.node()

    assert node.name == "serial@9000000"
    assert node.properties == {
        "clocks": [Ref("apb_pclk"), Ref("apb_pclk")],
        "clock-names": ["uartclk", "apb_pclk"],
    }


def test_clock_of_every_primecell_is_the_same_node(bench: Bench) -> None:
    first, second = bench.build(Pl011, "uart0"), bench.build(Pl011, "uart1")

    assert first.extra_nodes() == second.extra_nodes()
    assert first.extra_nodes()[0].label == "apb_pclk"


def test_backend_none_goes_nowhere(bench: Bench) -> None:
    uart = bench.build(Pl011, backend="none")

    uart.write(DR, 4, ord("x"))

    assert bench.console.output == b""


def test_reset_drops_received_bytes_and_settings(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RX)
    bench.console.type(bytes(8))

    uart.reset()

    assert (uart.received, uart.read(IMSC, 4), uart.irq.level) == (b"", 0, False)
    assert uart.read(FR, 4) == 0x97


def test_restored_uart_carries_on_mid_reception(uart: Pl011, bench: Bench) -> None:
    uart.write(IMSC, 4, RX | RT)
    bench.console.type(b"abc")
    other_bench = Bench()
    other = other_bench.build(Pl011, "uart0", at=0x0900_0000)

    other.load(uart.save())
    other_bench.clock.advance(TIMEOUT)

    assert other.irq.level is True
    assert read_all(other, 3) == b"abc"

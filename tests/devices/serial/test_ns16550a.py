"""The UART as a driver sees it: FIFOs, interrupt priorities, loopback and probing."""

from __future__ import annotations

import pytest

from devices.serial.ns16550a import FIFO_SIZE, Ns16550a
from hypervisor.device.testing import Bench

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7
NO_INTERRUPT, LINE_STATUS, RECEIVED, TIMEOUT, TRANSMIT, MODEM = 0x01, 0x06, 0x04, 0x0C, 0x02, 0x00
ID_MASK = 0x0F
CHARACTER_115200 = 86_805
"""Nanoseconds of ten bits at 115200 baud."""


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def uart(bench: Bench) -> Ns16550a:
    """With FIFOs on, trigger level 8, 8n1 at 115200 baud."""
    device: Ns16550a = bench.build(Ns16550a, "uart0", at=0x1000_0000)
    device.write(LCR, 1, 0x83)
    device.write(DLL, 1, 2)
    device.write(LCR, 1, 0x03)
    device.write(FCR, 1, 0x81)
    return device


def test_written_bytes_come_out_in_order(uart: Ns16550a, bench: Bench) -> None:
    for byte in b"hello":
        uart.write(THR, 1, byte)

    assert bench.console.output == b"hello"


def test_transmitter_is_always_empty(uart: Ns16550a) -> None:
    uart.write(THR, 1, ord("x"))

    assert uart.read(LSR, 1) == 0x60


def test_typed_bytes_are_read_in_order(uart: Ns16550a, bench: Bench) -> None:
    bench.console.type(b"abc")

    assert bytes(uart.read(RBR, 1) for _ in range(3)) == b"abc"
    assert uart.read(LSR, 1) & 1 == 0


def test_data_ready_shows_while_bytes_wait(uart: Ns16550a, bench: Bench) -> None:
    bench.console.type(b"a")

    assert uart.read(LSR, 1) & 1 == 1


def test_long_input_waits_outside_and_none_is_lost(uart: Ns16550a, bench: Bench) -> None:
    text = bytes(range(200))
    bench.console.type(text)

    waiting = len(uart.received)
    seen = bytes(uart.read(RBR, 1) for _ in range(200))

    assert (waiting, seen) == (FIFO_SIZE, text)
    assert uart.read(LSR, 1) == 0x60


def test_without_fifo_one_byte_is_held(bench: Bench) -> None:
    uart = bench.build(Ns16550a)
    bench.console.type(b"abc")

    assert len(uart.received) == 1
    assert bytes(uart.read(RBR, 1) for _ in range(3)) == b"abc"


def test_empty_receiver_repeats_its_last_byte(uart: Ns16550a, bench: Bench) -> None:
    bench.console.type(b"a")
    uart.read(RBR, 1)

    assert uart.read(RBR, 1) == ord("a")


def test_dlab_shows_the_divisor_in_place_of_data(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 0x05)
    uart.write(LCR, 1, 0x83)
    uart.write(DLL, 1, 0x34)
    uart.write(DLM, 1, 0x12)
    divisor = uart.read(DLL, 1), uart.read(DLM, 1)
    uart.write(LCR, 1, 0x03)

    assert divisor == (0x34, 0x12)
    assert uart.read(IER, 1) == 0x05
    assert bench.console.output == b""


def test_no_interrupt_while_none_is_enabled(uart: Ns16550a, bench: Bench) -> None:
    bench.console.type(bytes(16))

    assert uart.irq.level is False
    assert uart.read(IIR, 1) & ID_MASK == NO_INTERRUPT


@pytest.mark.parametrize(
    ("fcr", "level"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)], ids=lambda v: f"{v:#x}"
)
def test_received_interrupt_starts_at_the_trigger_level(
    uart: Ns16550a, bench: Bench, fcr: int, level: int
) -> None:
    uart.write(FCR, 1, fcr)
    uart.write(IER, 1, 1)
    bench.console.type(bytes(level - 1))
    before = uart.irq.level

    bench.console.type(b"x")

    assert (before, uart.irq.level) == (False, True)
    assert uart.read(IIR, 1) & ID_MASK == RECEIVED


def test_received_interrupt_ends_below_the_trigger_level(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 1)
    bench.console.type(bytes(8))

    uart.read(RBR, 1)

    assert uart.irq.level is False


def test_few_bytes_interrupt_after_four_character_times(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 1)
    bench.console.type(b"abc")

    bench.clock.advance(4 * CHARACTER_115200 - 1)
    before = uart.irq.level
    bench.clock.advance(1)

    assert (before, uart.irq.level) == (False, True)
    assert uart.read(IIR, 1) & ID_MASK == TIMEOUT


def test_reading_a_byte_starts_the_timeout_over(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 1)
    bench.console.type(b"abc")
    bench.clock.advance(4 * CHARACTER_115200)

    uart.read(RBR, 1)
    after_read = uart.irq.level
    bench.clock.advance(4 * CHARACTER_115200)

    assert (after_read, uart.irq.level) == (False, True)


def test_emptied_fifo_does_not_time_out(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 1)
    bench.console.type(b"a")
    uart.read(RBR, 1)

    bench.clock.advance(1_000_000_000)

    assert uart.irq.level is False


def test_enabling_the_transmit_interrupt_raises_it(uart: Ns16550a) -> None:
    uart.write(IER, 1, 2)

    assert uart.irq.level is True


def test_reading_iir_ends_the_transmit_interrupt(uart: Ns16550a) -> None:
    uart.write(IER, 1, 2)

    first, second = uart.read(IIR, 1), uart.read(IIR, 1)

    assert (first & ID_MASK, second & ID_MASK) == (TRANSMIT, NO_INTERRUPT)
    assert uart.irq.level is False


def test_transmitting_raises_the_interrupt_again(uart: Ns16550a) -> None:
    uart.write(IER, 1, 2)
    uart.read(IIR, 1)

    uart.write(THR, 1, ord("x"))

    assert uart.irq.level is True


def test_disabling_and_enabling_raises_the_transmit_interrupt_again(uart: Ns16550a) -> None:
    uart.write(IER, 1, 2)
    uart.read(IIR, 1)

    uart.write(IER, 1, 0)
    uart.write(IER, 1, 2)

    assert uart.read(IIR, 1) & ID_MASK == TRANSMIT


def test_writing_the_same_enable_does_not_raise_it_again(uart: Ns16550a) -> None:
    uart.write(IER, 1, 2)
    uart.read(IIR, 1)

    uart.write(IER, 1, 2)

    assert uart.irq.level is False


def test_iir_names_the_most_urgent_interrupt_first(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 0x0F)
    uart.write(MCR, 1, 0x10)
    for _ in range(FIFO_SIZE + 1):
        uart.write(THR, 1, 0)

    order = [uart.read(IIR, 1) & ID_MASK]
    uart.read(LSR, 1)
    order.append(uart.read(IIR, 1) & ID_MASK)
    uart.write(FCR, 1, 0x83)
    order.append(uart.read(IIR, 1) & ID_MASK)
    order.append(uart.read(IIR, 1) & ID_MASK)
    uart.read(MSR, 1)
    order.append(uart.read(IIR, 1) & ID_MASK)

    assert order == [LINE_STATUS, RECEIVED, TRANSMIT, MODEM, NO_INTERRUPT]


def test_iir_tells_whether_fifos_are_on(uart: Ns16550a) -> None:
    on = uart.read(IIR, 1) >> 6
    uart.write(FCR, 1, 0)

    assert (on, uart.read(IIR, 1) >> 6) == (3, 0)


@pytest.mark.parametrize("fcr", [0x83, 0x00], ids=["rx-reset", "fifo-off"])
def test_fifo_control_drops_received_bytes(uart: Ns16550a, bench: Bench, fcr: int) -> None:
    bench.console.type(b"abc")

    uart.write(FCR, 1, fcr)

    assert uart.read(LSR, 1) & 1 == 0


def test_resetting_the_fifo_takes_input_that_waits_outside(uart: Ns16550a, bench: Bench) -> None:
    bench.console.type(bytes(FIFO_SIZE) + b"next")

    uart.write(FCR, 1, 0x83)

    assert uart.read(RBR, 1) == ord("n")


def test_loopback_returns_bytes_and_sends_none_out(uart: Ns16550a, bench: Bench) -> None:
    uart.write(MCR, 1, 0x10)
    uart.write(THR, 1, 0x5A)

    assert uart.read(RBR, 1) == 0x5A
    assert bench.console.output == b""


def test_loopback_holds_outside_input_back_until_it_ends(uart: Ns16550a, bench: Bench) -> None:
    uart.write(MCR, 1, 0x10)
    bench.console.type(b"a")
    during = uart.read(LSR, 1) & 1

    uart.write(MCR, 1, 0)

    assert (during, uart.read(LSR, 1) & 1) == (0, 1)


def test_overrun_keeps_the_fifo_and_shows_until_read(uart: Ns16550a) -> None:
    uart.write(MCR, 1, 0x10)
    for byte in range(FIFO_SIZE + 1):
        uart.write(THR, 1, byte)

    status = uart.read(LSR, 1), uart.read(LSR, 1)

    assert status == (0x63, 0x61)
    assert [uart.read(RBR, 1) for _ in range(FIFO_SIZE)] == list(range(FIFO_SIZE))


def test_overrun_without_fifo_keeps_the_newest_byte(bench: Bench) -> None:
    uart = bench.build(Ns16550a)
    uart.write(MCR, 1, 0x10)
    uart.write(THR, 1, 1)
    uart.write(THR, 1, 2)

    assert uart.read(LSR, 1) & 2
    assert uart.read(RBR, 1) == 2


@pytest.mark.parametrize(
    ("mcr", "lines"), [(0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80), (0x1A, 0x90)]
)
def test_loopback_shows_modem_outputs_as_inputs(uart: Ns16550a, mcr: int, lines: int) -> None:
    uart.write(MCR, 1, mcr)

    assert uart.read(MSR, 1) & 0xF0 == lines


def test_modem_deltas_show_once(uart: Ns16550a) -> None:
    uart.write(MCR, 1, 0x10)

    assert (uart.read(MSR, 1), uart.read(MSR, 1)) == (0x0B, 0x00)


def test_ring_delta_shows_at_its_trailing_edge_only(uart: Ns16550a) -> None:
    uart.write(MCR, 1, 0x10)
    uart.read(MSR, 1)

    uart.write(MCR, 1, 0x14)
    rising = uart.read(MSR, 1) & 0x0F
    uart.write(MCR, 1, 0x10)

    assert (rising, uart.read(MSR, 1) & 0x0F) == (0x00, 0x04)


def test_probing_finds_a_16550a_without_further_features(uart: Ns16550a) -> None:
    """What Linux's 8250 driver tries: IER's upper bits, scratch, loopback, FIFO bits."""
    uart.write(IER, 1, 0xFF)
    upper = uart.read(IER, 1)
    uart.write(IER, 1, 0)
    uart.write(SCR, 1, 0xA5)
    uart.write(MCR, 1, 0x1A)
    lines = uart.read(MSR, 1) & 0xF0
    uart.write(MCR, 1, 0)
    uart.write(FCR, 1, 0x21)

    assert (upper, uart.read(SCR, 1), lines) == (0x0F, 0xA5, 0x90)
    assert uart.read(IIR, 1) & 0xE0 == 0xC0


def test_spaced_registers_answer_at_their_offsets_and_widths(bench: Bench) -> None:
    uart = bench.build(Ns16550a, reg_shift=2)

    uart.write(SCR << 2, 4, 0x42)

    assert uart.read(SCR << 2, 1) == 0x42
    assert uart.read(SCR << 2, 4) == 0x42
    assert bench.messages == []


def test_node_tells_clock_and_spacing(bench: Bench) -> None:
    uart = bench.build(Ns16550a, at=0x1000_0000, reg_shift=2)

    node = uart.node()

    assert node.name == "serial@10000000"
    assert node.properties == {"clock-frequency": 3_686_400, "reg-shift": 2}


def test_backend_none_goes_nowhere(bench: Bench) -> None:
    uart = bench.build(Ns16550a, backend="none")

    uart.write(THR, 1, ord("x"))

    assert bench.console.output == b""


def test_reset_drops_received_bytes_and_settings(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 1)
    bench.console.type(bytes(8))

    uart.reset()

    assert (uart.received, uart.IER, uart.irq.level) == (b"", 0, False)


def test_restored_uart_carries_on_mid_reception(uart: Ns16550a, bench: Bench) -> None:
    uart.write(IER, 1, 1)
    bench.console.type(b"abc")
    other_bench = Bench()
    other = other_bench.build(Ns16550a, "uart0", at=0x1000_0000)

    other.load(uart.save())
    other_bench.clock.advance(4 * CHARACTER_115200)

    assert other.irq.level is True
    assert bytes(other.read(RBR, 1) for _ in range(3)) == b"abc"

/* The serial console: a PL011 without FIFOs; waits in WFI where a GICv2 can wake it. */
#include "hardware.h"

enum { DATA = 0x00, FLAGS = 0x18, LINE_CONTROL = 0x2c, CONTROL = 0x30, INTERRUPT_MASK = 0x38 };
enum { RECEIVE_EMPTY = 0x10, TRANSMIT_FULL = 0x20 };

bool gic_wakes;

void console_start(void)
{
    write32(UART + LINE_CONTROL, 0x60);
    write32(UART + CONTROL, 0x301);
    gic_wakes = is_readable(GICD_CTLR);
    if (gic_wakes) {
        write32(GICD_CTLR, 1);
        write32(GICC_CTLR, 1);
        write32(GICC_PMR, 0xff);
        write8(GICD_ITARGETSR + UART_INTID, 1);
        write32(UART + INTERRUPT_MASK, RECEIVE_EMPTY);
        enable_interrupt(UART_INTID);
    }
}

char console_read(void)
{
    while (read32(UART + FLAGS) & RECEIVE_EMPTY)
        if (gic_wakes)
            wait_for_interrupt();
    return (char)read32(UART + DATA);
}

void print_character(char character)
{
    if (character == '\n')
        print_character('\r');
    while (read32(UART + FLAGS) & TRANSMIT_FULL) {
    }
    write32(UART + DATA, (u8)character);
}

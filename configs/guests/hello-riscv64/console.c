/* The serial console: an NS16550A without FIFOs; waits in WFI where a PLIC can wake it. */
#include "hardware.h"

enum { DATA = 0, INTERRUPT_ENABLE = 1, LINE_CONTROL = 3, MODEM_CONTROL = 4, LINE_STATUS = 5 };
enum { DATA_READY = 0x01, TRANSMITTER_EMPTY = 0x20 };

static bool plic_wakes;

void console_start(void)
{
    write8(UART + LINE_CONTROL, 3);
    /* OUT2 gates the interrupt on boards that follow the PC. */
    write8(UART + MODEM_CONTROL, 0x0b);
    plic_wakes = is_readable(PLIC_PRIORITY + 4 * UART_IRQ);
    if (plic_wakes) {
        write32(PLIC_PRIORITY + 4 * UART_IRQ, 1);
        write32(PLIC_ENABLE, 1u << UART_IRQ);
        write32(PLIC_THRESHOLD, 0);
        write8(UART + INTERRUPT_ENABLE, 1);
        /* Traps stay off in mstatus: a pending interrupt only ends WFI. */
        enable_interrupts(MIE_EXTERNAL);
    }
}

char console_read(void)
{
    while (!(read8(UART + LINE_STATUS) & DATA_READY))
        if (plic_wakes)
            wait_for_interrupt();
    char character = (char)read8(UART + DATA);
    if (plic_wakes) {
        u32 source = read32(PLIC_CLAIM);
        if (source)
            write32(PLIC_CLAIM, source);
    }
    return character;
}

void print_character(char character)
{
    if (character == '\n')
        print_character('\r');
    while (!(read8(UART + LINE_STATUS) & TRANSMITTER_EMPTY)) {
    }
    write8(UART + DATA, (u8)character);
}

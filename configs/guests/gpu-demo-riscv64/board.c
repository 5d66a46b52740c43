/* An NS16550A that is written to only, a PLIC, and a SiFive test finisher. */
#include "demo.h"

#define FINISHER 0x00100000ul
#define PLIC_PRIORITY 0x0c000000ul
#define PLIC_ENABLE 0x0c002000ul
#define PLIC_THRESHOLD 0x0c200000ul
#define PLIC_CLAIM 0x0c200004ul
#define UART 0x10000000ul

enum { GPU_SOURCE = 11, MACHINE_EXTERNAL = 11 };
enum { POWER_OFF = 0x5555, FAILED = 0x13333 };
enum { DATA = 0, LINE_STATUS = 5, TRANSMITTER_EMPTY = 0x20 };

void board_start(void)
{
    write32(PLIC_PRIORITY + 4 * GPU_SOURCE, 1);
    write32(PLIC_ENABLE, 1u << GPU_SOURCE);
    write32(PLIC_THRESHOLD, 0);
    /* Traps stay off in mstatus: a pending interrupt only ends WFI. */
    __asm__ volatile("csrs mie, %0" ::"r"(1ul << MACHINE_EXTERNAL));
}

uint32_t interrupt_wait(void)
{
    __asm__ volatile("wfi" ::: "memory");
    return read32(PLIC_CLAIM);
}

void interrupt_end(uint32_t source)
{
    if (source)
        write32(PLIC_CLAIM, source);
}

void print_character(char character)
{
    if (character == '\n')
        print_character('\r');
    while (!(*(volatile uint8_t *)(UART + LINE_STATUS) & TRANSMITTER_EMPTY)) {
    }
    write8(UART + DATA, (uint8_t)character);
}

void leave(bool passed)
{
    write32(FINISHER, passed ? POWER_OFF : FAILED);
    for (;;)
        __asm__ volatile("wfi");
}

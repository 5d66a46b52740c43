/* A PL011 that is written to only, a GICv2, and PSCI. */
#include "demo.h"

#define GICD_CTLR 0x08000000ul
#define GICD_ISENABLER 0x08000100ul
#define GICD_ITARGETSR 0x08000800ul
#define GICC_CTLR 0x08010000ul
#define GICC_PMR 0x08010004ul
#define GICC_IAR 0x0801000cul
#define GICC_EOIR 0x08010010ul
#define UART 0x09000000ul

enum { GPU_INTID = 80, FIRST_SPECIAL = 1020 };
enum { SYSTEM_OFF = 0x84000008 };
enum { DATA = 0x00, FLAGS = 0x18, CONTROL = 0x30, TRANSMIT_FULL = 0x20 };

void board_start(void)
{
    write32(UART + CONTROL, 0x101);
    write32(GICD_CTLR, 1);
    write32(GICC_CTLR, 1);
    write32(GICC_PMR, 0xff);
    write8(GICD_ITARGETSR + GPU_INTID, 1);
    /* PSTATE masks it: a pending interrupt only ends WFI. */
    write32(GICD_ISENABLER + GPU_INTID / 32 * 4, 1u << GPU_INTID % 32);
}

uint32_t interrupt_wait(void)
{
    __asm__ volatile("wfi" ::: "memory");
    return read32(GICC_IAR);
}

void interrupt_end(uint32_t source)
{
    if (source < FIRST_SPECIAL)
        write32(GICC_EOIR, source);
}

void print_character(char character)
{
    if (character == '\n')
        print_character('\r');
    while (read32(UART + FLAGS) & TRANSMIT_FULL) {
    }
    write32(UART + DATA, (uint8_t)character);
}

/* PSCI knows no failure: then the processor waits for ever, which ends the run as one. */
void leave(bool passed)
{
    register uint64_t function __asm__("x0") = SYSTEM_OFF;
    if (passed)
        __asm__ volatile("hvc #0" : "+r"(function) : : "memory");
    write32(GICC_CTLR, 0);
    for (;;)
        __asm__ volatile("wfi");
}

/* The machine: what is where, and how to reach it. */
#pragma once

#include "guest.h"

#define FINISHER 0x00100000ul
#define CLINT_MTIMECMP 0x02004000ul
#define CLINT_MTIME 0x0200bff8ul
#define PLIC_PRIORITY 0x0c000000ul
#define PLIC_ENABLE 0x0c002000ul
#define PLIC_THRESHOLD 0x0c200000ul
#define PLIC_CLAIM 0x0c200004ul
#define UART 0x10000000ul
#define UART_IRQ 10
#define NOWHERE 0ul

#define MIE_TIMER (1ul << 7)
#define MIE_EXTERNAL (1ul << 11)

static inline void enable_interrupts(u64 which)
{
    __asm__ volatile("csrs mie, %0" : : "r"(which) : "memory");
}

static inline void disable_interrupts(u64 which)
{
    __asm__ volatile("csrc mie, %0" : : "r"(which) : "memory");
}

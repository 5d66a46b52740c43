/* The machine: what is where, and how to reach it. */
#pragma once

#include "guest.h"

#define GICD_CTLR 0x08000000ul
#define GICD_ISENABLER 0x08000100ul
#define GICD_ICENABLER 0x08000180ul
#define GICD_ITARGETSR 0x08000800ul
#define GICC_CTLR 0x08010000ul
#define GICC_PMR 0x08010004ul
#define UART 0x09000000ul
#define UART_INTID 33
#define VIRTUAL_TIMER_INTID 27
#define NOWHERE 0x0b000000ul

#define READ_SYSTEM(name) ({ \
    u64 value; \
    __asm__ volatile("mrs %0, " #name : "=r"(value)); \
    value; \
})
#define WRITE_SYSTEM(name, value) __asm__ volatile("msr " #name ", %0" : : "r"((u64)(value)))

/* They end WFI only: PSTATE masks them. */
static inline void enable_interrupt(u32 number)
{
    write32(GICD_ISENABLER + number / 32 * 4, 1u << number % 32);
}

static inline void disable_interrupt(u32 number)
{
    write32(GICD_ICENABLER + number / 32 * 4, 1u << number % 32);
}

/* console.c */
extern bool gic_wakes;

/* Time, and the end: the generic timer and PSCI. */
#include "hardware.h"

enum { SYSTEM_OFF = 0x84000008, SYSTEM_RESET = 0x84000009 };

const char mode[] = "AArch64 EL1";
const char cpu_name[] = "core";

u64 read_time(void)
{
    return READ_SYSTEM(cntvct_el0);
}

u64 ticks_per_second(void)
{
    return READ_SYSTEM(cntfrq_el0);
}

void wait_until(u64 time)
{
    if (gic_wakes) {
        disable_interrupt(UART_INTID);
        enable_interrupt(VIRTUAL_TIMER_INTID);
    }
    WRITE_SYSTEM(cntv_cval_el0, time);
    WRITE_SYSTEM(cntv_ctl_el0, 1);
    while (read_time() < time)
        if (gic_wakes)
            wait_for_interrupt();
    WRITE_SYSTEM(cntv_ctl_el0, 0);
    if (gic_wakes) {
        disable_interrupt(VIRTUAL_TIMER_INTID);
        enable_interrupt(UART_INTID);
    }
}

static void call_psci(u64 number)
{
    register u64 function __asm__("x0") = number;
    __asm__ volatile("hvc #0" : "+r"(function) : : "memory");
    for (;;)
        wait_for_interrupt();
}

void switch_off(void)
{
    call_psci(SYSTEM_OFF);
}

void reset(void)
{
    call_psci(SYSTEM_RESET);
}

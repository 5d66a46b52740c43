/* Time, and the end: the CLINT and the SiFive test finisher. */
#include "hardware.h"

enum { POWER_OFF = 0x5555, RESET = 0x7777 };

const char mode[] = "RISC-V machine mode";
const char cpu_name[] = "hart";

u64 read_time(void)
{
    u64 value;
    __asm__ volatile("csrr %0, time" : "=r"(value));
    return value;
}

u64 ticks_per_second(void)
{
    return 10000000;
}

void wait_until(u64 time)
{
    write64(CLINT_MTIMECMP, time);
    disable_interrupts(MIE_EXTERNAL);
    enable_interrupts(MIE_TIMER);
    while (read_time() < time)
        wait_for_interrupt();
    disable_interrupts(MIE_TIMER);
    enable_interrupts(MIE_EXTERNAL);
}

static void finish(u32 how)
{
    write32(FINISHER, how);
    for (;;)
        wait_for_interrupt();
}

void switch_off(void)
{
    finish(POWER_OFF);
}

void reset(void)
{
    finish(RESET);
}

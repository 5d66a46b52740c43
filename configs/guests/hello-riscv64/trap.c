/* Machine-mode traps: named on the console, and gone on from after the instruction. */
#include "hardware.h"

static const char *const causes[] = {
    "instruction address misaligned", "instruction access fault", "illegal instruction",
    "breakpoint", "load address misaligned", "load access fault",
    "store address misaligned", "store access fault", "environment call from U-mode",
    "environment call from S-mode", "reserved", "environment call from M-mode",
};

u64 handle_trap(u64 cause, u64 epc, u64 value)
{
    /* Both low bits set in the first half-word: four bytes long, else two. */
    u64 next = epc + ((*(unsigned short *)epc & 3) == 3 ? 4 : 2);
    if (is_expected_trap())
        return next;
    const char *name = cause >> 63 ? "interrupt" : "unknown";
    if (cause < sizeof causes / sizeof *causes)
        name = causes[cause];
    print("trap ");
    print_number(cause & ~(1ul << 63), 1);
    print_trap(name, cause == 5 || cause == 7 ? &value : 0, epc);
    return next;
}

void raise_exceptions(void)
{
    __asm__ volatile(".word 0xffffffff");
    __asm__ volatile("ebreak");
    __asm__ volatile("ecall");
}

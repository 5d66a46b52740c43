/* Machine-mode traps: named on the console, and gone on from after the instruction. */
#include "hardware.h"

static const char *const causes[] = {
    "instruction address misaligned", "instruction access fault", "illegal instruction",
    "breakpoint", "load address misaligned", "load access fault",
    "store address misaligned", "store access fault", "environment call from U-mode",
    "environment call from S-mode", "reserved", "environment call from M-mode",
};

static volatile bool is_probing, probe_failed;

u64 handle_trap(u64 cause, u64 epc, u64 value)
{
    /* Both low bits set in the first half-word: four bytes long, else two. */
    u64 next = epc + ((*(unsigned short *)epc & 3) == 3 ? 4 : 2);
    if (is_probing) {
        probe_failed = 1;
        return next;
    }
    print("trap ");
    print_number(cause & ~(1ul << 63), 1);
    print(": ");
    if (cause < sizeof causes / sizeof *causes)
        print(causes[cause]);
    else
        print(cause >> 63 ? "interrupt" : "unknown");
    if (cause == 5 || cause == 7) {
        print(" on ");
        print_hex(value);
    }
    print(" at ");
    print_hex(epc);
    print("\n");
    return next;
}

bool is_readable(u64 address)
{
    probe_failed = 0;
    is_probing = 1;
    (void)read32(address);
    is_probing = 0;
    return !probe_failed;
}

void provoke_faults(void)
{
    __asm__ volatile(".word 0xffffffff");
    __asm__ volatile("ebreak");
    __asm__ volatile("ecall");
    (void)read32(8);
    write32(16, 0);
    print("still here\n");
}

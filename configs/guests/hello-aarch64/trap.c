/* Synchronous exceptions at EL1: named on the console, and gone on from after the instruction. */
#include "hardware.h"

enum { UNDEFINED = 0x00, SUPERVISOR_CALL = 0x15, DATA_ABORT = 0x25, BREAKPOINT = 0x3c };
enum { WRITE_NOT_READ = 1 << 6, FAR_NOT_VALID = 1 << 10 };

static const char *name(u32 class, u64 syndrome)
{
    switch (class) {
    case UNDEFINED:
        return "undefined instruction";
    case SUPERVISOR_CALL:
        return "supervisor call";
    case BREAKPOINT:
        return "breakpoint instruction";
    case DATA_ABORT:
        return syndrome & WRITE_NOT_READ ? "data abort of a store" : "data abort of a load";
    default:
        return "unknown";
    }
}

u64 handle_trap(u64 syndrome, u64 link, u64 address)
{
    u32 class = syndrome >> 26 & 63;
    u64 next = class == SUPERVISOR_CALL ? link : link + 4;
    bool has_address = class == DATA_ABORT && !(syndrome & FAR_NOT_VALID);
    if (is_expected_trap())
        return next;
    print("trap ");
    print_hex(class);
    print_trap(name(class, syndrome), has_address ? &address : 0, link);
    return next;
}

void raise_exceptions(void)
{
    __asm__ volatile("udf #0");
    __asm__ volatile("brk #0");
    __asm__ volatile("svc #0");
}

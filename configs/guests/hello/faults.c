/* Traps named on the console, and provoked; and asking whether something is there. */
#include "hardware.h"

static volatile bool is_probing, probe_failed;

bool is_expected_trap(void)
{
    probe_failed = 1;
    return is_probing;
}

void print_trap(const char *name, const u64 *address, u64 at)
{
    print(": ");
    print(name);
    if (address) {
        print(" on ");
        print_hex(*address);
    }
    print(" at ");
    print_hex(at);
    print("\n");
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
    raise_exceptions();
    (void)read32(NOWHERE + 8);
    write32(NOWHERE + 16, 0);
    print("still here\n");
}

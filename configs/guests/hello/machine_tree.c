/* What the device tree says of the machine (Devicetree Specification v0.4, chapter 5). */
#include "guest.h"

enum { BEGIN_NODE = 1, END_NODE = 2, PROPERTY = 3, NOP = 4 };

static u32 cell(u64 address)
{
    return __builtin_bswap32(read32(address));
}

static u64 cell_pair(u64 address)
{
    return (u64)cell(address) << 32 | cell(address + 4);
}

static bool starts_with(const char *text, const char *start)
{
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

static bool is_equal(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

bool read_machine_tree(u64 tree, struct machine *machine)
{
    if (!tree || tree % 8 || !is_readable(tree) || cell(tree) != 0xd00dfeed)
        return 0;
    u64 at = tree + cell(tree + 8);
    u64 end = at + cell(tree + 36);
    u64 strings = tree + cell(tree + 12);
    const char *node = "";
    u32 depth = 0;
    while (at + 4 <= end) {
        u32 token = cell(at);
        at += 4;
        if (token == BEGIN_NODE) {
            node = (const char *)at;
            while (read8(at))
                at++;
            at = (at + 4) & ~3ul;
            depth++;
            machine->cpus += depth == 3 && starts_with(node, "cpu@");
        } else if (token == END_NODE) {
            depth--;
        } else if (token == PROPERTY) {
            u32 size = cell(at);
            const char *name = (const char *)(strings + cell(at + 4));
            u64 value = at + 8;
            at = (value + size + 3) & ~3ul;
            if (depth == 1 && is_equal(name, "model"))
                machine->model = (const char *)value;
            if (depth == 2 && starts_with(node, "memory@") && is_equal(name, "reg") && size >= 16) {
                machine->ram_base = cell_pair(value);
                machine->ram_size = cell_pair(value + 8);
            }
        } else if (token != NOP) {
            break;
        }
    }
    return 1;
}

/* A bare-metal guest: greets, then answers commands on the serial console. */
#include "guest.h"

enum { LINE_SIZE = 80, SIEVE_LIMIT = 1000000 };

extern char program_end[];

static struct machine machine;
static u8 composite[SIEVE_LIMIT / 16 + 1]; /* a bit for each odd number */

static void help(const char *argument);

static void show_time(const char *argument)
{
    u64 ticks = read_time(), frequency = ticks_per_second();
    print_number(ticks / frequency, 1);
    print(".");
    print_number(ticks % frequency * 1000000 / frequency, 6);
    print(" seconds since power-on\n");
}

static void show_memory(const char *argument)
{
    if (machine.ram_size) {
        print_number(machine.ram_size >> 20, 1);
        print(" MiB of RAM at ");
        print_hex(machine.ram_base);
        print("\n");
    }
    print("this program ends at ");
    print_hex((u64)program_end);
    print("\n");
    /* Every word of a stretch of free memory holds its own address, then the opposite. */
    u64 start = ((u64)program_end + 7) & ~7ul, end = start + (256 << 10), wrong = 0;
    for (u64 at = start; at < end; at += 8)
        write64(at, at);
    for (u64 at = start; at < end; at += 8) {
        wrong += read64(at) != at;
        write64(at, ~at);
    }
    for (u64 at = start; at < end; at += 8)
        wrong += read64(at) != ~at;
    print("256 KiB tested: ");
    print_number(wrong, 1);
    print(" wrong words\n");
}

static bool read_number(const char *text, u64 limit, u64 *value)
{
    *value = 0;
    if (!*text)
        return 0;
    for (; *text >= '0' && *text <= '9' && *value <= limit; text++)
        *value = *value * 10 + (u64)(*text - '0');
    return !*text && *value <= limit;
}

static void primes(const char *argument)
{
    u64 limit;
    if (!read_number(argument, SIEVE_LIMIT, &limit)) {
        print("usage: primes N, with N up to 1000000\n");
        return;
    }
    for (u64 index = 0; index < sizeof composite; index++)
        composite[index] = 0;
    u64 count = limit >= 2, largest = 2;
    for (u64 number = 3; number <= limit; number += 2) {
        if (composite[number / 16] >> (number / 2 % 8) & 1)
            continue;
        count++;
        largest = number;
        for (u64 multiple = number * number; multiple <= limit; multiple += 2 * number)
            composite[multiple / 16] |= (u8)(1 << (multiple / 2 % 8));
    }
    print_number(count, 1);
    print(" primes up to ");
    print_number(limit, 1);
    if (count) {
        print(", the largest is ");
        print_number(largest, 1);
    }
    print("\n");
}

static void sleep(const char *argument)
{
    u64 milliseconds;
    if (!read_number(argument, 60000, &milliseconds)) {
        print("usage: sleep MS, with MS up to 60000\n");
        return;
    }
    wait_until(read_time() + milliseconds * ticks_per_second() / 1000);
    print("slept ");
    print_number(milliseconds, 1);
    print(" ms\n");
}

static void fault(const char *argument)
{
    provoke_faults();
}

static void reboot(const char *argument)
{
    print("resetting\n");
    reset();
}

static void power_off(const char *argument)
{
    print("goodbye\n");
    switch_off();
}

static const struct {
    const char *name, *help;
    void (*run)(const char *argument);
} commands[] = {
    {"help", "this list", help},
    {"time", "the time since power-on", show_time},
    {"mem", "how much memory there is, and a test of some", show_memory},
    {"primes", "N: the prime numbers up to N", primes},
    {"sleep", "MS: wait for the timer", sleep},
    {"fault", "provoke traps and survive them", fault},
    {"reboot", "reset the machine", reboot},
    {"poweroff", "switch the machine off", power_off},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void help(const char *argument)
{
    for (u32 index = 0; index < COMMANDS; index++) {
        const char *name = commands[index].name;
        print("  ");
        print(name);
        for (u32 column = 0; column < 10; column++)
            if (!*name)
                print(" ");
            else
                name++;
        print(commands[index].help);
        print("\n");
    }
}

/* Reads a line with echo; backspace, Ctrl-U and Ctrl-C edit it. */
static void read_line(char *line)
{
    static char previous;
    u32 length = 0;
    for (;;) {
        char key = console_read();
        bool second_half = key == '\n' && previous == '\r';
        previous = key;
        if (second_half)
            continue;
        if (key == '\r' || key == '\n')
            break;
        if (key == 3) {
            print("^C");
            length = 0;
            break;
        }
        if (key == 8 || key == 127 || key == 21) {
            for (u32 count = key == 21 ? length : length > 0; count; count--, length--)
                print("\b \b");
        } else if (key >= ' ' && key < 127 && length < LINE_SIZE - 1) {
            line[length++] = key;
            print_character(key);
        }
    }
    line[length] = 0;
    print("\n");
}

/* The argument where `line` begins with the word `name`, else null. */
static const char *argument_of(const char *line, const char *name)
{
    while (*name && *line == *name)
        line++, name++;
    if (*name || (*line && *line != ' '))
        return 0;
    while (*line == ' ')
        line++;
    return line;
}

static void run(const char *line)
{
    for (u32 index = 0; index < COMMANDS; index++) {
        const char *argument = argument_of(line, commands[index].name);
        if (argument) {
            commands[index].run(argument);
            return;
        }
    }
    if (*line) {
        print("no such command: ");
        print(line);
        print(" (try help)\n");
    }
}

void guest_main(u64 tree)
{
    char line[LINE_SIZE];
    console_start();
    print("\nHello from bare metal: no operating system, ");
    print(mode);
    print(".\n");
    if (read_machine_tree(tree, &machine)) {
        print("This machine: ");
        print(machine.model ? machine.model : "unnamed");
        print(", ");
        print_number(machine.cpus, 1);
        print(" ");
        print(cpu_name);
        print(machine.cpus == 1 ? ", " : "s, ");
        print_number(machine.ram_size >> 20, 1);
        print(" MiB of RAM.\n");
    }
    print("Type help for what it can do.\n\n");
    for (;;) {
        print("hello> ");
        read_line(line);
        const char *start = line;
        while (*start == ' ')
            start++;
        run(start);
    }
}

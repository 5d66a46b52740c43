/* The serial console: an NS16550A, written to only. */
#include "hardware.h"

enum { DATA = 0, LINE_STATUS = 5, TRANSMITTER_EMPTY = 0x20 };

static void print_character(char character)
{
    if (character == '\n')
        print_character('\r');
    while (!(*(volatile uint8_t *)(UART + LINE_STATUS) & TRANSMITTER_EMPTY)) {
    }
    write8(UART + DATA, (uint8_t)character);
}

void print(const char *text)
{
    while (*text)
        print_character(*text++);
}

void print_number(uint64_t value)
{
    char digits[20];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count)
        print_character(digits[--count]);
}

/* Text and numbers on the console. */
#include "guest.h"

void print(const char *text)
{
    while (*text)
        print_character(*text++);
}

/* Decimal, with leading zeroes up to `width` digits. */
void print_number(u64 value, u32 width)
{
    char digits[20];
    u32 count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value || count < width);
    while (count)
        print_character(digits[--count]);
}

void print_hex(u64 value)
{
    print("0x");
    int shift = 60;
    while (shift && !(value >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        print_character("0123456789abcdef"[value >> shift & 15]);
}

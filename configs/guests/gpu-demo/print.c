/* Text and numbers on the serial console. */
#include "demo.h"

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

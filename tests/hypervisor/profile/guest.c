/* Calls whose numbers are known, and then power-off. */
typedef unsigned long word;

static volatile word sink;

__attribute__((noinline)) static void innermost(word rounds)
{
    for (word n = 0; n < rounds; n++)
        sink += n;
}

__attribute__((noinline)) static void middle(word rounds)
{
    innermost(rounds);
    sink++;
}

__attribute__((noinline)) static void other(word rounds)
{
    for (word n = 0; n < rounds; n++)
        if (n % 4 == 1)
            sink ^= n;
}

__attribute__((noinline)) static void recurse(word depth)
{
    if (depth)
        recurse(depth - 1);
    else
        innermost(3000);
    sink++;
}

__attribute__((noinline)) static void never(void)
{
    sink = 7;
}

__attribute__((noinline)) static void off(void)
{
#ifdef __aarch64__
    register word call __asm__("x0") = 0x84000008; /* PSCI SYSTEM_OFF */
    __asm__ volatile("hvc #0" : : "r"(call));
#else
    *(volatile unsigned *)0x100000 = 0x5555;
#endif
}

void guest(void)
{
    for (int n = 0; n < 10; n++)
        middle(1000);
    other(2000);
    recurse(5);
    if (sink == 1)
        never();
    off();
    for (;;)
        ;
}

__asm__(".section .text.start, \"ax\"\n"
        ".globl _start\n"
#ifdef __aarch64__
        "_start: movz x1, #0x4008, lsl #16\n"
        "mov sp, x1\n"
        "mov x29, #0\n"
        "mov x30, #0\n"
        "bl guest\n");
#else
        "_start: la sp, 0x80080000\n"
        "li s0, 0\n"
        "call guest\n");
#endif

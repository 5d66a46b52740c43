/* What stress.c cannot say in C: RV64GC. */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYS_RISCV_FLUSH_ICACHE 259

static inline void atomic_add(long *word, long value)
{
    __asm__ volatile("amoadd.d zero, %0, (%1)" : : "r"(value), "r"(word) : "memory");
}

static inline void atomic_xor(long *word, long value)
{
    __asm__ volatile("amoxor.d zero, %0, (%1)" : : "r"(value), "r"(word) : "memory");
}

static inline void atomic_max(long *word, long value)
{
    __asm__ volatile("amomax.d zero, %0, (%1)" : : "r"(value), "r"(word) : "memory");
}

/* A load-reserved and a store-conditional each, until it succeeds. */
static inline void reserved_add(long *word, long value)
{
    long sum, failed;
    __asm__ volatile("1: lr.d.aq %0, (%2)\n add %0, %0, %3\n sc.d.rl %1, %0, (%2)\n bnez %1, 1b"
                     : "=&r"(sum), "=&r"(failed) : "r"(word), "r"(value) : "memory");
}

static inline void reserved_add_word(int *word, int value)
{
    int sum, failed;
    __asm__ volatile("1: lr.w.aq %0, (%2)\n addw %0, %0, %3\n sc.w.rl %1, %0, (%2)\n bnez %1, 1b"
                     : "=&r"(sum), "=&r"(failed) : "r"(word), "r"(value) : "memory");
}

/* Takes the first of a list whose links are at the nodes' beginning; null if it is empty. */
static inline void *reserved_pop(void *list)
{
    void *head, *next;
    long failed;
    __asm__ volatile("1: lr.d.aq %0, (%3)\n"
                     "   beqz %0, 2f\n"
                     "   ld %1, 0(%0)\n"
                     "   li %2, 16\n" /* time for the other harts to come between */
                     "3: addi %2, %2, -1\n"
                     "   bnez %2, 3b\n"
                     "   sc.d.rl %2, %1, (%3)\n"
                     "   bnez %2, 1b\n"
                     "2:"
                     : "=&r"(head), "=&r"(next), "=&r"(failed) : "r"(list) : "memory");
    return head;
}

static inline long read_ticks(void)
{
    long ticks;
    __asm__ volatile("rdtime %0" : "=r"(ticks) : : "memory");
    return ticks;
}

/* A function that returns `value` (below 2048): addi a0, zero, value; ret. */
static inline void assemble(uint32_t *code, long value)
{
    code[0] = 0x00000513u | (uint32_t)value << 20;
    code[1] = 0x00008067u;
}

/* New instructions from `start` on are seen by this hart, and by the others where it says so. */
static inline void publish_here(uint32_t *start, uint32_t *end)
{
    (void)start, (void)end;
    __asm__ volatile("fence.i" : : : "memory");
}

static inline int publish_everywhere(uint32_t *start, uint32_t *end)
{
    return (int)syscall(SYS_RISCV_FLUSH_ICACHE, start, end, 0L);
}

/* What a hart has to do itself where another published. */
static inline void fetch_anew(void)
{
}

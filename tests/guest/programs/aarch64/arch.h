/* What stress.c cannot say in C: Armv8.0-A and the Large System Extensions. */
#pragma once

#include <stdint.h>

#define LSE ".arch_extension lse\n"

static inline void atomic_add(long *word, long value)
{
    __asm__ volatile(LSE "stadd %0, [%1]" : : "r"(value), "r"(word) : "memory");
}

static inline void atomic_xor(long *word, long value)
{
    __asm__ volatile(LSE "steor %0, [%1]" : : "r"(value), "r"(word) : "memory");
}

static inline void atomic_max(long *word, long value)
{
    __asm__ volatile(LSE "stsmax %0, [%1]" : : "r"(value), "r"(word) : "memory");
}

/* A load-exclusive and a store-exclusive each, until it succeeds. */
static inline void reserved_add(long *word, long value)
{
    long sum;
    int failed;
    __asm__ volatile("1: ldaxr %0, [%2]\n add %0, %0, %3\n stlxr %w1, %0, [%2]\n cbnz %w1, 1b"
                     : "=&r"(sum), "=&r"(failed) : "r"(word), "r"(value) : "memory");
}

static inline void reserved_add_word(int *word, int value)
{
    int sum, failed;
    __asm__ volatile("1: ldaxr %w0, [%2]\n add %w0, %w0, %w3\n stlxr %w1, %w0, [%2]\n cbnz %w1, 1b"
                     : "=&r"(sum), "=&r"(failed) : "r"(word), "r"(value) : "memory");
}

/* Takes the first of a list whose links are at the nodes' beginning; null if it is empty. */
static inline void *reserved_pop(void *list)
{
    void *head, *next;
    long failed;
    __asm__ volatile("1: ldaxr %0, [%3]\n"
                     "   cbz %0, 2f\n"
                     "   ldr %1, [%0]\n"
                     "   mov %2, 16\n" /* time for the other cores to come between */
                     "3: subs %2, %2, 1\n"
                     "   b.ne 3b\n"
                     "   stlxr %w2, %1, [%3]\n"
                     "   cbnz %w2, 1b\n"
                     "2:"
                     : "=&r"(head), "=&r"(next), "=&r"(failed) : "r"(list) : "memory", "cc");
    return head;
}

static inline long read_ticks(void)
{
    long ticks;
    __asm__ volatile("isb\n mrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
    return ticks;
}

/* A function that returns `value` (below 65536): mov x0, value; ret. */
static inline void assemble(uint32_t *code, long value)
{
    code[0] = 0xd2800000u | (uint32_t)value << 5;
    code[1] = 0xd65f03c0u;
}

/* New instructions from `start` on are seen by this core, and by the others once they fetch anew:
 * DC CVAU and IC IVAU by these addresses, then an ISB. */
static inline void publish_here(uint32_t *start, uint32_t *end)
{
    __builtin___clear_cache((char *)start, (char *)end);
}

static inline int publish_everywhere(uint32_t *start, uint32_t *end)
{
    publish_here(start, end);
    return 0;
}

/* What a core has to do itself where another published. */
static inline void fetch_anew(void)
{
    __asm__ volatile("isb" : : : "memory");
}

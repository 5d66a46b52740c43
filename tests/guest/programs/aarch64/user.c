/*
 * user: what a program at EL0 may do and what it may not, through Linux. Prints one line a test,
 * and "user passed" if all held.
 */
#define _GNU_SOURCE
#include <arm_neon.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 20000
#define CORTEX_A72 0x410fd083
#define TICKS_PER_SECOND 10000000

enum { FP, ASIMD, EVTSTRM, AES, PMULL, SHA1, SHA2, CRC32, ATOMICS, CPUID = 11 };

#define MRS(name) ({ uint64_t v; __asm__ volatile("mrs %0, " #name : "=r"(v)); v; })
#define FIELD(value, at) ((value) >> (at) & 15)

static int failures;

static void report(const char *name, int good)
{
    printf("%s: %s\n", name, good ? "ok" : "WRONG");
    failures += !good;
}

/* -- signals ------------------------------------------------------------------------------- */

static sigjmp_buf back;
static siginfo_t caught;
static uint64_t caught_pc;

static void handler(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    (void)number;
    caught = *info;
    caught_pc = user->uc_mcontext.pc;
    siglongjmp(back, 1);
}

/* Run what follows, which must raise `signal` for `reason` with this address and at this pc. */
#define RAISES(name, signal, reason, address, pc, ...)                                   \
    do {                                                                                 \
        memset(&caught, 0, sizeof caught);                                               \
        if (!sigsetjmp(back, 1)) {                                                       \
            __VA_ARGS__;                                                                 \
            report(name, 0);                                                             \
        } else {                                                                         \
            report(name, caught.si_signo == (signal) && caught.si_code == (reason)       \
                   && (uint64_t)caught.si_addr == (uint64_t)(address)                    \
                   && caught_pc == (uint64_t)(pc));                                      \
        }                                                                                \
    } while (0)

static uint64_t here;
#define AT(code) __asm__ volatile("adr x9, 1f\n str x9, %0\n1: " code : "=m"(here) : : "x9", "memory")

static char bytes[256] __attribute__((aligned(64)));

static void test_signals(void)
{
    static char stack[65536];
    stack_t other = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaltstack(&other, NULL);
    for (int n = 0; n < 4; n++)
        sigaction((int[]){ SIGTRAP, SIGILL, SIGBUS, SIGSEGV }[n], &action, NULL);

    RAISES("brk", SIGTRAP, TRAP_BRKPT, here, here, AT("brk #7"));
    RAISES("undefined instruction", SIGILL, ILL_ILLOPC, here, here, AT(".inst 0"));
    RAISES("system register of the kernel", SIGILL, ILL_ILLOPC, here, here,
           AT("mrs x9, sctlr_el1"));
    RAISES("masking interrupts", SIGILL, ILL_ILLOPC, here, here, AT("msr daifset, #2"));
    RAISES("hvc", SIGILL, ILL_ILLOPC, here, here, AT(".inst 0xd4000002"));
    RAISES("access to nothing", SIGSEGV, SEGV_MAPERR, 24, here,
           __asm__ volatile("adr x9, 1f\n str x9, %0\n mov x9, #16\n1: ldr x9, [x9, #8]"
                            : "=m"(here) : : "x9"));
    uint64_t odd = (uint64_t)bytes + 2;
    RAISES("misaligned pc", SIGBUS, BUS_ADRALN, odd, odd,
           __asm__ volatile("blr %0" : : "r"(odd) : "x30"));
    uint64_t crooked = ((uint64_t)__builtin_frame_address(0) & ~15ull) - 1024 + 8;
    RAISES("misaligned sp", SIGBUS, BUS_ADRALN, crooked, here,
           __asm__ volatile("adr x9, 1f\n str x9, %0\n mov x10, sp\n mov sp, %1\n"
                            "1: ldr x9, [sp]\n mov sp, x10"
                            : "=m"(here) : "r"(crooked) : "x9", "x10"));
    RAISES("misaligned exclusive", SIGBUS, BUS_ADRALN, bytes + 1, here,
           __asm__ volatile("adr x9, 1f\n str x9, %0\n1: ldxr x9, [%1]"
                            : "=m"(here) : "r"(bytes + 1) : "x9"));
}

/* -- registers ----------------------------------------------------------------------------- */

static void test_identification(void)
{
    unsigned long has = getauxval(AT_HWCAP);
    uint64_t isar0 = MRS(id_aa64isar0_el1), pfr0 = MRS(id_aa64pfr0_el1);

    report("capabilities", (has >> FP & has >> ASIMD & has >> AES & has >> SHA1 & has >> SHA2
                            & has >> CRC32 & has >> ATOMICS & has >> CPUID & 1) == 1);
    report("id_aa64isar0_el1", FIELD(isar0, 4) >= 1 && FIELD(isar0, 8) == 1
           && FIELD(isar0, 12) == 1 && FIELD(isar0, 16) == 1 && FIELD(isar0, 20) == 2);
    report("id_aa64pfr0_el1", FIELD(pfr0, 0) == 1 && FIELD(pfr0, 16) == 0 && FIELD(pfr0, 20) == 0);
    report("midr_el1", MRS(midr_el1) == CORTEX_A72);
    report("mpidr_el1", MRS(mpidr_el1) >> 31 == 1);
    report("reserved identification", MRS(s3_0_c0_c7_7) == 0);
}

static void test_maintenance(void)
{
    size_t size = 4u << FIELD(MRS(dczid_el0), 0);

    memset(bytes, 1, sizeof bytes);
    __asm__ volatile("dc zva, %0" : : "r"(bytes + size) : "memory");
    report("dc zva", bytes[size - 1] == 1 && bytes[size] == 0 && bytes[2 * size - 1] == 0
           && bytes[2 * size] == 1);
    __asm__ volatile("dc cvau, %0\n dc civac, %0\n ic ivau, %0\n isb" : : "r"(bytes));
    report("ctr_el0", FIELD(MRS(ctr_el0), 16) == 4);
}

static void test_counter(void)
{
    struct timespec from, to;
    uint64_t begun, ended;

    clock_gettime(CLOCK_MONOTONIC, &from);
    begun = MRS(cntvct_el0);
    usleep(20000);
    ended = MRS(cntvct_el0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    int64_t ns = (to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec;
    int64_t counted = (int64_t)(ended - begun) * (1000000000 / TICKS_PER_SECOND);
    report("cntfrq_el0", MRS(cntfrq_el0) == TICKS_PER_SECOND);
    report("cntvct_el0", counted >= 20000000 && counted <= ns && ns - counted < 1000000);
}

/* -- arithmetic ---------------------------------------------------------------------------- */

static double third(uint64_t rounding)
{
    uint64_t fpcr = MRS(fpcr);
    double result;
    __asm__ volatile("msr fpcr, %1\n fdiv %d0, %d2, %d3\n msr fpcr, %4"
                     : "=w"(result) : "r"(rounding << 22), "w"(1.0), "w"(3.0), "r"(fpcr));
    return result;
}

static void test_vectors(void)
{
    float32x4_t a = { 1.5f, -2.0f, 3.25f, 4.0f }, b = { 2.0f, 0.5f, -4.0f, 0.25f };
    float32x4_t sum = vfmaq_f32(a, a, b); /* a + a * b */
    uint8x16_t table = vdupq_n_u8(7), index = vdupq_n_u8(3);

    report("vectors", sum[0] == 4.5f && sum[1] == -3.0f && sum[2] == -9.75f && sum[3] == 5.0f
           && vaddvq_f32(sum) == -3.25f && vqtbl1q_u8(table, index)[9] == 7);
    double up = third(1), down = third(2); /* towards plus and minus infinity */
    report("rounding", up > down && up - down < 1e-15);
}

static long counter, swapped, returned, compared;
static int mixed;

/* Each keeps values of its own in vector registers while all change the same words. */
static void *work(void *argument)
{
    long number = (long)argument;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(number % sysconf(_SC_NPROCESSORS_ONLN), &one);
    sched_setaffinity(0, sizeof one, &one);
    long sum = 0;
    for (long n = 0; n < ROUNDS; n++) {
        uint64_t mine = number << 32 | n, found;
        long old, wanted;
        __asm__ volatile("dup v8.2d, %0\n dup v31.2d, %0" : : "r"(mine) : "v8", "v31");
        __asm__ volatile(".arch_extension lse\n ldaddal %1, %0, %2"
                         : "=r"(old), "+r"((long){ 1 }), "+Q"(counter) : : "memory");
        __asm__ volatile(".arch_extension lse\n swpal %1, %0, %2"
                         : "=r"(old), "+r"(number), "+Q"(swapped) : : "memory");
        sum += old;
        do {
            wanted = __atomic_load_n(&compared, __ATOMIC_RELAXED);
            old = wanted;
            __asm__ volatile(".arch_extension lse\n casal %0, %1, %2"
                             : "+r"(old) : "r"(wanted + 3), "Q"(compared) : "memory");
        } while (old != wanted);
        if (n % 100 == 0)
            sched_yield();
        __asm__ volatile("umov %0, v31.d[1]" : "=r"(found));
        if (found != mine)
            __atomic_fetch_add(&mixed, 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&returned, sum, __ATOMIC_RELAXED);
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, work, (void *)n);
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    report("atomic addition", counter == THREADS * ROUNDS);
    report("compare and swap", compared == 3l * THREADS * ROUNDS);
    report("swap", returned + swapped == ROUNDS * THREADS * (THREADS - 1) / 2);
    report("vector registers of each thread", mixed == 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_signals();
    test_identification();
    test_maintenance();
    test_counter();
    test_vectors();
    test_threads();
    puts(failures ? "user FAILED" : "user passed");
    return failures != 0;
}

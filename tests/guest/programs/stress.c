/*
 * stress [SCALE [NAME]]: what breaks when harts disagree. One thread is pinned to each hart and
 * all of them run each test together. Prints one line a test and "stress passed" if all held.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arch.h"

#define MOST 8
#define PAGE 4096
#define SYS_MEMBARRIER 283
#define MEMBARRIER_SYNC_CORE 32
#define MEMBARRIER_REGISTER_SYNC_CORE 64

static long harts, scale = 1;
static long wrong;

#define LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define ADD(p, v) __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)

static void blame(void)
{
    ADD(&wrong, 1);
}

/* All threads meet. They yield, so that a hart with other work is not stuck. */
static void meet(void)
{
    static long arrived, generation;
    long mine = LOAD(&generation);
    if (ADD(&arrived, 1) == harts - 1) {
        STORE(&arrived, 0);
        STORE(&generation, mine + 1);
    } else {
        while (LOAD(&generation) == mine)
            sched_yield();
    }
}

/* The same without a system call, so that nothing but the test itself flushes a TLB. */
static void meet_awake(void)
{
    static long arrived, generation;
    long mine = LOAD(&generation);
    if (ADD(&arrived, 1) == harts - 1) {
        STORE(&arrived, 0);
        STORE(&generation, mine + 1);
    } else {
        while (LOAD(&generation) == mine)
            ;
    }
}

/* -- atomics ----------------------------------------------------------------------------- */

static long sum, bits, largest;

static void amo(long me)
{
    for (long n = 0; n < 50000 * scale; n++) {
        atomic_add(&sum, 1);
        atomic_xor(&bits, 1L << (n & 63));
        long mine = n * harts + me;
        atomic_max(&largest, mine);
        if (LOAD(&largest) < mine)
            blame();
    }
    meet();
    if (sum != 50000 * scale * harts || largest != 50000 * scale * harts - 1)
        blame();
    if (harts % 2 == 0 && bits != 0)
        blame();
}

static long reserved;
static int reserved_word;

static void lr_sc(long me)
{
    (void)me;
    for (long n = 0; n < 50000 * scale; n++) {
        reserved_add(&reserved, 1);
        reserved_add_word(&reserved_word, 3);
    }
    meet();
    if (reserved != 50000 * scale * harts || reserved_word != (int)(150000 * scale * harts))
        blame();
}

/* A stack whose pop is correct only if the conditional store notices that its word went from A to
 * B to A. */
struct node { struct node *next; long owner; };
static struct node *top;
static struct node nodes[2 * MOST];

static void push(struct node *node)
{
    struct node *head = LOAD(&top);
    do
        node->next = head;
    while (!__atomic_compare_exchange_n(&top, &head, node, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

static void stack(long me)
{
    if (me == 0)
        for (long n = 0; n < 2 * harts; n++)
            push(&nodes[n]);
    meet();
    for (long n = 0; n < 20000 * scale; n++) {
        struct node *one = reserved_pop(&top), *two = reserved_pop(&top);
        if (!one || !two || one == two) {
            blame();
            break;
        }
        if (__atomic_exchange_n(&one->owner, me + 1, __ATOMIC_SEQ_CST) != 0)
            blame();
        if (__atomic_exchange_n(&one->owner, 0, __ATOMIC_SEQ_CST) != me + 1)
            blame();
        push(one);
        push(two);
    }
    meet();
    long left = 0;
    if (me == 0) {
        while (left <= 2 * harts && reserved_pop(&top))
            left++;
        if (left != 2 * harts)
            blame();
    }
}

/* -- locks ------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long plain;

static void mutexes(long me)
{
    (void)me;
    for (long n = 0; n < 3000 * scale; n++) {
        pthread_mutex_lock(&mutex);
        long seen = plain;
        if (n % 64 == 0)
            sched_yield();
        plain = seen + 1;
        pthread_mutex_unlock(&mutex);
    }
    meet();
    if (plain != 3000 * scale * harts)
        blame();
}

static int spin_word;
static long spun;

static void spinlocks(long me)
{
    (void)me;
    for (long n = 0; n < 3000 * scale; n++) {
        while (__atomic_exchange_n(&spin_word, 1, __ATOMIC_ACQUIRE))
            if (n % 2)
                sched_yield();
        spun++;
        STORE(&spin_word, 0);
    }
    meet();
    if (spun != 3000 * scale * harts)
        blame();
}

/* Each turn sleeps in the kernel and is woken from another hart: an IPI each. */
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static long turn;

static void wakeups(long me)
{
    for (long n = 0; n < 300 * scale; n++) {
        pthread_mutex_lock(&mutex);
        while (turn % harts != me)
            pthread_cond_wait(&turn_changed, &mutex);
        turn++;
        pthread_cond_broadcast(&turn_changed);
        pthread_mutex_unlock(&mutex);
    }
    meet();
    if (turn != 300 * scale * harts)
        blame();
}

static pthread_t threads[MOST];
static long signals[MOST];

static void count_signal(int number)
{
    (void)number;
    long cpu = sched_getcpu();
    ADD(&signals[cpu], 1);
}

static void signalling(long me)
{
    long next = (me + 1) % harts;
    for (long n = 0; n < 300 * scale; n++) {
        long before = LOAD(&signals[next]);
        pthread_kill(threads[next], SIGUSR1);
        while (LOAD(&signals[next]) == before)
            sched_yield();
    }
    meet();
    if (signals[me] != 300 * scale)
        blame();
}

/* -- time -------------------------------------------------------------------------------- */

static long latest, latest_tick;

static void forward_only(long *shared, long now, long seen)
{
    if (now < seen)
        blame();
    while (now > seen)
        if (__atomic_compare_exchange_n(shared, &seen, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            break;
}

static void clocks(long me)
{
    (void)me;
    for (long n = 0; n < 5000 * scale; n++) {
        long seen = LOAD(&latest);
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        forward_only(&latest, time.tv_sec * 1000000000L + time.tv_nsec, seen);
        seen = LOAD(&latest_tick);
        forward_only(&latest_tick, read_ticks(), seen);
        if (n % 500 == 0)
            usleep(1);
    }
}

/* -- memory ------------------------------------------------------------------------------ */

static long generation_of_code, calls_done;
static uint32_t *writable, *executable;

static void new_code(long me, long round, int use_membarrier)
{
    long writer = round % harts, value = 1 + round % 2000;
    if (me == writer) {
        assemble(writable, value);
        if (use_membarrier) {
            /* The own hart's fetches are ordered by this, the others' by the system call. */
            publish_here(executable, executable + 2);
            if (syscall(SYS_MEMBARRIER, MEMBARRIER_SYNC_CORE, 0, 0) != 0)
                blame();
        } else if (publish_everywhere(executable, executable + 2) != 0) {
            blame();
        }
        STORE(&generation_of_code, value);
    } else {
        while (LOAD(&generation_of_code) != value)
            if (round % 2)
                sched_yield();
        if (!use_membarrier)
            fetch_anew();
    }
    for (int n = 0; n < 3; n++)
        if (((long (*)(void))executable)() != value)
            blame();
    ADD(&calls_done, 1);
    meet();
}

/* One page for code, or two mappings of it. */
static void place_code(long me, int alias)
{
    if (me == 0) {
        int file = memfd_create("code", 0), both = PROT_READ | PROT_WRITE | PROT_EXEC;
        if (ftruncate(file, PAGE) != 0)
            blame();
        executable = mmap(NULL, PAGE, alias ? PROT_READ | PROT_EXEC : both, MAP_SHARED, file, 0);
        writable = executable;
        if (alias)
            writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        STORE(&generation_of_code, 0);
    }
    meet();
}

static void code_here(long me)
{
    place_code(me, 0);
    for (long n = 0; n < 40 * scale; n++)
        new_code(me, n, 0);
}

static void code_through_alias(long me)
{
    place_code(me, 1);
    for (long n = 0; n < 40 * scale; n++)
        new_code(me, n, 0);
}

static void code_with_membarrier(long me)
{
    place_code(me, 1);
    if (me == 0 && syscall(SYS_MEMBARRIER, MEMBARRIER_REGISTER_SYNC_CORE, 0, 0) != 0) {
        puts("membarrier for code is not supported");
        blame();
    }
    meet();
    for (long n = 0; n < 40 * scale; n++)
        new_code(me, n, 1);
}

static __thread sigjmp_buf on_fault;
static __thread volatile int expecting;

static void fault(int number)
{
    if (!expecting) {
        signal(number, SIG_DFL);
        return;
    }
    siglongjmp(on_fault, 1);
}

/* Whether a store to `word` faults. */
static int store_faults(volatile long *word, long value)
{
    if (sigsetjmp(on_fault, 0)) {
        expecting = 0;
        return 1;
    }
    expecting = 1;
    *word = value;
    expecting = 0;
    return 0;
}

static long *shared_page;

static void protection(long me)
{
    if (me == 0)
        shared_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    meet();
    for (long n = 0; n < 40 * scale; n++) {
        if (store_faults(shared_page + me, n))
            blame();
        meet_awake();
        if (me == n % harts && mprotect(shared_page, PAGE, PROT_READ) != 0)
            blame();
        meet_awake();
        if (!store_faults(shared_page + me, -1) || shared_page[me] != n)
            blame();
        meet_awake();
        if (me == n % harts && mprotect(shared_page, PAGE, PROT_READ | PROT_WRITE) != 0)
            blame();
        meet_awake();
    }
}

static void mapping(long me)
{
    if (me == 0)
        shared_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    meet();
    for (long n = 1; n <= 40 * scale; n++) {
        if (me == n % harts) {
            void *fresh = mmap(shared_page, PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            if (fresh != shared_page)
                blame();
            shared_page[0] = n;
        }
        meet_awake();
        if (shared_page[0] != n)
            blame();
        meet_awake();
        if (me == n % harts && munmap(shared_page, PAGE) != 0)
            blame();
        meet_awake();
        if (!store_faults(shared_page, n))
            blame();
        meet_awake();
    }
}

/* Copy on write: a child's stores are its own, the parent's threads keep theirs. */
static long *family;

static void forks(long me)
{
    if (me == 0)
        family = mmap(NULL, MOST * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    meet();
    for (long n = 0; n < 6 * scale; n++) {
        long *mine = family + me * (PAGE / sizeof(long));
        mine[0] = n;
        pid_t child = fork();
        if (child == 0) {
            mine[0] = -n;
            _exit(mine[0] == -n ? 0 : 1);
        }
        mine[1] = n;
        int status = -1;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            blame();
        if (mine[0] != n || mine[1] != n)
            blame();
    }
}

/* -- floating point ---------------------------------------------------------------------- */

/* Each thread has a rounding mode and flags of its own, and they survive being preempted. */
static void floats(long me)
{
    static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    int mode = modes[me % 4];
    feclearexcept(FE_ALL_EXCEPT);
    fesetround(mode);
    volatile double total = 0;
    double expected = 0;
    for (long n = 0; n < 5000 * scale; n++) {
        total = total + (double)(n + me);
        expected += (double)(n + me);
        if (n % 1000 == 0)
            sched_yield();
    }
    if (fegetround() != mode || fetestexcept(FE_ALL_EXCEPT) || total != expected)
        blame();
    volatile double one = 1, three = 3, third = one / three, back = -one / three;
    if (fetestexcept(FE_ALL_EXCEPT) != FE_INEXACT)
        blame();
    /* 1/3 is above 0x1.5555555555555p-2, and nearer to it than to the next number. */
    double low = 0x1.5555555555555p-2, high = 0x1.5555555555556p-2;
    if (third != (mode == FE_UPWARD ? high : low) || back != (mode == FE_DOWNWARD ? -high : -low))
        blame();
    fesetround(FE_TONEAREST);
}

/* ---------------------------------------------------------------------------------------- */

static const struct { const char *name; void (*run)(long); } tests[] = {
    {"amo", amo}, {"lr-sc", lr_sc}, {"stack", stack}, {"mutex", mutexes}, {"spin", spinlocks},
    {"wakeups", wakeups}, {"signals", signalling}, {"clocks", clocks}, {"code", code_here},
    {"alias", code_through_alias}, {"membarrier", code_with_membarrier},
    {"protection", protection}, {"mapping", mapping}, {"forks", forks}, {"floats", floats},
};

static const char *only;

static void *work(void *argument)
{
    long me = (long)argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(me, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        blame();
    for (size_t n = 0; n < sizeof tests / sizeof *tests; n++) {
        if (only && strcmp(only, tests[n].name))
            continue;
        meet();
        long before = LOAD(&wrong);
        meet();
        tests[n].run(me);
        meet();
        if (me == 0) {
            long found = LOAD(&wrong) - before;
            printf("stress %s: %s (%ld wrong)\n", tests[n].name, found ? "FAILED" : "ok", found);
            fflush(stdout);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    harts = sysconf(_SC_NPROCESSORS_ONLN);
    if (argc > 1)
        scale = atol(argv[1]);
    if (argc > 2)
        only = argv[2];
    signal(SIGUSR1, count_signal);
    struct sigaction on_segv = {.sa_handler = fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &on_segv, NULL);
    threads[0] = pthread_self();
    for (long n = 1; n < harts; n++)
        pthread_create(&threads[n], NULL, work, (void *)n);
    work((void *)0);
    for (long n = 1; n < harts; n++)
        pthread_join(threads[n], NULL);
    printf(wrong ? "stress FAILED\n" : "stress passed on %ld harts\n", harts);
    return wrong != 0;
}

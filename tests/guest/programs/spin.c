/* spin HARTS ROUNDS: one thread pinned to each hart, each counting ROUNDS times. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static long rounds;

static void *count(void *argument)
{
    long hart = (long)argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(hart, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        return "cannot be pinned";
    volatile long counter = 0;
    for (long n = 0; n < rounds; n++)
        counter = counter + 1;
    return sched_getcpu() == hart ? NULL : "ran elsewhere";
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long harts = atol(argv[1]);
    rounds = atol(argv[2]);
    pthread_t threads[64];
    for (long n = 0; n < harts; n++)
        pthread_create(&threads[n], NULL, count, (void *)n);
    int failed = 0;
    for (long n = 0; n < harts; n++) {
        void *problem;
        pthread_join(threads[n], &problem);
        if (problem) {
            printf("hart %ld %s\n", n, (char *)problem);
            failed = 1;
        }
    }
    puts(failed ? "spin FAILED" : "spin done");
    return failed;
}

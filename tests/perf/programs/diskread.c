// Reads a disk past the page cache and says when: "<begin NAME>", "<end NAME>".
// diskread DEVICE sequential BYTES: 1 MiB at a time.
// diskread DEVICE random COUNT: 4 KiB, one at a time.
// diskread DEVICE deep COUNT: 4 KiB, DEPTH at a time.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MEGABYTE = 1 << 20, BLOCK = 4096, DEPTH = 16 };
static const unsigned long GET_SIZE = 0x80081272;  // BLKGETSIZE64

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0) exit(1);
}

static void read_at(int disk, void *buffer, size_t size, uint64_t offset) {
    if (pread(disk, buffer, size, (off_t)offset) != (ssize_t)size) die("pread");
}

static uint64_t random_block(uint64_t blocks) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % blocks;
}

static void sequential(int disk, char *buffer, uint64_t size) {
    say("<begin sequential>\n");
    for (uint64_t at = 0; at < size; at += MEGABYTE) read_at(disk, buffer, MEGABYTE, at);
    say("<end sequential>\n");
}

static void one_at_a_time(int disk, char *buffer, uint64_t count, uint64_t blocks) {
    say("<begin random>\n");
    while (count--) read_at(disk, buffer, BLOCK, random_block(blocks) * BLOCK);
    say("<end random>\n");
}

static void deep(int disk, char *buffer, uint64_t count, uint64_t blocks) {
    aio_context_t context = 0;
    struct iocb requests[DEPTH], *pointers[DEPTH];
    struct io_event events[DEPTH];
    if (syscall(SYS_io_setup, DEPTH, &context)) die("io_setup");
    for (int n = 0; n < DEPTH; n++) {
        requests[n] = (struct iocb){
            .aio_lio_opcode = IOCB_CMD_PREAD,
            .aio_fildes = (uint32_t)disk,
            .aio_buf = (uint64_t)(buffer + n * BLOCK),
            .aio_nbytes = BLOCK,
            .aio_data = (uint64_t)n,
        };
        pointers[n] = &requests[n];
    }
    say("<begin deep>\n");
    // As many are submitted as were completed.
    long ready = DEPTH;
    for (uint64_t done = 0; done < count; done += (uint64_t)ready) {
        for (long n = 0; n < ready; n++)
            pointers[n]->aio_offset = (int64_t)(random_block(blocks) * BLOCK);
        if (syscall(SYS_io_submit, context, ready, pointers) != ready) die("io_submit");
        ready = syscall(SYS_io_getevents, context, 1, DEPTH, events, NULL);
        if (ready < 1) die("io_getevents");
        for (long n = 0; n < ready; n++) {
            if (events[n].res != BLOCK) die("pread");
            pointers[n] = &requests[events[n].data];
        }
    }
    say("<end deep>\n");
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    int disk = open(arguments[1], O_RDONLY | O_DIRECT);
    if (disk < 0) die(arguments[1]);
    uint64_t size, amount = strtoull(arguments[3], NULL, 10);
    if (ioctl(disk, GET_SIZE, &size)) die("size");
    void *buffer;
    if (posix_memalign(&buffer, BLOCK, MEGABYTE)) die("memory");
    memset(buffer, 0, MEGABYTE);
    if (!strcmp(arguments[2], "sequential")) sequential(disk, buffer, amount);
    if (!strcmp(arguments[2], "random")) one_at_a_time(disk, buffer, amount, size / BLOCK);
    if (!strcmp(arguments[2], "deep")) deep(disk, buffer, amount, size / BLOCK);
    return 0;
}

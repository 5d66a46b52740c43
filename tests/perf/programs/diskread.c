// Reads a disk past the page cache and says when: "<begin NAME>", "<end NAME>".
// diskread DEVICE sequential BYTES | diskread DEVICE random COUNT
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MEGABYTE = 1 << 20, BLOCK = 4096 };
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

int main(int count, char **arguments) {
    if (count != 4) return 2;
    int disk = open(arguments[1], O_RDONLY | O_DIRECT);
    if (disk < 0) die(arguments[1]);
    uint64_t size, amount = strtoull(arguments[3], NULL, 10);
    if (ioctl(disk, GET_SIZE, &size)) die("size");
    void *buffer;
    if (posix_memalign(&buffer, BLOCK, MEGABYTE)) die("memory");
    memset(buffer, 0, MEGABYTE);
    if (!strcmp(arguments[2], "sequential")) {
        say("<begin sequential>\n");
        for (uint64_t at = 0; at < amount; at += MEGABYTE) read_at(disk, buffer, MEGABYTE, at);
        say("<end sequential>\n");
        return 0;
    }
    uint64_t state = 1;
    say("<begin random>\n");
    for (uint64_t done = 0; done < amount; done++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        read_at(disk, buffer, BLOCK, (state >> 33) % (size / BLOCK) * BLOCK);
    }
    say("<end random>\n");
    return 0;
}

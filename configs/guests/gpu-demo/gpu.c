/* The GPU's ring: one submission at a time, waited for with its interrupt. */
#include "ring.h"

#include "demo.h"

enum { DESCRIPTORS = 4, DEVICE_NAME = 0x102b };
enum { STREAM_SIZE = 64 << 10, ANSWERS = 1 };

static struct gpu_ring_descriptor descriptors[DESCRIPTORS] __attribute__((aligned(64)));
static struct gpu_ring ring;
static uint8_t stream[STREAM_SIZE] __attribute__((aligned(8)));
static uint8_t information[16 << 10] __attribute__((aligned(8)));
static uint8_t answers[4096] __attribute__((aligned(4096)));
static uint64_t used;
static int32_t error;
static char name[128];

static void submit_and_wait(void)
{
    uint64_t fence = gpu_ring_submit(&ring, 0, stream, used);
    while (!gpu_ring_is_complete(&ring, 0, fence)) {
        uint32_t source = interrupt_wait();
        gpu_ring_acknowledge(&ring);
        interrupt_end(source);
    }
    used = 0;
}

static void find_name(const struct gpu_capset *capset)
{
    for (uint32_t at = 0; at + 8 <= capset->device_count;) {
        const uint8_t *entry = capset->device + at;
        uint32_t parameter = *(const uint32_t *)entry, size = *(const uint32_t *)(entry + 4);
        if (parameter == DEVICE_NAME)
            for (uint32_t i = 0; i < size && i < sizeof name - 1; i++)
                name[i] = (char)entry[8 + i];
        at += 8 + ((size + 7) & ~7u);
    }
}

bool gpu_start(void)
{
    board_start();
    struct gpu_capset capset;
    if (!gpu_ring_open(&ring, GPU, descriptors, DESCRIPTORS)
        || !gpu_ring_describe(&ring, information, sizeof information, &capset))
        return false;
    error = capset.status;
    if (error)
        return false;
    find_name(&capset);
    uint64_t range[] = {(uint64_t)answers, sizeof answers};
    struct gpu_grant_memory grant = {.blob = ANSWERS, .ranges = range, .ranges_count = 2};
    gpu_add(gpu_encode_grant_memory(gpu_packet(), gpu_room(), &grant, 0));
    return gpu_run();
}

const char *gpu_device_name(void) { return name; }
void *gpu_packet(void) { return stream + used; }
uint64_t gpu_room(void) { return STREAM_SIZE - used; }
void gpu_add(uint64_t size) { used += size; }
int32_t gpu_error(void) { return error; }

bool gpu_run(void)
{
    submit_and_wait();
    struct gpu_get_error ask = {0};
    struct gpu_answer_place place = {.offset = 0, .blob = ANSWERS, .size = sizeof answers};
    gpu_add(gpu_encode_get_error(gpu_packet(), gpu_room(), &ask, &place));
    submit_and_wait();
    const int32_t *answer = (const int32_t *)answers;
    struct gpu_latched_error latched;
    if (answer[0] || !gpu_decode_latched_error(answers + 8, (uint32_t)answer[1], &latched))
        return false;
    error = latched.error;
    return !error;
}

/* The GPU's ring: one submission at a time, waited for with its interrupt. */
#include "gpu_protocol.h"
#include "hardware.h"

enum {
    ID = 0x00, CONTROL = 0x08, STATUS = 0x0c, RING_BASE = 0x10, RING_SIZE = 0x18, DOORBELL = 0x1c,
    INTERRUPT_STATUS = 0x28, INTERRUPT_ENABLE = 0x2c, INFO_BASE = 0x30, INFO_SIZE = 0x38,
    FENCE = 0x100,
};
enum { ENABLE = 1, NO_DEVICE = 8, MAGIC = 0x50475648, DESCRIPTORS = 4, DEVICE_NAME = 0x102b };
enum { STREAM_SIZE = 64 << 10, ANSWERS = 1 };

struct descriptor {
    uint64_t address;
    uint32_t size, timeline;
    uint64_t fence, zero;
};

static struct descriptor ring[DESCRIPTORS] __attribute__((aligned(64)));
static uint8_t stream[STREAM_SIZE] __attribute__((aligned(8)));
static uint8_t information[16 << 10] __attribute__((aligned(8)));
static uint8_t answers[4096] __attribute__((aligned(4096)));
static uint64_t used, fence;
static int32_t error;
static char name[128];

static void submit_and_wait(void)
{
    struct descriptor *next = &ring[fence % DESCRIPTORS];
    *next = (struct descriptor){(uint64_t)stream, (uint32_t)used, 0, ++fence, 0};
    __asm__ volatile("fence" ::: "memory");
    write32(GPU + DOORBELL, (uint32_t)fence);
    while (read64(GPU + FENCE) != fence) {
        __asm__ volatile("wfi" ::: "memory");
        uint32_t source = read32(PLIC_CLAIM);
        write32(GPU + INTERRUPT_STATUS, 3);
        if (source)
            write32(PLIC_CLAIM, source);
    }
    __asm__ volatile("fence" ::: "memory");
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
    if (read32(GPU + ID) != MAGIC)
        return false;
    write32(PLIC_PRIORITY + 4 * GPU_IRQ, 1);
    write32(PLIC_ENABLE, 1u << GPU_IRQ);
    write32(PLIC_THRESHOLD, 0);
    /* Traps stay off in mstatus: a pending interrupt only ends WFI. */
    __asm__ volatile("csrs mie, %0" ::"r"(1ul << 11));
    write64(GPU + RING_BASE, (uint64_t)ring);
    write32(GPU + RING_SIZE, DESCRIPTORS);
    write32(GPU + INTERRUPT_ENABLE, 3);
    write32(GPU + CONTROL, ENABLE);
    write64(GPU + INFO_BASE, (uint64_t)information);
    write32(GPU + INFO_SIZE, sizeof information);
    struct gpu_capset capset;
    uint32_t size = read32(GPU + INFO_SIZE);
    if (size > sizeof information || !gpu_decode_capset(information, size, &capset))
        return false;
    error = capset.status;
    if (read32(GPU + STATUS) & NO_DEVICE)
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

/* The GPU without an operating system: a driver of its MMIO ring (device type gpu.ring). Needs no
 * library; physical addresses must be the program's own. SPDX-License-Identifier: GPL-2.0-or-later
 *
 *     static struct gpu_ring_descriptor descriptors[16] __attribute__((aligned(64)));
 *     struct gpu_ring ring;
 *     if (gpu_ring_open(&ring, 0x10040000, descriptors, 16)) {
 *         uint64_t size = gpu_encode_...(stream, sizeof stream, ...);
 *         uint64_t fence = gpu_ring_submit(&ring, 0, stream, size);
 *         while (!gpu_ring_is_complete(&ring, 0, fence))
 *             ...wait for the interrupt, then gpu_ring_acknowledge(&ring)
 *     }
 */
#ifndef GPU_RING_H
#define GPU_RING_H

#include "gpu_protocol.h"

enum gpu_ring_register {
    GPU_RING_ID = 0x00,
    GPU_RING_VERSION = 0x04,
    GPU_RING_CONTROL = 0x08,
    GPU_RING_STATUS = 0x0c,
    GPU_RING_BASE = 0x10,
    GPU_RING_SIZE = 0x18,
    GPU_RING_DOORBELL = 0x1c,
    GPU_RING_TAKEN = 0x20,
    GPU_RING_INTERRUPT_STATUS = 0x28,
    GPU_RING_INTERRUPT_ENABLE = 0x2c,
    GPU_RING_INFO_BASE = 0x30,
    GPU_RING_INFO_SIZE = 0x38,
    GPU_RING_FENCE = 0x100,
};

enum gpu_ring_bit {
    GPU_RING_MAGIC = 0x50475648, /* in ID */
    GPU_RING_ENABLE = 1,         /* in CONTROL */
    GPU_RING_RESET = 2,
    GPU_RING_IS_BROKEN = 2, /* in STATUS */
    GPU_RING_IS_LOST = 4,
    GPU_RING_NO_DEVICE = 8,
    GPU_RING_FENCE_DONE = 1, /* an interrupt's cause */
    GPU_RING_BROKEN = 2,
};

/* Where a stream of packets lies, as the device reads it. */
struct gpu_ring_descriptor {
    uint64_t address;
    uint32_t size, timeline;
    uint64_t fence, zero;
};

struct gpu_ring {
    uint64_t registers;
    struct gpu_ring_descriptor *descriptors;
    uint32_t count, written;
    uint64_t fence;
};

static inline uint32_t gpu_ring_read(const struct gpu_ring *ring, uint32_t offset)
{
    return *(volatile uint32_t *)(uintptr_t)(ring->registers + offset);
}

static inline void gpu_ring_write(const struct gpu_ring *ring, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(ring->registers + offset) = value;
}

static inline void gpu_ring_write_address(const struct gpu_ring *ring, uint32_t offset,
                                          const void *address)
{
    *(volatile uint64_t *)(uintptr_t)(ring->registers + offset) = (uint64_t)(uintptr_t)address;
}

/* What was written to memory is there before the device is told, and the other way round. */
static inline void gpu_ring_barrier(void)
{
#if defined(__riscv)
    __asm__ volatile("fence" ::: "memory");
#elif defined(__aarch64__)
    __asm__ volatile("dsb sy" ::: "memory");
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Start the device anew, with a ring of `count` descriptors: a power of two, 4096 at most. Its
 * interrupt is on. 0 where there is no such device. */
static inline int gpu_ring_open(struct gpu_ring *ring, uint64_t registers,
                                struct gpu_ring_descriptor *descriptors, uint32_t count)
{
    ring->registers = registers;
    ring->descriptors = descriptors;
    ring->count = count;
    ring->written = 0;
    ring->fence = 0;
    if (gpu_ring_read(ring, GPU_RING_ID) != GPU_RING_MAGIC
        || gpu_ring_read(ring, GPU_RING_VERSION) != GPU_VERSION)
        return 0;
    gpu_ring_write(ring, GPU_RING_CONTROL, GPU_RING_RESET);
    gpu_ring_write_address(ring, GPU_RING_BASE, descriptors);
    gpu_ring_write(ring, GPU_RING_SIZE, count);
    gpu_ring_write(ring, GPU_RING_INTERRUPT_ENABLE, GPU_RING_FENCE_DONE | GPU_RING_BROKEN);
    gpu_ring_write(ring, GPU_RING_CONTROL, GPU_RING_ENABLE);
    return !(gpu_ring_read(ring, GPU_RING_STATUS) & GPU_RING_IS_BROKEN);
}

/* What the device says of itself; `bytes`, aligned to 8, keeps it. 0 where it has no room. */
static inline int gpu_ring_describe(const struct gpu_ring *ring, void *bytes, uint32_t room,
                                    struct gpu_capset *capset)
{
    uint32_t size = gpu_ring_read(ring, GPU_RING_INFO_SIZE);
    if (size > room)
        return 0;
    gpu_ring_write_address(ring, GPU_RING_INFO_BASE, bytes);
    gpu_ring_write(ring, GPU_RING_INFO_SIZE, room);
    gpu_ring_barrier();
    return gpu_decode_capset(bytes, size, capset);
}

/* Send a stream, which stays as it is until it is taken. The fence of its timeline (0 to 63) that
 * tells its end. The ring must not be full: no more than its descriptors under way. */
static inline uint64_t gpu_ring_submit(struct gpu_ring *ring, uint32_t timeline,
                                       const void *stream, uint64_t size)
{
    struct gpu_ring_descriptor *next = &ring->descriptors[ring->written % ring->count];
    next->address = (uint64_t)(uintptr_t)stream;
    next->size = (uint32_t)size;
    next->timeline = timeline;
    next->fence = ++ring->fence;
    next->zero = 0;
    gpu_ring_barrier();
    gpu_ring_write(ring, GPU_RING_DOORBELL, ++ring->written);
    return ring->fence;
}

/* Whether a submission and all before it on its timeline are complete. */
static inline int gpu_ring_is_complete(const struct gpu_ring *ring, uint32_t timeline,
                                       uint64_t fence)
{
    uint64_t at = ring->registers + GPU_RING_FENCE + 8 * timeline;
    int complete = *(volatile uint64_t *)(uintptr_t)at >= fence;
    gpu_ring_barrier();
    return complete;
}

/* Take the interrupt's causes: bits of gpu_ring_bit. */
static inline uint32_t gpu_ring_acknowledge(const struct gpu_ring *ring)
{
    uint32_t causes = gpu_ring_read(ring, GPU_RING_INTERRUPT_STATUS);
    gpu_ring_write(ring, GPU_RING_INTERRUPT_STATUS, causes);
    return causes;
}

#endif

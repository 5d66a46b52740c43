/* The machine: what is where, and how to reach it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FINISHER 0x00100000ul
#define PLIC_PRIORITY 0x0c000000ul
#define PLIC_ENABLE 0x0c002000ul
#define PLIC_THRESHOLD 0x0c200000ul
#define PLIC_CLAIM 0x0c200004ul
#define UART 0x10000000ul
#define GPU 0x10040000ul
#define GPU_IRQ 11
#define FREE_MEMORY 0x81000000ul
/* From here on RAM is nobody's. */

static inline uint32_t read32(uint64_t address) { return *(volatile uint32_t *)address; }
static inline uint64_t read64(uint64_t address) { return *(volatile uint64_t *)address; }
static inline void write8(uint64_t address, uint8_t value)
{
    *(volatile uint8_t *)address = value;
}
static inline void write32(uint64_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}
static inline void write64(uint64_t address, uint64_t value)
{
    *(volatile uint64_t *)address = value;
}

/* console.c */
void print(const char *text);
void print_number(uint64_t value);

/* gpu.c */
bool gpu_start(void);
const char *gpu_device_name(void);
void *gpu_packet(void);
/* Where the next packet of the submission goes... */
uint64_t gpu_room(void);
void gpu_add(uint64_t size);
/* ...and that it is there. */
bool gpu_run(void);
/* Submit, and wait until all is complete; false where a command failed. */
int32_t gpu_error(void);
/* The OpenCL error of the last command that failed. */

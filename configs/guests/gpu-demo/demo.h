/* What the parts of the demonstration have of each other. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "board.h"
/* GPU: the device's registers. FREE_MEMORY: from here on RAM is nobody's. */

static inline uint32_t read32(uint64_t address) { return *(volatile uint32_t *)address; }
static inline void write8(uint64_t address, uint8_t value)
{
    *(volatile uint8_t *)address = value;
}
static inline void write32(uint64_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

/* board.c, of each architecture */
void board_start(void);
/* The GPU's interrupt ends a wait from here on; no trap comes of it. */
uint32_t interrupt_wait(void);
void interrupt_end(uint32_t source);
/* Wait for an interrupt, then claim it; and, when its device is content, let the next one come. */
void print_character(char character);
void leave(bool passed);

/* print.c */
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

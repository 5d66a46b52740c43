/* What the guest has on every architecture, and what each of them provides. */
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef _Bool bool;

static inline u8 read8(u64 address) { return *(volatile u8 *)address; }
static inline u32 read32(u64 address) { return *(volatile u32 *)address; }
static inline u64 read64(u64 address) { return *(volatile u64 *)address; }
static inline void write8(u64 address, u8 value) { *(volatile u8 *)address = value; }
static inline void write32(u64 address, u32 value) { *(volatile u32 *)address = value; }
static inline void write64(u64 address, u64 value) { *(volatile u64 *)address = value; }

static inline void wait_for_interrupt(void) { __asm__ volatile("wfi" ::: "memory"); }

/* main.c: entered with the address of the device tree. */
void guest_main(u64 tree);

/* print.c */
void print(const char *text);
void print_number(u64 value, u32 width);
void print_hex(u64 value);

/* machine_tree.c */
struct machine {
    const char *model;
    u64 ram_base, ram_size;
    u32 cpus;
};
bool read_machine_tree(u64 tree, struct machine *machine);

/* The architecture's console.c */
void console_start(void);
char console_read(void);
void print_character(char character);

/* The architecture's board.c */
extern const char mode[];
extern const char cpu_name[];
/* What the architecture calls a processor. */
u64 read_time(void);
u64 ticks_per_second(void);
void wait_until(u64 time);
/* Only the timer ends it: a key typed meanwhile waits for the prompt. */
void switch_off(void);
void reset(void);

/* faults.c */
bool is_readable(u64 address);
void provoke_faults(void);
bool is_expected_trap(void);
/* It was provoked by asking whether something is there. */
void print_trap(const char *name, const u64 *address, u64 at);
/* What follows its number; `address`: of what was accessed, 0 where that is not known. */

/* The architecture's trap.c */
void raise_exceptions(void);
/* An undefined instruction, a breakpoint and a call: each goes on behind itself. */

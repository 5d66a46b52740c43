/* The machine: what is where, and how to reach it. */
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef _Bool bool;

#define FINISHER 0x00100000ul
#define CLINT_MTIMECMP 0x02004000ul
#define CLINT_MTIME 0x0200bff8ul
#define PLIC_PRIORITY 0x0c000000ul
#define PLIC_ENABLE 0x0c002000ul
#define PLIC_THRESHOLD 0x0c200000ul
#define PLIC_CLAIM 0x0c200004ul
#define UART 0x10000000ul
#define UART_IRQ 10

#define TICKS_PER_SECOND 10000000ul
#define MIE_TIMER (1ul << 7)
#define MIE_EXTERNAL (1ul << 11)

static inline u8 read8(u64 address) { return *(volatile u8 *)address; }
static inline u32 read32(u64 address) { return *(volatile u32 *)address; }
static inline u64 read64(u64 address) { return *(volatile u64 *)address; }
static inline void write8(u64 address, u8 value) { *(volatile u8 *)address = value; }
static inline void write32(u64 address, u32 value) { *(volatile u32 *)address = value; }
static inline void write64(u64 address, u64 value) { *(volatile u64 *)address = value; }

static inline void wait_for_interrupt(void) { __asm__ volatile("wfi" ::: "memory"); }

static inline void enable_interrupts(u64 which)
{
    __asm__ volatile("csrs mie, %0" : : "r"(which) : "memory");
}

static inline void disable_interrupts(u64 which)
{
    __asm__ volatile("csrc mie, %0" : : "r"(which) : "memory");
}

static inline u64 read_time(void)
{
    u64 value;
    __asm__ volatile("csrr %0, time" : "=r"(value));
    return value;
}

/* console.c */
void console_start(void);
char console_read(void);
void print_character(char character);
void print(const char *text);
void print_number(u64 value, u32 width);
void print_hex(u64 value);

/* machine_tree.c */
struct machine {
    const char *model;
    u64 ram_base, ram_size;
    u32 harts;
};
bool read_machine_tree(u64 tree, struct machine *machine);

/* trap.c */
u64 handle_trap(u64 cause, u64 epc, u64 value);
bool is_readable(u64 address);
void provoke_faults(void);

// Entry at EL1 with the MMU off (x0: device tree), and the way into and out of exceptions.

    .section .text.start, "ax"
    .globl _start
_start:
    msr daifset, #15
    adrp x1, vectors
    add x1, x1, :lo12:vectors
    msr vbar_el1, x1
    isb
    adrp x1, stack_top
    add x1, x1, :lo12:stack_top
    mov sp, x1
    adrp x1, bss_start
    add x1, x1, :lo12:bss_start
    adrp x2, bss_end
    add x2, x2, :lo12:bss_end
1:  cmp x1, x2
    b.hs 2f
    str xzr, [x1], #8
    b 1b
2:  cbnz x0, 3f
    movz x0, #0x4000, lsl #16       // some put it at the start of RAM and do not say so
3:  bl guest_main
park:
    wfi
    b park

// Saves what C may change; handle_trap gives the address to go on at.
    .text
trap_entry:
    stp x0, x1, [sp, #-160]!
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x30, [sp, #144]
    mrs x0, esr_el1
    mrs x1, elr_el1
    mrs x2, far_el1
    bl handle_trap
    msr elr_el1, x0
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldp x18, x30, [sp, #144]
    ldp x0, x1, [sp], #160
    eret

// Of the sixteen only the fifth can come: synchronous, from EL1 with its own stack pointer.
    .p2align 11
vectors:
    .rept 4
    b park
    .p2align 7
    .endr
    b trap_entry
    .p2align 7
    .rept 11
    b park
    .p2align 7
    .endr

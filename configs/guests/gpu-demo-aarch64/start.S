// Entry at EL1 with the MMU off: floating point on, a stack, zeroed data.

    .section .text.start, "ax"
    .globl _start
_start:
    msr daifset, #15
    adrp x1, park
    add x1, x1, :lo12:park
    msr vbar_el1, x1
    mov x1, #3 << 20                // CPACR_EL1.FPEN: no access is trapped
    msr cpacr_el1, x1
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
2:  bl guest_main

// A trap is the end, whichever of the sixteen it is: the run says where.
    .p2align 11
park:
    .rept 16
    .p2align 7
    wfi
    b . - 4
    .endr

# Entry in machine mode (a0: hart): floating point on, a stack, zeroed data.

    .section .text.start, "ax"
    .globl _start
_start:
    csrw mie, zero
    la t0, park
    csrw mtvec, t0                  # a trap is the end: the run says where
    bnez a0, park
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, stack_top
    li t0, 0x2000                   # mstatus.FS: initial
    csrs mstatus, t0
    la t0, bss_start
    la t1, bss_end
1:  bgeu t0, t1, 2f
    sd zero, (t0)
    addi t0, t0, 8
    j 1b
2:  call guest_main
    .p2align 2
park:
    wfi
    j park

/* What is where in a riscv64 machine. */
#pragma once

#define GPU 0x10040000ul
#define FREE_MEMORY 0x81000000ul

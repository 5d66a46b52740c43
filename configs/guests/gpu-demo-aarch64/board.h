/* What is where in an aarch64 machine. */
#pragma once

#define GPU 0x0a100000ul
#define FREE_MEMORY 0x41000000ul

/* What one launch costs a program: many empty kernels, each waited for, between markers. */
#include "example.h"

enum { LAUNCHES = 1000 };

int main(void)
{
    start(0);
    cl_program program = build("__kernel void empty(void) {}", NULL);
    cl_kernel kernel = kernel_of(program, "empty");
    const size_t one = 1;
    for (int i = -50; i < LAUNCHES; i++) {
        if (i == 0)
            puts("<begin launches>");
        check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &one, NULL, 0, NULL, NULL), "launch");
        check(clFinish(queue), "clFinish");
    }
    puts("<end launches>");
    return finish("gpulaunch", 0);
}

/* A kernel prints: its lines are there, in the order of its work-items, when the program waits. */
#include "example.h"

static const char *source =
    "__kernel void report(__global const float *values)\n"
    "{\n"
    "    int i = get_global_id(0);\n"
    "    printf(\"%d: %.2f in group %d\\n\", i, values[i], (int)get_group_id(0));\n"
    "}\n";

int main(void)
{
    float values[] = {0.5f, 1.5f, 2.25f, 3.0f};
    const size_t items = 4, group = 2;
    start(0);
    cl_kernel kernel = kernel_of(build(source, NULL), "report");
    cl_mem buffer = buffer_of(CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, sizeof values, values);
    ARGUMENT(kernel, 0, buffer);
    check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, &group, 0, NULL, NULL),
          "clEnqueueNDRangeKernel");
    return finish("print", 0);
}

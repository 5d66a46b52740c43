/* c = a + b for a million floats, with profiling. */
#include "example.h"

static const char *source =
    "__kernel void add(__global const float *a, __global const float *b, __global float *c)\n"
    "{ size_t i = get_global_id(0); c[i] = a[i] + b[i]; }\n";

int main(void)
{
    const size_t count = 1 << 20, size = count * sizeof(float);
    float *a = malloc(size), *b = malloc(size), *c = malloc(size);
    unsigned state = 1;
    for (size_t i = 0; i < count; i++) {
        a[i] = noise(&state);
        b[i] = noise(&state);
    }
    start(CL_QUEUE_PROFILING_ENABLE);
    cl_program program = build(source, NULL);
    cl_kernel kernel = kernel_of(program, "add");
    cl_mem a_buffer = buffer_of(CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, size, a);
    cl_mem b_buffer = buffer_of(CL_MEM_READ_ONLY, size, NULL);
    cl_mem c_buffer = buffer_of(CL_MEM_WRITE_ONLY, size, NULL);
    cl_event written, ran;
    check(clEnqueueWriteBuffer(queue, b_buffer, CL_FALSE, 0, size, b, 0, NULL, &written),
          "clEnqueueWriteBuffer");
    ARGUMENT(kernel, 0, a_buffer);
    ARGUMENT(kernel, 1, b_buffer);
    ARGUMENT(kernel, 2, c_buffer);
    check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &count, NULL, 1, &written, &ran),
          "clEnqueueNDRangeKernel");
    check(clEnqueueReadBuffer(queue, c_buffer, CL_TRUE, 0, size, c, 1, &ran, NULL),
          "clEnqueueReadBuffer");
    cl_ulong begin, end;
    check(clGetEventProfilingInfo(ran, CL_PROFILING_COMMAND_START, sizeof begin, &begin, NULL),
          "clGetEventProfilingInfo");
    check(clGetEventProfilingInfo(ran, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL),
          "clGetEventProfilingInfo");
    size_t wrong = end <= begin;
    for (size_t i = 0; i < count; i++)
        wrong += c[i] != a[i] + b[i];
    clReleaseEvent(written);
    clReleaseEvent(ran);
    clReleaseMemObject(a_buffer);
    clReleaseMemObject(b_buffer);
    clReleaseMemObject(c_buffer);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    return finish("vector_add", wrong);
}

/* C = A * B with tiles in local memory, on mapped buffers that the device computes on in place. */
#include "example.h"

#define N 64

static const char *source =
    "__kernel void gemm(__global const float *a, __global const float *b, __global float *c,\n"
    "                   uint n, __local float *a_tile, __local float *b_tile)\n"
    "{\n"
    "    uint row = get_global_id(1), column = get_global_id(0);\n"
    "    uint y = get_local_id(1), x = get_local_id(0);\n"
    "    float sum = 0;\n"
    "    for (uint tile = 0; tile < n; tile += TILE) {\n"
    "        a_tile[y * TILE + x] = a[row * n + tile + x];\n"
    "        b_tile[y * TILE + x] = b[(tile + y) * n + column];\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "        for (uint k = 0; k < TILE; k++) sum += a_tile[y * TILE + k] * b_tile[k * TILE + x];\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    }\n"
    "    c[row * n + column] = sum;\n"
    "}\n";

static float *map(cl_mem buffer, cl_map_flags flags, size_t size)
{
    cl_int status;
    float *values = clEnqueueMapBuffer(queue, buffer, CL_TRUE, flags, 0, size, 0, NULL, NULL,
                                       &status);
    check(status, "clEnqueueMapBuffer");
    return values;
}

int main(void)
{
    const size_t size = N * N * sizeof(float), global[] = {N, N}, local[] = {8, 8};
    const size_t tile = local[0] * local[1] * sizeof(float);
    const cl_uint n = N;
    start(0);
    cl_program program = build(source, "-DTILE=8");
    cl_kernel kernel = kernel_of(program, "gemm");
    cl_mem a_buffer = buffer_of(CL_MEM_READ_ONLY | CL_MEM_ALLOC_HOST_PTR, size, NULL);
    cl_mem b_buffer = buffer_of(CL_MEM_READ_ONLY | CL_MEM_ALLOC_HOST_PTR, size, NULL);
    cl_mem c_buffer = buffer_of(CL_MEM_WRITE_ONLY | CL_MEM_ALLOC_HOST_PTR, size, NULL);
    float *a = map(a_buffer, CL_MAP_WRITE_INVALIDATE_REGION, size);
    float *b = map(b_buffer, CL_MAP_WRITE_INVALIDATE_REGION, size);
    float *expected = calloc(1, size);
    unsigned state = 2;
    for (size_t i = 0; i < N * N; i++) {
        a[i] = noise(&state);
        b[i] = noise(&state);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < N; k++)
            for (size_t j = 0; j < N; j++)
                expected[i * N + j] += a[i * N + k] * b[k * N + j];
    check(clEnqueueUnmapMemObject(queue, a_buffer, a, 0, NULL, NULL), "clEnqueueUnmapMemObject");
    check(clEnqueueUnmapMemObject(queue, b_buffer, b, 0, NULL, NULL), "clEnqueueUnmapMemObject");
    ARGUMENT(kernel, 0, a_buffer);
    ARGUMENT(kernel, 1, b_buffer);
    ARGUMENT(kernel, 2, c_buffer);
    ARGUMENT(kernel, 3, n);
    check(clSetKernelArg(kernel, 4, tile, NULL), "clSetKernelArg");
    check(clSetKernelArg(kernel, 5, tile, NULL), "clSetKernelArg");
    check(clEnqueueNDRangeKernel(queue, kernel, 2, NULL, global, local, 0, NULL, NULL),
          "clEnqueueNDRangeKernel");
    const float *c = map(c_buffer, CL_MAP_READ, size);
    size_t wrong = 0;
    for (size_t i = 0; i < N * N; i++)
        wrong += !(fabsf(c[i] - expected[i]) <= 1e-4f * expected[i]);
    check(clEnqueueUnmapMemObject(queue, c_buffer, (void *)c, 0, NULL, NULL),
          "clEnqueueUnmapMemObject");
    return finish("gemm", wrong);
}

/* The sum of numbers, group by group in local memory; then what the groups found, on the host. The
 * queue is out of order: events say what follows what, and a user event starts it all. */
#include "example.h"

#define GROUP 64

static const char *source =
    "__kernel void sum(__global const uint *values, __global uint *sums, __local uint *part)\n"
    "{\n"
    "    uint i = get_local_id(0);\n"
    "    part[i] = values[get_global_id(0)];\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    for (uint half_size = get_local_size(0) / 2; half_size; half_size /= 2) {\n"
    "        if (i < half_size) part[i] += part[i + half_size];\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    }\n"
    "    if (i == 0) sums[get_group_id(0)] = part[0];\n"
    "}\n";

static volatile cl_int called = -1;

static void tell(cl_event event, cl_int status, void *user_data)
{
    (void)event;
    (void)user_data;
    called = status;
}

int main(void)
{
    const size_t count = 1 << 16, local = GROUP, groups = count / GROUP;
    cl_uint *values = malloc(count * sizeof *values), *sums = calloc(groups, sizeof *sums);
    cl_uint expected = 0, found = 0;
    for (size_t i = 0; i < count; i++) {
        values[i] = (cl_uint)(i * 2654435761u);
        expected += values[i];
    }
    cl_int status;
    start(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    cl_program program = build(source, NULL);
    cl_kernel kernel = kernel_of(program, "sum");
    cl_mem input = buffer_of(CL_MEM_READ_ONLY, count * sizeof *values, NULL);
    cl_mem output = buffer_of(CL_MEM_WRITE_ONLY, groups * sizeof *sums, NULL);
    ARGUMENT(kernel, 0, input);
    ARGUMENT(kernel, 1, output);
    check(clSetKernelArg(kernel, 2, GROUP * sizeof *values, NULL), "clSetKernelArg");
    cl_event gate = clCreateUserEvent(context, &status), written, ran, read;
    check(status, "clCreateUserEvent");
    check(clEnqueueWriteBuffer(queue, input, CL_FALSE, 0, count * sizeof *values, values, 1, &gate,
                               &written),
          "clEnqueueWriteBuffer");
    check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &count, &local, 1, &written, &ran),
          "clEnqueueNDRangeKernel");
    check(clEnqueueReadBuffer(queue, output, CL_FALSE, 0, groups * sizeof *sums, sums, 1, &ran,
                              &read),
          "clEnqueueReadBuffer");
    check(clSetEventCallback(read, CL_COMPLETE, tell, NULL), "clSetEventCallback");
    check(clFlush(queue), "clFlush");
    check(clGetEventInfo(read, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL),
          "clGetEventInfo");
    size_t wrong = status == CL_COMPLETE;
    check(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
    check(clWaitForEvents(1, &read), "clWaitForEvents");
    for (size_t i = 0; i < groups; i++)
        found += sums[i];
    wrong += found != expected;
    while (called < 0)
        continue;
    wrong += called != CL_COMPLETE;
    return finish("reduction", wrong);
}

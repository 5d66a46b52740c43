/* Wrong calls get the error that the specification has for them, and change nothing. */
#include "example.h"

static const char *source =
    "__kernel void fill(__global int *to, int value) { to[get_global_id(0)] = value; }\n"
    "__kernel __attribute__((reqd_work_group_size(4, 1, 1))) void four(__global int *to)\n"
    "{ to[get_global_id(0)] = 4; }\n";

static size_t wrong;

static void expect(cl_int found, cl_int wanted, const char *what)
{
    if (found == wanted)
        return;
    printf("wrong: %s: error %d, not %d\n", what, found, wanted);
    wrong++;
}

#define EXPECT(wanted, call) expect(call, wanted, #call)
#define EXPECT_BY(wanted, call) \
    do {                        \
        cl_int status = 0;      \
        call;                   \
        expect(status, wanted, #call); \
    } while (0)

static void of_objects(void)
{
    cl_uint count = 0;
    cl_device_id devices[2];
    char small[2];
    const cl_context_properties bad[] = {CL_CONTEXT_PLATFORM, 1, 0};
    EXPECT(CL_INVALID_VALUE, clGetPlatformIDs(0, NULL, NULL));
    EXPECT(CL_INVALID_DEVICE_TYPE, clGetDeviceIDs(NULL, 0, 1, devices, &count));
    EXPECT(CL_INVALID_VALUE, clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof small, small, NULL));
    EXPECT(CL_INVALID_VALUE, clGetDeviceInfo(device, 0x9999, 0, NULL, NULL));
    EXPECT_BY(CL_INVALID_VALUE, clCreateContext(NULL, 0, NULL, NULL, NULL, &status));
    EXPECT_BY(CL_INVALID_PLATFORM, clCreateContext(bad, 1, &device, NULL, NULL, &status));
    EXPECT_BY(CL_INVALID_VALUE, clCreateCommandQueue(context, device, 1 << 5, &status));
    EXPECT_BY(CL_INVALID_BUFFER_SIZE, clCreateBuffer(context, 0, 0, NULL, &status));
    EXPECT_BY(CL_INVALID_BUFFER_SIZE, clCreateBuffer(context, 0, (size_t)1 << 50, NULL, &status));
    EXPECT_BY(CL_INVALID_HOST_PTR, clCreateBuffer(context, CL_MEM_COPY_HOST_PTR, 4, NULL, &status));
    EXPECT_BY(CL_INVALID_HOST_PTR, clCreateBuffer(context, 0, 4, &count, &status));
    EXPECT_BY(CL_INVALID_VALUE, clCreateBuffer(context, CL_MEM_READ_ONLY | CL_MEM_WRITE_ONLY, 4,
                                               NULL, &status));
    EXPECT_BY(CL_INVALID_VALUE, clCreateSampler(context, 2, CL_ADDRESS_NONE, CL_FILTER_LINEAR,
                                                &status));
    EXPECT_BY(CL_INVALID_VALUE, clCreateProgramWithSource(context, 0, NULL, NULL, &status));
}

static void of_commands(cl_mem buffer)
{
    char bytes[64];
    cl_mem part;
    cl_buffer_region region = {1, 4};
    EXPECT(CL_INVALID_VALUE,
           clEnqueueReadBuffer(queue, buffer, CL_TRUE, 60, 8, bytes, 0, NULL, NULL));
    EXPECT(CL_INVALID_VALUE,
           clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, 8, NULL, 0, NULL, NULL));
    EXPECT(CL_INVALID_EVENT_WAIT_LIST,
           clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, 8, bytes, 1, NULL, NULL));
    EXPECT(CL_MEM_COPY_OVERLAP, clEnqueueCopyBuffer(queue, buffer, buffer, 0, 8, 16, 0, NULL, NULL));
    EXPECT(CL_INVALID_VALUE,
           clEnqueueFillBuffer(queue, buffer, bytes, 3, 0, 6, 0, NULL, NULL));
    EXPECT(CL_INVALID_VALUE, clEnqueueUnmapMemObject(queue, buffer, bytes, 0, NULL, NULL));
    EXPECT_BY(CL_MISALIGNED_SUB_BUFFER_OFFSET,
              part = clCreateSubBuffer(buffer, 0, CL_BUFFER_CREATE_TYPE_REGION, &region, &status));
    (void)part;
}

static void of_kernels(cl_mem buffer)
{
    const size_t zero = 0, many = 64, odd = 7;
    cl_int value = 5, results[16];
    cl_program program = build(source, NULL), broken;
    cl_int status;
    const char *text = "__kernel void broken( {";
    EXPECT_BY(CL_INVALID_KERNEL_NAME, clCreateKernel(program, "nothing", &status));
    broken = clCreateProgramWithSource(context, 1, &text, NULL, &status);
    EXPECT_BY(CL_INVALID_PROGRAM_EXECUTABLE, clCreateKernel(broken, "broken", &status));
    EXPECT(CL_BUILD_PROGRAM_FAILURE, clBuildProgram(broken, 1, &device, "", NULL, NULL));
    size_t log_size = 0;
    check(clGetProgramBuildInfo(broken, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &log_size),
          "clGetProgramBuildInfo");
    expect(log_size > 1, 1, "the log of a build that failed");
    cl_kernel fill = kernel_of(program, "fill"), four = kernel_of(program, "four");
    EXPECT(CL_INVALID_OPERATION, clBuildProgram(program, 1, &device, "", NULL, NULL));
    EXPECT(CL_INVALID_KERNEL_ARGS,
           clEnqueueNDRangeKernel(queue, fill, 1, NULL, &many, NULL, 0, NULL, NULL));
    EXPECT(CL_INVALID_ARG_INDEX, clSetKernelArg(fill, 2, 4, &value));
    EXPECT(CL_INVALID_ARG_SIZE, clSetKernelArg(fill, 1, 8, &many));
    EXPECT(CL_INVALID_ARG_SIZE, clSetKernelArg(fill, 0, 4, &value));
    EXPECT(CL_INVALID_ARG_VALUE, clSetKernelArg(fill, 1, 4, NULL));
    ARGUMENT(fill, 0, buffer);
    ARGUMENT(fill, 1, value);
    ARGUMENT(four, 0, buffer);
    EXPECT(CL_INVALID_WORK_DIMENSION,
           clEnqueueNDRangeKernel(queue, fill, 0, NULL, &many, NULL, 0, NULL, NULL));
    EXPECT(CL_INVALID_GLOBAL_WORK_SIZE,
           clEnqueueNDRangeKernel(queue, fill, 1, NULL, &zero, NULL, 0, NULL, NULL));
    EXPECT(CL_INVALID_WORK_GROUP_SIZE,
           clEnqueueNDRangeKernel(queue, fill, 1, NULL, &many, &odd, 0, NULL, NULL));
    EXPECT(CL_INVALID_WORK_GROUP_SIZE,
           clEnqueueNDRangeKernel(queue, four, 1, NULL, &many, &many, 0, NULL, NULL));
    const size_t sixteen = 16;
    check(clEnqueueNDRangeKernel(queue, fill, 1, NULL, &sixteen, NULL, 0, NULL, NULL),
          "clEnqueueNDRangeKernel");
    check(clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof results, results, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    expect(results[15], 5, "what runs after all that");
    clReleaseKernel(fill);
    clReleaseKernel(four);
    clReleaseProgram(program);
    clReleaseProgram(broken);
}

static void of_events(cl_mem buffer)
{
    cl_int status, byte = 0;
    cl_event gate = clCreateUserEvent(context, &status), event;
    check(status, "clCreateUserEvent");
    EXPECT(CL_INVALID_VALUE, clSetUserEventStatus(gate, CL_RUNNING));
    EXPECT(CL_INVALID_VALUE, clWaitForEvents(0, NULL));
    EXPECT(CL_PROFILING_INFO_NOT_AVAILABLE,
           clGetEventProfilingInfo(gate, CL_PROFILING_COMMAND_END, 0, NULL, NULL));
    check(clEnqueueReadBuffer(queue, buffer, CL_FALSE, 0, 4, &byte, 1, &gate, &event),
          "clEnqueueReadBuffer");
    check(clSetUserEventStatus(gate, -7), "clSetUserEventStatus");
    EXPECT(CL_INVALID_OPERATION, clSetUserEventStatus(gate, CL_COMPLETE));
    EXPECT(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, clWaitForEvents(1, &event));
    check(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL),
          "clGetEventInfo");
    expect(status < 0, 1, "the status of what waited for an event that failed");
    clReleaseEvent(event);
    clReleaseEvent(gate);
}

int main(void)
{
    start(0);
    cl_mem buffer = buffer_of(0, 64, NULL);
    of_objects();
    of_commands(buffer);
    of_kernels(buffer);
    of_events(buffer);
    clReleaseMemObject(buffer);
    return finish("errors", wrong);
}

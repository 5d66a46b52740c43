/* Calls that few programs make: kernels of parts that are compiled alone, what is known of
 * arguments, the binary, and commands that only order others. */
#include "example.h"
#include <stdatomic.h>
#include <unistd.h>

static const char *header_source = "int twice(int value);\n";
static const char *twice_source = "int twice(int value) { return 2 * value; }\n";
static const char *kernel_source =
    "#include \"twice.h\"\n"
    "__kernel void first(__global int *to, const int value) { to[0] = twice(value); }\n"
    "__kernel void second(__global int *to, const int value) { to[1] = to[0] + value; }\n";

static size_t wrong;
static atomic_size_t destroyed;

static void expect(int right, const char *what)
{
    if (right)
        return;
    printf("wrong: %s\n", what);
    wrong++;
}

static cl_program source_of(const char *text)
{
    cl_int status;
    cl_program program = clCreateProgramWithSource(context, 1, &text, NULL, &status);
    check(status, "clCreateProgramWithSource");
    return program;
}

static cl_program linked(void)
{
    cl_int status;
    const char *name = "twice.h";
    cl_program header = source_of(header_source);
    cl_program parts[] = {source_of(kernel_source), source_of(twice_source)};
    check(clCompileProgram(parts[0], 1, &device, NULL, 1, &header, &name, NULL, NULL),
          "clCompileProgram");
    check(clCompileProgram(parts[1], 1, &device, NULL, 0, NULL, NULL, NULL, NULL),
          "clCompileProgram");
    cl_program program = clLinkProgram(context, 1, &device, NULL, 2, parts, NULL, NULL, &status);
    check(status, "clLinkProgram");
    clReleaseProgram(header);
    clReleaseProgram(parts[0]);
    clReleaseProgram(parts[1]);
    return program;
}

static cl_program again_from_its_binary(cl_program program)
{
    size_t size;
    cl_int loaded, status;
    unsigned char *binary;
    check(clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL), "size");
    binary = malloc(size);
    check(clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL), "binary");
    cl_program again = clCreateProgramWithBinary(context, 1, &device, &size,
                                                 (const unsigned char **)&binary, &loaded, &status);
    check(status, "clCreateProgramWithBinary");
    check(clBuildProgram(again, 1, &device, NULL, NULL, NULL), "clBuildProgram");
    free(binary);
    return again;
}

static void CL_CALLBACK count_destroyed(cl_mem memory, void *user_data)
{
    (void)memory;
    atomic_fetch_add((atomic_size_t *)user_data, 1);
}

static void run(cl_program program, cl_mem buffer)
{
    cl_kernel kernels[2];
    cl_uint count, value = 21;
    cl_int results[2];
    cl_event event, computed;
    char name[16];
    check(clCreateKernelsInProgram(program, 2, kernels, &count), "clCreateKernelsInProgram");
    check(clGetKernelInfo(kernels[0], CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL), "name");
    int first = strcmp(name, "first") != 0;
    for (int i = 0; i < 2; i++) {
        ARGUMENT(kernels[i], 0, buffer);
        ARGUMENT(kernels[i], 1, value);
    }
    check(clEnqueueMigrateMemObjects(queue, 1, &buffer, 0, 0, NULL, NULL), "migrate");
    check(clEnqueueTask(queue, kernels[first], 0, NULL, NULL), "clEnqueueTask");
    check(clEnqueueMarkerWithWaitList(queue, 0, NULL, &event), "clEnqueueMarkerWithWaitList");
    check(clEnqueueBarrierWithWaitList(queue, 1, &event, NULL), "clEnqueueBarrierWithWaitList");
    check(clEnqueueTask(queue, kernels[!first], 1, &event, &computed), "clEnqueueTask");
    check(clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof results, results, 1, &computed,
                              NULL),
          "clEnqueueReadBuffer");
    expect(count == 2 && results[0] == 42 && results[1] == 63, "what both kernels computed");
    clReleaseEvent(event);
    clReleaseEvent(computed);
    clReleaseKernel(kernels[0]);
    clReleaseKernel(kernels[1]);
}

static void arguments(void)
{
    cl_program program = build("__kernel void first(__global int *to, const int value) {}",
                               "-cl-kernel-arg-info");
    cl_kernel kernel = kernel_of(program, "first");
    cl_kernel_arg_address_qualifier address;
    char type[16], name[16];
    check(clGetKernelArgInfo(kernel, 0, CL_KERNEL_ARG_ADDRESS_QUALIFIER, sizeof address, &address,
                             NULL),
          "clGetKernelArgInfo");
    check(clGetKernelArgInfo(kernel, 0, CL_KERNEL_ARG_TYPE_NAME, sizeof type, type, NULL), "type");
    check(clGetKernelArgInfo(kernel, 1, CL_KERNEL_ARG_NAME, sizeof name, name, NULL), "name");
    expect(address == CL_KERNEL_ARG_ADDRESS_GLOBAL && !strcmp(type, "int*")
               && !strcmp(name, "value"),
           "what is known of arguments");
    clReleaseKernel(kernel);
    clReleaseProgram(program);
}

int main(void)
{
    start(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    cl_mem buffer = buffer_of(0, 2 * sizeof(cl_int), NULL);
    check(clSetMemObjectDestructorCallback(buffer, count_destroyed, &destroyed), "callback");
    cl_program program = linked(), again = again_from_its_binary(program);
    arguments();
    run(program, buffer);
    run(again, buffer);
    clReleaseProgram(program);
    clReleaseProgram(again);
    check(clFinish(queue), "clFinish");
    clReleaseMemObject(buffer);
    for (int i = 0; i < 1000 && !destroyed; i++) /* it may be told of by another thread */
        usleep(1000);
    expect(destroyed == 1, "the end of a buffer");
    return finish("seldom", wrong);
}

/* What the examples share: a device, a queue, a program, and an end with one line of PASS or FAIL.
 * They are written as OpenCL's tutorials have it, and run on any OpenCL. */
#pragma once

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cl_context context;
static cl_command_queue queue;
static cl_device_id device;

static void check(cl_int status, const char *what)
{
    if (status == CL_SUCCESS)
        return;
    printf("FAIL %s: error %d\n", what, status);
    exit(1);
}

static void start(cl_command_queue_properties properties)
{
    cl_platform_id platform;
    cl_int status;
    setvbuf(stdout, NULL, _IOLBF, 0);
    check(clGetPlatformIDs(1, &platform, NULL), "clGetPlatformIDs");
    check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), "clGetDeviceIDs");
    context = clCreateContext(NULL, 1, &device, NULL, NULL, &status);
    check(status, "clCreateContext");
    queue = clCreateCommandQueue(context, device, properties, &status);
    check(status, "clCreateCommandQueue");
}

static inline cl_program build(const char *source, const char *options)
{
    cl_int status;
    cl_program program = clCreateProgramWithSource(context, 1, &source, NULL, &status);
    check(status, "clCreateProgramWithSource");
    status = clBuildProgram(program, 1, &device, options, NULL, NULL);
    if (status != CL_SUCCESS) {
        size_t size = 0;
        clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
        char *log = calloc(1, size + 1);
        clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, size, log, NULL);
        printf("%s\n", log);
        free(log);
    }
    check(status, "clBuildProgram");
    return program;
}

static inline cl_kernel kernel_of(cl_program program, const char *name)
{
    cl_int status;
    cl_kernel kernel = clCreateKernel(program, name, &status);
    check(status, name);
    return kernel;
}

static inline cl_mem buffer_of(cl_mem_flags flags, size_t size, void *host)
{
    cl_int status;
    cl_mem buffer = clCreateBuffer(context, flags, size, host, &status);
    check(status, "clCreateBuffer");
    return buffer;
}

#define ARGUMENT(kernel, index, value) \
    check(clSetKernelArg(kernel, index, sizeof(value), &(value)), "clSetKernelArg")

static int finish(const char *name, size_t wrong)
{
    check(clFinish(queue), "clFinish");
    check(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
    check(clReleaseContext(context), "clReleaseContext");
    if (wrong)
        printf("FAIL %s: %zu values are wrong\n", name, wrong);
    else
        printf("PASS %s\n", name);
    return wrong != 0;
}

/* The same numbers everywhere: 0 to 1 in steps of 1/1024. */
static inline float noise(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 22) / 1024.0f;
}

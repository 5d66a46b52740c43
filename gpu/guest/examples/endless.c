/* What a program sees when its kernel is ended by force: the command fails, the context is lost, and a
 * new one works. */
#include "example.h"

/* As many take time on any device: other programs have it to begin. */
enum { MANY = 1 << 26 };

static const char *source =
    "__kernel void spin(__global volatile int *go)\n"
    "{ while (*go) go[1]++; }\n"
    "__kernel void set(__global int *value) { *value = 7; }\n";

static cl_int run(const char *name, size_t items, cl_int *value, cl_event *event)
{
    size_t alone = 1;
    cl_int status;
    cl_program program = build(source, NULL);
    cl_kernel kernel = kernel_of(program, name);
    cl_mem buffer = clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                   2 * sizeof *value, value, &status);
    check(status, "clCreateBuffer");
    ARGUMENT(kernel, 0, buffer);
    check(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, &alone, 0, NULL, event),
          "clEnqueueNDRangeKernel");
    check(clFlush(queue), "clFlush");
    printf("RUNNING %s\n", name);
    status = clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, 2 * sizeof *value, value, 0, NULL,
                                 NULL);
    clReleaseMemObject(buffer);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    return status;
}

int main(void)
{
    cl_int value[2] = {1, 0}, status;
    cl_event event;
    start(0);
    size_t wrong = run("spin", MANY, value, &event) != CL_OUT_OF_RESOURCES;
    printf("LOST spin\n");
    check(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL),
          "clGetEventInfo");
    wrong += status != CL_OUT_OF_RESOURCES;
    wrong += clWaitForEvents(1, &event) != CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
    wrong += clFinish(queue) == CL_INVALID_COMMAND_QUEUE;
    check(clReleaseEvent(event), "clReleaseEvent");
    check(clReleaseCommandQueue(queue), "clReleaseCommandQueue");
    check(clReleaseContext(context), "clReleaseContext");
    start(0);
    status = run("set", 1, value, &event);
    check(status, "the new context");
    wrong += value[0] != 7;
    return finish("endless", wrong);
}

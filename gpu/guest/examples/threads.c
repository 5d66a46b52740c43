/* Several threads, each with a queue of its own: short kernels and long ones, waited for each time.
 * One thread's queue waits for a user event, which main sets when all others are done. */
#include "example.h"

#include <pthread.h>

enum { WORKERS = 4, ROUNDS = 12, MANY = 1 << 17 };

static const char *source =
    "__kernel void count(__global uint *cell, uint more)\n"
    "{ if (get_global_id(0) == 0) cell[0] += more; }\n";

struct worker {
    pthread_t thread;
    cl_uint number;
    size_t wrong;
    cl_program program;
    cl_event gate;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    cl_int status;
    cl_command_queue own = clCreateCommandQueue(context, device, 0, &status);
    check(status, "clCreateCommandQueue");
    cl_kernel kernel = kernel_of(worker->program, "count");
    cl_uint sum = 0, found = 0;
    cl_mem cell = buffer_of(CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof sum, &sum);
    ARGUMENT(kernel, 0, cell);
    for (cl_uint round = 0; round < ROUNDS; round++) {
        const size_t items = (round + worker->number) % 3 ? 1 : MANY;
        const cl_event *first = worker->gate && !round ? &worker->gate : NULL;
        ARGUMENT(kernel, 1, round);
        check(clEnqueueNDRangeKernel(own, kernel, 1, NULL, &items, NULL, !!first, first, NULL),
              "clEnqueueNDRangeKernel");
        if (round % 2)
            check(clFinish(own), "clFinish");
        else
            check(clEnqueueReadBuffer(own, cell, CL_TRUE, 0, sizeof found, &found, 0, NULL, NULL),
                  "clEnqueueReadBuffer");
        sum += round;
        worker->wrong += round % 2 == 0 && found != sum;
    }
    check(clReleaseMemObject(cell), "clReleaseMemObject");
    check(clReleaseKernel(kernel), "clReleaseKernel");
    check(clReleaseCommandQueue(own), "clReleaseCommandQueue");
    return NULL;
}

int main(void)
{
    struct worker workers[WORKERS];
    size_t wrong = 0;
    cl_int status;
    start(0);
    cl_program program = build(source, NULL);
    cl_event gate = clCreateUserEvent(context, &status);
    check(status, "clCreateUserEvent");
    for (cl_uint i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.number = i, .program = program, .gate = i ? NULL : gate};
        check(pthread_create(&workers[i].thread, NULL, work, &workers[i]), "pthread_create");
    }
    for (cl_uint i = WORKERS; i-- > 0;) {
        if (i == 0)
            check(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
        check(pthread_join(workers[i].thread, NULL), "pthread_join");
        wrong += workers[i].wrong;
    }
    return finish("threads", wrong);
}

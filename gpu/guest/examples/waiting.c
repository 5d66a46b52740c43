/* What is complete when a wait returns, and who may not wait for whom: a read that was sent before its
 * queue is finished; and threads that wait for an event which main sets only after it has waited for a
 * queue of its own. */
#include "example.h"

#include <pthread.h>
#include <unistd.h>

enum { ROUNDS = 20, SECONDS = 60 };

static const char *source = "__kernel void add(__global uint *cell) { cell[0]++; }\n";
static cl_mem cell;
static cl_kernel kernel;
static cl_event gate;

static void launch(cl_command_queue to, const cl_event *wait, cl_event *event)
{
    const size_t one = 1;
    check(clEnqueueNDRangeKernel(to, kernel, 1, NULL, &one, NULL, !!wait, wait, event),
          "clEnqueueNDRangeKernel");
}

static cl_command_queue new_queue(cl_command_queue_properties properties)
{
    cl_int status;
    cl_command_queue made = clCreateCommandQueue(context, device, properties, &status);
    check(status, "clCreateCommandQueue");
    return made;
}

static size_t read_before_finish(void)
{
    size_t wrong = 0;
    for (cl_uint round = 0; round < ROUNDS; round++) {
        cl_uint found = 0;
        cl_int status;
        cl_event event;
        launch(queue, NULL, NULL);
        check(clFinish(queue), "clFinish");
        check(clEnqueueReadBuffer(queue, cell, CL_FALSE, 0, sizeof found, &found, 0, NULL, &event),
              "clEnqueueReadBuffer");
        check(clFlush(queue), "clFlush");
        launch(queue, NULL, NULL);
        check(clFinish(queue), "clFinish");
        wrong += found != 2 * round + 1;
        check(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL),
              "clGetEventInfo");
        wrong += status != CL_COMPLETE;
        check(clReleaseEvent(event), "clReleaseEvent");
    }
    return wrong;
}

struct waiter {
    pthread_t thread;
    cl_command_queue first, second;
    cl_event ready; /* set when all but the wait is enqueued */
    cl_uint found;
};

/* The second queue waits for the first, which waits for the gate. */
static void *wait_for_gate(void *argument)
{
    struct waiter *waiter = argument;
    cl_event last;
    launch(waiter->first, &gate, NULL);
    check(clEnqueueMarkerWithWaitList(waiter->first, 0, NULL, &last), "clEnqueueMarkerWithWaitList");
    check(clSetUserEventStatus(waiter->ready, CL_COMPLETE), "clSetUserEventStatus");
    check(clEnqueueReadBuffer(waiter->second, cell, CL_TRUE, 0, sizeof waiter->found,
                              &waiter->found, 1, &last, NULL),
          "clEnqueueReadBuffer");
    return NULL;
}

static size_t others_go_on(cl_command_queue_properties properties)
{
    cl_int status;
    struct waiter waiter = {.first = new_queue(properties), .second = new_queue(0)};
    gate = clCreateUserEvent(context, &status);
    check(status, "clCreateUserEvent");
    waiter.ready = clCreateUserEvent(context, &status);
    check(status, "clCreateUserEvent");
    launch(queue, NULL, NULL);
    check(clFinish(queue), "clFinish");
    check(pthread_create(&waiter.thread, NULL, wait_for_gate, &waiter), "pthread_create");
    check(clWaitForEvents(1, &waiter.ready), "clWaitForEvents");
    for (int round = 0; round < ROUNDS; round++) {
        usleep(1000);
        check(clFinish(queue), "clFinish");
    }
    check(clSetUserEventStatus(gate, CL_COMPLETE), "clSetUserEventStatus");
    check(pthread_join(waiter.thread, NULL), "pthread_join");
    return waiter.found == 0;
}

int main(void)
{
    alarm(SECONDS); /* who waits for ever ends */
    start(0);
    cl_uint zero = 0;
    kernel = kernel_of(build(source, NULL), "add");
    cell = buffer_of(CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof zero, &zero);
    ARGUMENT(kernel, 0, cell);
    size_t wrong = read_before_finish();
    wrong += others_go_on(0);
    wrong += others_go_on(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    return finish("waiting", wrong);
}

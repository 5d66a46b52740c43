#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "library.h"

#define MOST_WATCHED 512u

static cl_event watched[MOST_WATCHED]; /* with callbacks, and not complete */
static unsigned watched_count;
static struct call *calls, **last_call = &calls;
static int wake_read = -1, wake_write = -1;

cl_event event_new(cl_context context, cl_command_queue queue, cl_command_type type)
{
    cl_event event = object_new(EVENT, sizeof *event);
    if (!event)
        return NULL;
    event->context = context;
    event->queue = queue;
    event->type = type;
    event->status = queue ? CL_QUEUED : CL_SUBMITTED;
    event->object.id = id_new();
    object_use(context);
    if (queue)
        object_use(queue);
    return event;
}

void event_destroy(cl_event event)
{
    while (event->callbacks) {
        struct callback *callback = event->callbacks;
        event->callbacks = callback->next;
        free(callback);
    }
    if (event->queue)
        object_drop(event->queue);
    object_drop(event->context);
}

/* -- the library's own thread -------------------------------------------------------------- */

static void wake(void)
{
    if (wake_write >= 0 && write(wake_write, "", 1) < 0)
        return; /* the pipe is full: it is awake */
}

static void run_calls(void)
{
    while (calls) {
        struct call *call = calls;
        calls = call->next;
        if (!calls)
            last_call = &calls;
        unlock();
        call->run(call);
        lock();
    }
}

static void *watch(void *unused)
{
    (void)unused;
    static struct pollfd fences[MOST_WATCHED + 1];
    lock();
    for (;;) {
        run_calls();
        nfds_t count = 0;
        fences[count++] = (struct pollfd){.fd = wake_read, .events = POLLIN};
        for (unsigned i = 0; i < watched_count; i++) {
            int fence = watched[i]->batch ? batch_fence(watched[i]->batch) : -1;
            if (fence >= 0 && (fence = fcntl(fence, F_DUPFD_CLOEXEC, 0)) >= 0)
                fences[count++] = (struct pollfd){.fd = fence, .events = POLLIN};
        }
        unlock();
        poll(fences, count, -1);
        char bytes[64];
        if (fences[0].revents && read(wake_read, bytes, sizeof bytes) < 0)
            sleep(1); /* never: the pipe is ours */
        for (nfds_t i = 1; i < count; i++)
            close(fences[i].fd);
        lock();
        stream_reap();
    }
    return NULL;
}

static bool start_watching(void)
{
    static bool running;
    int ends[2];
    if (running)
        return true;
    if (pipe(ends) < 0)
        return false;
    for (int i = 0; i < 2; i++)
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    wake_read = ends[0];
    wake_write = ends[1];
    pthread_t thread;
    running = pthread_create(&thread, NULL, watch, NULL) == 0;
    if (running)
        pthread_detach(thread);
    return running;
}

void call_later(struct call *call)
{
    start_watching();
    call->next = NULL;
    *last_call = call;
    last_call = &call->next;
    wake();
}

struct notification {
    struct call call;
    cl_event event;
    struct callback callback;
    cl_int status;
};

static void notify(struct call *call)
{
    struct notification *notification = (struct notification *)call;
    notification->callback.notify(notification->event, notification->status,
                                  notification->callback.user_data);
    lock();
    object_drop(notification->event);
    unlock();
    free(notification);
}

/* Have the callbacks called that wait for a state which the event is in, or has been in. */
static void call_back(cl_event event)
{
    for (struct callback **link = &event->callbacks; *link;) {
        struct callback *callback = *link;
        if (event->status > callback->type) {
            link = &callback->next;
            continue;
        }
        struct notification *notification = malloc(sizeof *notification);
        *link = callback->next;
        if (notification) {
            cl_int status = event->status < 0 ? event->status : callback->type;
            *notification = (struct notification){{NULL, notify}, event, *callback, status};
            object_use(event);
            call_later(&notification->call);
        }
        free(callback);
    }
}

void event_complete(cl_event event, cl_int status)
{
    event->status = status;
    if (status > CL_COMPLETE)
        return;
    tell_change();
    call_back(event);
    for (unsigned i = 0; i < watched_count; i++) {
        if (watched[i] != event)
            continue;
        watched[i] = watched[--watched_count];
        object_drop(event);
        break;
    }
}

/* -- waiting ------------------------------------------------------------------------------- */

/* Ask how far a command is whose submission is complete. */
static void ask_status(cl_event event)
{
    struct piece *piece = piece_take(sizeof(struct gpu_answer_header) + 8);
    cl_int status = CL_OUT_OF_RESOURCES;
    if (piece) {
        struct gpu_answer_place place = answer_place(piece);
        struct gpu_event_status answer;
        uint64_t size;
        stream_begin_alone();
        SEND(get_event_status, &place, .event = event->object.id);
        stream_ask(piece);
        status = answer_status(piece);
        const void *body = answer_body(piece, &size);
        if (!status && gpu_decode_event_status(body, size, &answer))
            status = answer.execution;
        piece_give(piece);
    }
    event_complete(event, status);
}

static void pause_a_little(void)
{
    struct timespec time = {0, 200000};
    unlock();
    nanosleep(&time, NULL);
    lock();
}

void event_wait(cl_event event)
{
    object_use(event);
    while (event->status > CL_COMPLETE) {
        if (event->batch) {
            stream_wait(event->batch);
        } else if (event->queue) {
            ask_status(event);
            if (event->status > CL_COMPLETE)
                pause_a_little();
        } else {
            /* A user event: another thread completes it. */
            stream_flush();
            wait_for_change();
        }
    }
    object_drop(event);
}

cl_int clWaitForEvents(cl_uint num_events, const cl_event *events)
{
    if (!num_events || !events)
        return CL_INVALID_VALUE;
    for (cl_uint i = 0; i < num_events; i++) {
        if (!is_object(events[i], EVENT))
            return CL_INVALID_EVENT;
        if (events[i]->context != events[0]->context)
            return CL_INVALID_CONTEXT;
    }
    cl_int status = CL_SUCCESS;
    lock();
    for (cl_uint i = 0; i < num_events; i++) {
        event_wait(events[i]);
        if (events[i]->status < 0)
            status = CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
    }
    printed_show(events[0]->context);
    unlock();
    return status;
}

/* -- information --------------------------------------------------------------------------- */

static cl_int execution_status(cl_event event)
{
    lock();
    if (event->status > CL_COMPLETE && event->batch)
        stream_reap();
    if (event->status > CL_COMPLETE && !event->batch && event->queue)
        ask_status(event);
    /* What was sent is the device's. */
    cl_int status = event->status;
    if (status == CL_QUEUED && event->batch && batch_is_sent(event->batch))
        status = CL_SUBMITTED;
    unlock();
    return status;
}

cl_int clGetEventInfo(cl_event event, cl_event_info name, size_t size, void *value,
                      size_t *size_ret)
{
    if (!is_object(event, EVENT))
        return CL_INVALID_EVENT;
    switch (name) {
    case CL_EVENT_COMMAND_QUEUE: GIVE(cl_command_queue, event->queue);
    case CL_EVENT_CONTEXT: GIVE(cl_context, event->context);
    case CL_EVENT_COMMAND_TYPE: GIVE(cl_command_type, event->type);
    case CL_EVENT_REFERENCE_COUNT: GIVE(cl_uint, event->object.references);
    case CL_EVENT_COMMAND_EXECUTION_STATUS: GIVE(cl_int, execution_status(event));
    default: return CL_INVALID_VALUE;
    }
}

static cl_int fetch_profile(cl_event event)
{
    struct piece *piece = piece_take(sizeof(struct gpu_answer_header) + 32);
    if (!piece)
        return CL_OUT_OF_HOST_MEMORY;
    struct gpu_answer_place place = answer_place(piece);
    uint64_t size;
    stream_begin_alone();
    SEND(get_event_profile, &place, .event = event->object.id);
    stream_ask(piece);
    cl_int status = answer_status(piece);
    const void *body = answer_body(piece, &size);
    if (!status && !gpu_decode_event_profile(body, size, &event->profile))
        status = CL_OUT_OF_RESOURCES;
    event->profiled = !status;
    piece_give(piece);
    return status;
}

cl_int clGetEventProfilingInfo(cl_event event, cl_profiling_info name, size_t size, void *value,
                               size_t *size_ret)
{
    if (!is_object(event, EVENT))
        return CL_INVALID_EVENT;
    if (!event->queue || !(event->queue->properties & CL_QUEUE_PROFILING_ENABLE)
        || execution_status(event) != CL_COMPLETE)
        return CL_PROFILING_INFO_NOT_AVAILABLE;
    lock();
    cl_int status = event->profiled ? CL_SUCCESS : fetch_profile(event);
    unlock();
    if (status)
        return status;
    switch (name) {
    case CL_PROFILING_COMMAND_QUEUED: GIVE(cl_ulong, event->profile.queued);
    case CL_PROFILING_COMMAND_SUBMIT: GIVE(cl_ulong, event->profile.submit);
    case CL_PROFILING_COMMAND_START: GIVE(cl_ulong, event->profile.start);
    case CL_PROFILING_COMMAND_END: GIVE(cl_ulong, event->profile.end);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clRetainEvent(cl_event event) { return object_retain(event, EVENT, CL_INVALID_EVENT); }
cl_int clReleaseEvent(cl_event event) { return object_release(event, EVENT, CL_INVALID_EVENT); }

/* -- user events and callbacks ------------------------------------------------------------- */

cl_event clCreateUserEvent(cl_context context, cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    lock();
    cl_event event = event_new(context, NULL, CL_COMMAND_USER);
    cl_int wrong = CL_OUT_OF_HOST_MEMORY;
    if (event) {
        stream_begin(NULL, false);
        SEND(create_user_event, NULL, .id = event->object.id, .context = context->object.id);
        wrong = stream_status();
        if (wrong)
            object_discard(event);
    }
    unlock();
    if (status)
        *status = wrong;
    return wrong ? NULL : event;
}

cl_int clSetUserEventStatus(cl_event event, cl_int execution_status)
{
    if (!is_object(event, EVENT) || event->queue)
        return CL_INVALID_EVENT;
    if (execution_status > CL_COMPLETE)
        return CL_INVALID_VALUE;
    lock();
    cl_int status = event->status > CL_COMPLETE ? CL_SUCCESS : CL_INVALID_OPERATION;
    if (!status) {
        object_use(event);
        stream_begin(NULL, false);
        SEND(set_user_event_status, NULL, .event = event->object.id, .status = execution_status);
        stream_flush();
        event_complete(event, execution_status);
        object_drop(event);
        status = stream_status();
    }
    unlock();
    return status;
}

cl_int clSetEventCallback(cl_event event, cl_int callback_type,
                          void (*function)(cl_event, cl_int, void *), void *user_data)
{
    if (!is_object(event, EVENT))
        return CL_INVALID_EVENT;
    if (!function
        || (callback_type != CL_COMPLETE && callback_type != CL_RUNNING
            && callback_type != CL_SUBMITTED))
        return CL_INVALID_VALUE;
    struct callback *callback = malloc(sizeof *callback);
    if (!callback)
        return CL_OUT_OF_HOST_MEMORY;
    *callback = (struct callback){NULL, function, user_data, callback_type};
    lock();
    cl_int status = start_watching() ? CL_SUCCESS : CL_OUT_OF_RESOURCES;
    bool watch_it = event->status > CL_COMPLETE;
    for (unsigned i = 0; i < watched_count; i++)
        watch_it &= watched[i] != event;
    if (!status && watch_it && watched_count == MOST_WATCHED)
        status = CL_OUT_OF_RESOURCES;
    if (status) {
        free(callback);
    } else {
        callback->next = event->callbacks;
        event->callbacks = callback;
        if (watch_it) {
            object_use(event);
            watched[watched_count++] = event;
        }
        /* How far it is between being sent and being complete is not told: it is submitted. */
        if (event->batch)
            stream_flush();
        if (event->status == CL_QUEUED)
            event->status = CL_SUBMITTED;
        call_back(event);
        wake();
    }
    unlock();
    return status;
}

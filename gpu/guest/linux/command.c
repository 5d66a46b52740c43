#include <stdlib.h>
#include <string.h>

#include "library.h"

#define MOST_WAITS 1024u

cl_int command_check(cl_command_queue queue, cl_uint count, const cl_event *waits)
{
    if (!is_object(queue, QUEUE))
        return CL_INVALID_COMMAND_QUEUE;
    if (!count != !waits || count > MOST_WAITS)
        return CL_INVALID_EVENT_WAIT_LIST;
    for (cl_uint i = 0; i < count; i++) {
        if (!is_object(waits[i], EVENT))
            return CL_INVALID_EVENT_WAIT_LIST;
        if (waits[i]->context != queue->context)
            return CL_INVALID_CONTEXT;
    }
    return stream_status();
}

static bool depends_on_user(cl_event event)
{
    return event->status > CL_COMPLETE && (!event->queue || event->waits_for_user);
}

cl_int command_begin(struct command *command, cl_command_queue queue, cl_command_type type,
                     cl_uint count, const cl_event *waits, bool with_event)
{
    stream_throttle();
    *command = (struct command){.queue = queue};
    command->waits = command->few_waits;
    if (count > sizeof command->few_waits / sizeof *command->few_waits)
        command->waits = malloc(count * sizeof *command->waits);
    if (with_event)
        command->event = event_new(queue->context, queue, type);
    if (!command->waits || (with_event && !command->event)) {
        if (command->event)
            object_discard(command->event);
        if (command->waits != command->few_waits)
            free(command->waits);
        return CL_OUT_OF_HOST_MEMORY;
    }
    bool apart = false;
    for (cl_uint i = 0; i < count; i++) {
        if (waits[i]->status == CL_COMPLETE)
            continue;
        command->waits[command->wait_count++] = waits[i]->object.id;
        apart |= depends_on_user(waits[i]);
    }
    stream_begin(queue, apart);
    if (command->event) {
        command->event_id = command->event->object.id;
        command->event->waits_for_user = queue->user_waits || stream_waits_for_user();
        stream_event(command->event);
    }
    return CL_SUCCESS;
}

cl_int command_end(struct command *command, cl_event *event, bool blocking)
{
    cl_event own = command->event;
    if (command->waits != command->few_waits)
        free(command->waits);
    cl_int status = stream_status();
    if (blocking) {
        event_wait(own);
        printed_show(command->queue->context);
        status = own->status < 0 ? own->status : CL_SUCCESS;
    }
    if (event && !status) {
        *event = own;
    } else if (own) {
        own->object.references--;
        own->object.uses++;
        object_drop(own);
    }
    return status;
}

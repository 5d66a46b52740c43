#include <stdlib.h>
#include <string.h>

#include "library.h"

#define ALL_QUEUE_PROPERTIES \
    ((cl_bitfield)(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE | CL_QUEUE_PROFILING_ENABLE))

static cl_int check_properties(const cl_context_properties *properties, size_t *count)
{
    *count = 0;
    if (!properties)
        return CL_SUCCESS;
    while (properties[*count]) {
        cl_context_properties name = properties[*count], value = properties[*count + 1];
        if (name == CL_CONTEXT_PLATFORM) {
            if ((cl_platform_id)value != &the_platform)
                return CL_INVALID_PLATFORM;
        } else if (name != CL_CONTEXT_INTEROP_USER_SYNC) {
            return CL_INVALID_PROPERTY;
        }
        *count += 2;
    }
    *count += 1;
    return CL_SUCCESS;
}

/* Make the context on the device too: the answer says whether it lives. */
static cl_int make_context(cl_context context)
{
    cl_int status = device_start();
    if (status)
        return status;
    struct piece *piece = piece_take(sizeof(struct gpu_answer_header));
    if (!piece)
        return CL_OUT_OF_HOST_MEMORY;
    context->object.id = id_new();
    struct gpu_answer_place place = answer_place(piece);
    stream_begin_alone();
    SEND(create_context, &place, .id = context->object.id);
    stream_ask(piece);
    status = answer_status(piece);
    piece_give(piece);
    return status;
}

cl_context clCreateContext(const cl_context_properties *properties, cl_uint num_devices,
                           const cl_device_id *devices,
                           void (*notify)(const char *, const void *, size_t, void *),
                           void *user_data, cl_int *status)
{
    size_t count;
    cl_int wrong = check_properties(properties, &count);
    if (wrong)
        FAIL(wrong);
    if (!devices || !num_devices || (!notify && user_data))
        FAIL(CL_INVALID_VALUE);
    if (!are_our_devices(num_devices, devices))
        FAIL(CL_INVALID_DEVICE);
    lock();
    cl_context context = object_new(CONTEXT, sizeof *context);
    if (!context) {
        unlock();
        FAIL(CL_OUT_OF_HOST_MEMORY);
    }
    context->properties_size = count * sizeof *properties;
    if (count && (context->properties = malloc(context->properties_size)))
        memcpy(context->properties, properties, context->properties_size);
    wrong = count && !context->properties ? CL_OUT_OF_HOST_MEMORY : make_context(context);
    if (wrong)
        object_discard(context);
    unlock();
    if (status)
        *status = wrong;
    return wrong ? NULL : context;
}

cl_context clCreateContextFromType(const cl_context_properties *properties, cl_device_type type,
                                   void (*notify)(const char *, const void *, size_t, void *),
                                   void *user_data, cl_int *status)
{
    cl_device_id device;
    cl_int wrong = clGetDeviceIDs(&the_platform, type, 1, &device, NULL);
    if (wrong)
        FAIL(wrong);
    return clCreateContext(properties, 1, &device, notify, user_data, status);
}

void context_destroy(cl_context context) { free(context->properties); }

cl_int clRetainContext(cl_context context)
{
    return object_retain(context, CONTEXT, CL_INVALID_CONTEXT);
}

cl_int clReleaseContext(cl_context context)
{
    return object_release(context, CONTEXT, CL_INVALID_CONTEXT);
}

cl_int clGetContextInfo(cl_context context, cl_context_info name, size_t size, void *value,
                        size_t *size_ret)
{
    if (!is_object(context, CONTEXT))
        return CL_INVALID_CONTEXT;
    switch (name) {
    case CL_CONTEXT_REFERENCE_COUNT: GIVE(cl_uint, context->object.references);
    case CL_CONTEXT_NUM_DEVICES: GIVE(cl_uint, 1);
    case CL_CONTEXT_DEVICES: GIVE(cl_device_id, &the_device);
    case CL_CONTEXT_PROPERTIES:
        return give(context->properties, context->properties_size, size, value, size_ret);
    default: return CL_INVALID_VALUE;
    }
}

cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device,
                                      cl_command_queue_properties properties, cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    if (device != &the_device)
        FAIL(CL_INVALID_DEVICE);
    if (properties & ~ALL_QUEUE_PROPERTIES)
        FAIL(CL_INVALID_VALUE);
    lock();
    cl_command_queue queue = object_new(QUEUE, sizeof *queue);
    cl_int wrong = CL_OUT_OF_HOST_MEMORY;
    if (queue) {
        queue->context = context;
        queue->properties = properties;
        queue->object.id = id_new();
        object_use(context);
        stream_begin(NULL, false);
        SEND(create_queue, NULL, .properties = properties, .id = queue->object.id,
             .context = context->object.id);
        wrong = stream_status();
        if (wrong)
            object_discard(queue);
    }
    unlock();
    if (status)
        *status = wrong;
    return wrong ? NULL : queue;
}

void queue_destroy(cl_command_queue queue) { object_drop(queue->context); }

cl_int clRetainCommandQueue(cl_command_queue queue)
{
    return object_retain(queue, QUEUE, CL_INVALID_COMMAND_QUEUE);
}

cl_int clReleaseCommandQueue(cl_command_queue queue)
{
    cl_int wrong = clFlush(queue);
    return wrong == CL_INVALID_COMMAND_QUEUE
               ? wrong
               : object_release(queue, QUEUE, CL_INVALID_COMMAND_QUEUE);
}

cl_int clGetCommandQueueInfo(cl_command_queue queue, cl_command_queue_info name, size_t size,
                             void *value, size_t *size_ret)
{
    if (!is_object(queue, QUEUE))
        return CL_INVALID_COMMAND_QUEUE;
    switch (name) {
    case CL_QUEUE_CONTEXT: GIVE(cl_context, queue->context);
    case CL_QUEUE_DEVICE: GIVE(cl_device_id, &the_device);
    case CL_QUEUE_REFERENCE_COUNT: GIVE(cl_uint, queue->object.references);
    case CL_QUEUE_PROPERTIES: GIVE(cl_command_queue_properties, queue->properties);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clSetCommandQueueProperty(cl_command_queue queue, cl_command_queue_properties properties,
                                 cl_bool enable, cl_command_queue_properties *old_properties)
{
    (void)properties;
    (void)enable;
    if (!is_object(queue, QUEUE))
        return CL_INVALID_COMMAND_QUEUE;
    if (old_properties)
        *old_properties = queue->properties;
    return CL_INVALID_OPERATION; /* gone since OpenCL 1.1 */
}

cl_int clFlush(cl_command_queue queue)
{
    if (!is_object(queue, QUEUE))
        return CL_INVALID_COMMAND_QUEUE;
    lock();
    stream_flush();
    cl_int status = stream_status();
    unlock();
    return status;
}

cl_int clFinish(cl_command_queue queue)
{
    if (!is_object(queue, QUEUE))
        return CL_INVALID_COMMAND_QUEUE;
    lock();
    object_use(queue);
    struct piece *piece = piece_take(sizeof(struct gpu_answer_header) + 16);
    cl_int status = CL_OUT_OF_HOST_MEMORY;
    if (piece) {
        struct gpu_answer_place place = answer_place(piece);
        if (!stream_ends_with(queue)) {
            stream_wait_queue(queue);
            stream_begin_alone();
        }
        SEND(get_error, &place, 0);
        stream_ask(piece);
        status = answer_status(piece);
        struct gpu_latched_error latched;
        uint64_t size;
        const void *body = answer_body(piece, &size);
        if (!status && gpu_decode_latched_error(body, size, &latched))
            status = latched.error;
        /* The command that failed has been told of; those that waited for it are no news. */
        if (status == CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
            status = CL_SUCCESS;
        piece_give(piece);
    }
    printed_show(queue->context);
    object_drop(queue);
    unlock();
    return status;
}

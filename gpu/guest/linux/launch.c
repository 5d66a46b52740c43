/* Commands that run kernels, and commands that only order others. */
#include "library.h"

static cl_int check_groups(cl_kernel kernel, cl_uint dimensions, const size_t *global_size,
                           const size_t *local_size)
{
    const struct gpu_kernel_info *info = &kernel->info;
    const uint64_t *wanted = info->compile_work_group_size;
    const bool has_wanted = wanted[0] || wanted[1] || wanted[2];
    if (!local_size)
        return has_wanted ? CL_INVALID_WORK_GROUP_SIZE : CL_SUCCESS;
    size_t most[3];
    device_sizes(CL_DEVICE_MAX_WORK_ITEM_SIZES, most);
    uint64_t product = 1;
    for (cl_uint i = 0; i < dimensions; i++) {
        if (!local_size[i] || global_size[i] % local_size[i])
            return CL_INVALID_WORK_GROUP_SIZE;
        if (local_size[i] > most[i])
            return CL_INVALID_WORK_ITEM_SIZE;
        if (has_wanted && local_size[i] != wanted[i])
            return CL_INVALID_WORK_GROUP_SIZE;
        product *= local_size[i];
    }
    return product > info->work_group_size ? CL_INVALID_WORK_GROUP_SIZE : CL_SUCCESS;
}

static cl_int check_kernel(cl_command_queue queue, cl_kernel kernel)
{
    if (!is_object(kernel, KERNEL))
        return CL_INVALID_KERNEL;
    if (kernel->program->context != queue->context)
        return CL_INVALID_CONTEXT;
    for (uint32_t i = 0; i < kernel->info.num_args; i++)
        if (!kernel->arguments[i].is_set)
            return CL_INVALID_KERNEL_ARGS;
    return CL_SUCCESS;
}

static cl_int check_range(cl_kernel kernel, cl_uint dimensions, const size_t *global_offset,
                          const size_t *global_size, const size_t *local_size)
{
    if (dimensions < 1 || dimensions > 3)
        return CL_INVALID_WORK_DIMENSION;
    if (!global_size)
        return CL_INVALID_GLOBAL_WORK_SIZE;
    for (cl_uint i = 0; i < dimensions; i++) {
        if (!global_size[i])
            return CL_INVALID_GLOBAL_WORK_SIZE;
        if (global_offset && global_offset[i] > SIZE_MAX - global_size[i])
            return CL_INVALID_GLOBAL_OFFSET;
    }
    return check_groups(kernel, dimensions, global_size, local_size);
}

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                              const size_t *global_offset, const size_t *global_size,
                              const size_t *local_size, cl_uint num_events,
                              const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = check_kernel(queue, kernel);
    if (!status)
        status = check_range(kernel, dimensions, global_offset, global_size, local_size);
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_NDRANGE_KERNEL, num_events, wait_list, event);
    if (!status) {
        uint64_t offset[3] = {0}, global[3] = {1, 1, 1}, local[3] = {0};
        for (cl_uint i = 0; i < dimensions; i++) {
            offset[i] = global_offset ? global_offset[i] : 0;
            global[i] = global_size[i];
            local[i] = local_size ? local_size[i] : 0;
        }
        SEND(nd_range, NULL, COMMAND(&c), .offset = {offset[0], offset[1], offset[2]},
             .global_size = {global[0], global[1], global[2]},
             .local_size = {local[0], local[1], local[2]}, .kernel = kernel->object.id,
             .dimensions = dimensions);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueTask(cl_command_queue queue, cl_kernel kernel, cl_uint num_events,
                     const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = check_kernel(queue, kernel);
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_TASK, num_events, wait_list, event);
    if (!status) {
        SEND(task, NULL, COMMAND(&c), .kernel = kernel->object.id);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueNativeKernel(cl_command_queue queue, void (*function)(void *), void *arguments,
                             size_t arguments_size, cl_uint num_memories, const cl_mem *memories,
                             const void **places, cl_uint num_events, const cl_event *wait_list,
                             cl_event *event)
{
    (void)function;
    (void)arguments;
    (void)arguments_size;
    (void)num_memories;
    (void)memories;
    (void)places;
    (void)num_events;
    (void)wait_list;
    (void)event;
    /* CL_DEVICE_EXECUTION_CAPABILITIES does not have them. */
    return is_object(queue, QUEUE) ? CL_INVALID_OPERATION : CL_INVALID_COMMAND_QUEUE;
}

cl_int clEnqueueMarkerWithWaitList(cl_command_queue queue, cl_uint num_events,
                                   const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_MARKER, num_events, wait_list, event);
    if (!status) {
        SEND(marker, NULL, COMMAND(&c));
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueBarrierWithWaitList(cl_command_queue queue, cl_uint num_events,
                                    const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_BARRIER, num_events, wait_list, event);
    if (!status) {
        SEND(barrier, NULL, COMMAND(&c));
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueMarker(cl_command_queue queue, cl_event *event)
{
    return event ? clEnqueueMarkerWithWaitList(queue, 0, NULL, event) : CL_INVALID_VALUE;
}

cl_int clEnqueueWaitForEvents(cl_command_queue queue, cl_uint num_events,
                              const cl_event *wait_list)
{
    if (!num_events || !wait_list)
        return CL_INVALID_VALUE;
    cl_int status = clEnqueueBarrierWithWaitList(queue, num_events, wait_list, NULL);
    return status == CL_INVALID_EVENT_WAIT_LIST ? CL_INVALID_EVENT : status;
}

cl_int clEnqueueBarrier(cl_command_queue queue)
{
    return clEnqueueBarrierWithWaitList(queue, 0, NULL, NULL);
}

/* Commands on images. */
#include "memory.h"

/* Begin a command between an image and the program's memory, after all checks. */
static cl_int begin(struct transfer *transfer, cl_command_queue queue, cl_command_type type,
                    cl_mem image, cl_mem_flags forbidden, const size_t *origin,
                    const size_t *region, struct box host, cl_uint num_events,
                    const cl_event *wait_list, bool with_event)
{
    cl_int status =
        transfer_check(queue, image, is_image, host.at, forbidden, num_events, wait_list);
    if (!status)
        status = image_check_region(image, origin, region);
    if (!status)
        status = image_host_pitches(image, region, &host.row_pitch, &host.slice_pitch);
    if (status)
        return status;
    const size_t size[3] = {region[0] * image->element_size, region[1], region[2]};
    return transfer_begin(transfer, queue, type, host, size, num_events, wait_list, with_event);
}

cl_int clEnqueueReadImage(cl_command_queue queue, cl_mem image, cl_bool blocking,
                          const size_t *origin, const size_t *region, size_t row_pitch,
                          size_t slice_pitch, void *ptr, cl_uint num_events,
                          const cl_event *wait_list, cl_event *event)
{
    struct transfer t;
    lock();
    cl_int status = begin(&t, queue, CL_COMMAND_READ_IMAGE, image, CL_MEM_HOST_WRITE_ONLY, origin,
                          region, (struct box){ptr, row_pitch, slice_pitch}, num_events, wait_list,
                          event || blocking);
    if (!status) {
        SEND(read_image, NULL, COMMAND(&t.command), .origin = VECTOR(origin),
             .region = VECTOR(region), .blob_offset = t.piece->offset, .image = image->object.id,
             .blob = t.piece->blob->resource);
        status = transfer_end_read(&t, event, blocking);
    }
    unlock();
    return status;
}

cl_int clEnqueueWriteImage(cl_command_queue queue, cl_mem image, cl_bool blocking,
                           const size_t *origin, const size_t *region, size_t row_pitch,
                           size_t slice_pitch, const void *ptr, cl_uint num_events,
                           const cl_event *wait_list, cl_event *event)
{
    struct transfer t;
    lock();
    cl_int status = begin(&t, queue, CL_COMMAND_WRITE_IMAGE, image, CL_MEM_HOST_READ_ONLY, origin,
                          region, (struct box){(void *)(uintptr_t)ptr, row_pitch, slice_pitch},
                          num_events, wait_list, event || blocking);
    if (!status) {
        transfer_fill(&t);
        SEND(write_image, NULL, COMMAND(&t.command), .origin = VECTOR(origin),
             .region = VECTOR(region), .blob_offset = t.piece->offset, .image = image->object.id,
             .blob = t.piece->blob->resource);
        status = transfer_end_write(&t, event, blocking);
    }
    unlock();
    return status;
}

cl_int clEnqueueFillImage(cl_command_queue queue, cl_mem image, const void *color,
                          const size_t *origin, const size_t *region, cl_uint num_events,
                          const cl_event *wait_list, cl_event *event)
{
    struct command c;
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = memory_check(queue, image, is_image);
    if (!status)
        status = color ? image_check_region(image, origin, region) : CL_INVALID_VALUE;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_FILL_IMAGE, num_events, wait_list, event);
    if (!status) {
        SEND(fill_image, NULL, COMMAND(&c), .origin = VECTOR(origin), .region = VECTOR(region),
             .image = image->object.id, .color = color, .color_count = 16);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

static bool overlap(const size_t *a, const size_t *b, const size_t *region)
{
    for (int i = 0; i < 3; i++)
        if ((a[i] < b[i] ? b[i] - a[i] : a[i] - b[i]) >= region[i])
            return false;
    return true;
}

cl_int clEnqueueCopyImage(cl_command_queue queue, cl_mem source, cl_mem destination,
                          const size_t *source_origin, const size_t *destination_origin,
                          const size_t *region, cl_uint num_events, const cl_event *wait_list,
                          cl_event *event)
{
    struct command c;
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = memory_check(queue, source, is_image);
    if (!status)
        status = memory_check(queue, destination, is_image);
    if (!status
        && (source->format.image_channel_order != destination->format.image_channel_order
            || source->format.image_channel_data_type
                   != destination->format.image_channel_data_type))
        status = CL_IMAGE_FORMAT_MISMATCH;
    if (!status)
        status = image_check_region(source, source_origin, region);
    if (!status)
        status = image_check_region(destination, destination_origin, region);
    if (!status && source == destination && overlap(source_origin, destination_origin, region))
        status = CL_MEM_COPY_OVERLAP;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_COPY_IMAGE, num_events, wait_list, event);
    if (!status) {
        SEND(copy_image, NULL, COMMAND(&c), .source_origin = VECTOR(source_origin),
             .destination_origin = VECTOR(destination_origin), .region = VECTOR(region),
             .source = source->object.id, .destination = destination->object.id);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

/* The checks of copies between an image and a buffer. */
static cl_int check_mixed(cl_command_queue queue, cl_mem image, cl_mem buffer,
                          const size_t *origin, const size_t *region, size_t offset,
                          cl_uint num_events, const cl_event *wait_list)
{
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = memory_check(queue, image, is_image);
    if (!status)
        status = memory_check(queue, buffer, is_buffer);
    if (!status)
        status = image_check_region(image, origin, region);
    if (!status)
        status = buffer_check_range(
            buffer, offset, region[0] * region[1] * region[2] * image->element_size);
    return status;
}

cl_int clEnqueueCopyImageToBuffer(cl_command_queue queue, cl_mem image, cl_mem buffer,
                                  const size_t *origin, const size_t *region, size_t offset,
                                  cl_uint num_events, const cl_event *wait_list, cl_event *event)
{
    struct command c;
    lock();
    cl_int status =
        check_mixed(queue, image, buffer, origin, region, offset, num_events, wait_list);
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_COPY_IMAGE_TO_BUFFER, num_events, wait_list,
                               event);
    if (!status) {
        SEND(copy_image_to_buffer, NULL, COMMAND(&c), .origin = VECTOR(origin),
             .region = VECTOR(region), .buffer_offset = offset, .image = image->object.id,
             .buffer = buffer->object.id);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueCopyBufferToImage(cl_command_queue queue, cl_mem buffer, cl_mem image,
                                  size_t offset, const size_t *origin, const size_t *region,
                                  cl_uint num_events, const cl_event *wait_list, cl_event *event)
{
    struct command c;
    lock();
    cl_int status =
        check_mixed(queue, image, buffer, origin, region, offset, num_events, wait_list);
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_COPY_BUFFER_TO_IMAGE, num_events, wait_list,
                               event);
    if (!status) {
        SEND(copy_buffer_to_image, NULL, COMMAND(&c), .origin = VECTOR(origin),
             .region = VECTOR(region), .buffer_offset = offset, .image = image->object.id,
             .buffer = buffer->object.id);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

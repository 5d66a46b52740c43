/* Commands on images. */
#include "memory.h"

#define VECTOR(v) {(v)[0], (v)[1], (v)[2]}

static cl_int check_image(cl_command_queue queue, cl_mem image)
{
    if (!is_image(image))
        return CL_INVALID_MEM_OBJECT;
    return image->context == queue->context ? CL_SUCCESS : CL_INVALID_CONTEXT;
}

/* The checks of all commands between an image and the program's memory, and its pitches. */
static cl_int check_transfer(cl_command_queue queue, cl_mem image, const void *ptr,
                             cl_mem_flags forbidden, const size_t *origin, const size_t *region,
                             size_t *row_pitch, size_t *slice_pitch, cl_uint num_events,
                             const cl_event *wait_list)
{
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = check_image(queue, image);
    if (!status)
        status = ptr ? image_check_region(image, origin, region) : CL_INVALID_VALUE;
    if (!status)
        status = image_host_pitches(image, region, row_pitch, slice_pitch);
    if (!status && image->flags & (forbidden | CL_MEM_HOST_NO_ACCESS))
        status = CL_INVALID_OPERATION;
    return status;
}

cl_int clEnqueueReadImage(cl_command_queue queue, cl_mem image, cl_bool blocking,
                          const size_t *origin, const size_t *region, size_t row_pitch,
                          size_t slice_pitch, void *ptr, cl_uint num_events,
                          const cl_event *wait_list, cl_event *event)
{
    struct command c;
    lock();
    cl_int status = check_transfer(queue, image, ptr, CL_MEM_HOST_WRITE_ONLY, origin, region,
                                   &row_pitch, &slice_pitch, num_events, wait_list);
    size_t size[3] = {0};
    struct piece *piece = NULL;
    if (!status) {
        size[0] = region[0] * image->element_size;
        size[1] = region[1];
        size[2] = region[2];
        if (!(piece = piece_take(size[0] * size[1] * size[2])))
            status = CL_OUT_OF_HOST_MEMORY;
    }
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_READ_IMAGE, num_events, wait_list,
                               event || blocking);
    if (!status) {
        SEND(read_image, NULL, COMMAND(&c), .origin = VECTOR(origin), .region = VECTOR(region),
             .blob_offset = piece->offset, .image = image->object.id,
             .blob = piece->blob->resource);
        copy_after(piece, (struct box){ptr, row_pitch, slice_pitch}, size);
        status = command_end(&c, event, blocking);
    } else if (piece) {
        piece_give(piece);
    }
    unlock();
    return status;
}

cl_int clEnqueueWriteImage(cl_command_queue queue, cl_mem image, cl_bool blocking,
                           const size_t *origin, const size_t *region, size_t row_pitch,
                           size_t slice_pitch, const void *ptr, cl_uint num_events,
                           const cl_event *wait_list, cl_event *event)
{
    struct command c;
    lock();
    cl_int status = check_transfer(queue, image, ptr, CL_MEM_HOST_READ_ONLY, origin, region,
                                   &row_pitch, &slice_pitch, num_events, wait_list);
    size_t size[3] = {0};
    struct piece *piece = NULL;
    if (!status) {
        size[0] = region[0] * image->element_size;
        size[1] = region[1];
        size[2] = region[2];
        if (!(piece = piece_take(size[0] * size[1] * size[2])))
            status = CL_OUT_OF_HOST_MEMORY;
    }
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_WRITE_IMAGE, num_events, wait_list,
                               event || blocking);
    if (!status) {
        copy_box((struct box){piece->bytes, size[0], size[0] * size[1]},
                 (struct box){(uint8_t *)(uintptr_t)ptr, row_pitch, slice_pitch}, size);
        SEND(write_image, NULL, COMMAND(&c), .origin = VECTOR(origin), .region = VECTOR(region),
             .blob_offset = piece->offset, .image = image->object.id,
             .blob = piece->blob->resource);
        piece_give_after(piece);
        status = command_end(&c, event, blocking);
    } else if (piece) {
        piece_give(piece);
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
        status = check_image(queue, image);
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
        status = check_image(queue, source);
    if (!status)
        status = check_image(queue, destination);
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
        status = check_image(queue, image);
    if (!status && !is_buffer(buffer))
        status = CL_INVALID_MEM_OBJECT;
    if (!status && buffer->context != queue->context)
        status = CL_INVALID_CONTEXT;
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

/* Commands on buffers. The program's own memory is out of the device's reach: bytes travel through
 * pieces that the device reaches, or straight from or to a buffer that is such memory itself. */
#include <string.h>

#include "memory.h"

#define INLINE_UP_TO 4096u
#define STRAIGHT_FROM (256u << 10)

bool is_buffer(cl_mem memory)
{
    return is_object(memory, MEMORY) && memory->type == CL_MEM_OBJECT_BUFFER;
}

cl_int buffer_check_range(cl_mem buffer, size_t offset, size_t size)
{
    return !size || offset > buffer->size || size > buffer->size - offset ? CL_INVALID_VALUE
                                                                          : CL_SUCCESS;
}

/* Wait for what came before, and have the buffer's bytes true in its blob. */
static cl_int open_blob(struct command *c, cl_command_queue queue, cl_mem buffer,
                        cl_map_flags flags, size_t offset, size_t size, cl_command_type type,
                        cl_uint num_events, const cl_event *wait_list, uint32_t *mapping)
{
    cl_int status = command_begin(c, queue, type, num_events, wait_list, true);
    if (status)
        return status;
    *mapping = id_new();
    SEND(map_buffer, NULL, COMMAND(c), .flags = flags, .offset = offset, .size = size,
         .buffer = buffer->object.id, .id = *mapping);
    return CL_SUCCESS;
}

static cl_int read_straight(cl_command_queue queue, cl_mem buffer, size_t offset, size_t size,
                            void *ptr, cl_uint num_events, const cl_event *wait_list,
                            cl_event *event)
{
    struct command c, unmap;
    uint32_t mapping;
    object_use(buffer);
    object_use(queue);
    cl_int status = open_blob(&c, queue, buffer, CL_MAP_READ, offset, size, CL_COMMAND_READ_BUFFER,
                              num_events, wait_list, &mapping);
    if (!status) {
        status = command_end(&c, event, true);
        if (!status) {
            memcpy(ptr, buffer->blob->bytes + buffer->blob_offset + offset, size);
            if (!command_begin(&unmap, queue, 0, 0, NULL, false)) {
                SEND(unmap, NULL, COMMAND(&unmap), .mapping = mapping);
                command_end(&unmap, NULL, false);
            }
        }
        id_free(mapping);
    }
    object_drop(queue);
    object_drop(buffer);
    return status;
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
                           size_t size, void *ptr, cl_uint num_events, const cl_event *wait_list,
                           cl_event *event)
{
    lock();
    cl_int status = transfer_check(queue, buffer, is_buffer, ptr, CL_MEM_HOST_WRITE_ONLY,
                                   num_events, wait_list);
    if (!status)
        status = buffer_check_range(buffer, offset, size);
    if (!status && blocking && buffer->blob && size >= STRAIGHT_FROM) {
        status = read_straight(queue, buffer, offset, size, ptr, num_events, wait_list, event);
        unlock();
        return status;
    }
    struct transfer t;
    if (!status)
        status = transfer_begin(&t, queue, CL_COMMAND_READ_BUFFER, (struct box){ptr, size, size},
                                (const size_t[]){size, 1, 1}, num_events, wait_list,
                                event || blocking);
    if (!status) {
        SEND(read_buffer, NULL, COMMAND(&t.command), .offset = offset, .size = size,
             .blob_offset = t.piece->offset, .buffer = buffer->object.id,
             .blob = t.piece->blob->resource);
        status = transfer_end_read(&t, event, blocking);
    }
    unlock();
    return status;
}

static cl_int write_straight(cl_command_queue queue, cl_mem buffer, size_t offset, size_t size,
                             const void *ptr, cl_uint num_events, const cl_event *wait_list,
                             cl_event *event)
{
    struct command c, unmap;
    uint32_t mapping;
    object_use(buffer);
    object_use(queue);
    cl_int status = open_blob(&c, queue, buffer, CL_MAP_WRITE_INVALIDATE_REGION, offset, size,
                              CL_COMMAND_WRITE_BUFFER, num_events, wait_list, &mapping);
    if (!status) {
        status = command_end(&c, NULL, true);
        if (!status) {
            memcpy(buffer->blob->bytes + buffer->blob_offset + offset, ptr, size);
            status = command_begin(&unmap, queue, CL_COMMAND_WRITE_BUFFER, 0, NULL, event);
        }
        if (!status) {
            SEND(unmap, NULL, COMMAND(&unmap), .mapping = mapping);
            status = command_end(&unmap, event, false);
        }
        id_free(mapping);
    }
    object_drop(queue);
    object_drop(buffer);
    return status;
}

static cl_int write_staged(cl_command_queue queue, cl_mem buffer, bool blocking, size_t offset,
                           size_t size, const void *ptr, cl_uint num_events,
                           const cl_event *wait_list, cl_event *event)
{
    struct piece *piece = NULL;
    struct command c;
    if (size > INLINE_UP_TO) {
        piece = piece_take(size);
        if (!piece)
            return CL_OUT_OF_HOST_MEMORY;
        memcpy(piece->bytes, ptr, size);
    }
    /* The bytes are taken: a blocking write has no more to wait for, unless it may fail. */
    bool wait = blocking && num_events;
    cl_int status = command_begin(&c, queue, CL_COMMAND_WRITE_BUFFER, num_events, wait_list,
                                  event || wait);
    if (status) {
        if (piece)
            piece_give(piece);
        return status;
    }
    if (piece) {
        SEND(write_buffer, NULL, COMMAND(&c), .offset = offset, .size = size,
             .blob_offset = piece->offset, .buffer = buffer->object.id,
             .blob = piece->blob->resource);
        piece_give_after(piece);
    } else {
        SEND(write_buffer_inline, NULL, COMMAND(&c), .offset = offset,
             .buffer = buffer->object.id, .data = ptr, .data_count = (uint32_t)size);
    }
    return command_end(&c, event, wait);
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                            size_t offset, size_t size, const void *ptr, cl_uint num_events,
                            const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = transfer_check(queue, buffer, is_buffer, ptr, CL_MEM_HOST_READ_ONLY,
                                   num_events, wait_list);
    if (!status)
        status = buffer_check_range(buffer, offset, size);
    const bool in_order =
        !status && !(queue->properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    if (!status && blocking && buffer->blob && size >= STRAIGHT_FROM && in_order)
        status = write_straight(queue, buffer, offset, size, ptr, num_events, wait_list, event);
    else if (!status)
        status = write_staged(queue, buffer, blocking, offset, size, ptr, num_events, wait_list,
                              event);
    unlock();
    return status;
}

/* -- boxes --------------------------------------------------------------------------------- */

struct pitches {
    size_t row, slice;
};

/* Fill in pitches of 0, and check the others. */
static cl_int check_pitches(struct pitches *pitches, const size_t *region)
{
    if (!pitches->row)
        pitches->row = region[0];
    if (!pitches->slice)
        pitches->slice = region[1] * pitches->row;
    return pitches->row < region[0] || pitches->slice < region[1] * pitches->row
                   || pitches->slice % pitches->row
               ? CL_INVALID_VALUE
               : CL_SUCCESS;
}

static size_t box_offset(const size_t *origin, const struct pitches *pitches)
{
    return origin[2] * pitches->slice + origin[1] * pitches->row + origin[0];
}

static cl_int check_box(cl_mem buffer, const size_t *origin, const size_t *region,
                        struct pitches *pitches)
{
    if (!origin || !region || !region[0] || !region[1] || !region[2])
        return CL_INVALID_VALUE;
    cl_int status = check_pitches(pitches, region);
    const size_t last[] = {origin[0] + region[0] - 1, origin[1] + region[1] - 1,
                           origin[2] + region[2] - 1};
    return !status && box_offset(last, pitches) >= buffer->size ? CL_INVALID_VALUE : status;
}

struct box_transfer {
    size_t buffer_origin[3], region[3];
    struct pitches buffer_pitches;
    struct box host;
};

static cl_int check_box_transfer(struct box_transfer *box, cl_mem buffer,
                                 const size_t *buffer_origin, const size_t *host_origin,
                                 const size_t *region, struct pitches buffer_pitches,
                                 struct pitches host_pitches, const void *ptr)
{
    cl_int status = check_box(buffer, buffer_origin, region, &buffer_pitches);
    if (!status)
        status = host_origin ? check_pitches(&host_pitches, region) : CL_INVALID_VALUE;
    if (status)
        return status;
    memcpy(box->buffer_origin, buffer_origin, sizeof box->buffer_origin);
    memcpy(box->region, region, sizeof box->region);
    box->buffer_pitches = buffer_pitches;
    box->host = (struct box){(uint8_t *)(uintptr_t)ptr + box_offset(host_origin, &host_pitches),
                             host_pitches.row, host_pitches.slice};
    return CL_SUCCESS;
}

#define BOX(box, piece)                                                                      \
    .buffer_origin = VECTOR((box).buffer_origin), .region = VECTOR((box).region),            \
    .buffer_row_pitch = (box).buffer_pitches.row,                                            \
    .buffer_slice_pitch = (box).buffer_pitches.slice, .blob_offset = (piece)->offset,        \
    .buffer = buffer->object.id, .blob = (piece)->blob->resource

cl_int clEnqueueReadBufferRect(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                               const size_t *buffer_origin, const size_t *host_origin,
                               const size_t *region, size_t buffer_row_pitch,
                               size_t buffer_slice_pitch, size_t host_row_pitch,
                               size_t host_slice_pitch, void *ptr, cl_uint num_events,
                               const cl_event *wait_list, cl_event *event)
{
    struct box_transfer box;
    struct transfer t;
    lock();
    cl_int status = transfer_check(queue, buffer, is_buffer, ptr, CL_MEM_HOST_WRITE_ONLY,
                                   num_events, wait_list);
    if (!status)
        status = check_box_transfer(&box, buffer, buffer_origin, host_origin, region,
                                    (struct pitches){buffer_row_pitch, buffer_slice_pitch},
                                    (struct pitches){host_row_pitch, host_slice_pitch}, ptr);
    if (!status)
        status = transfer_begin(&t, queue, CL_COMMAND_READ_BUFFER_RECT, box.host, region,
                                num_events, wait_list, event || blocking);
    if (!status) {
        SEND(read_buffer_rect, NULL, COMMAND(&t.command), BOX(box, t.piece));
        status = transfer_end_read(&t, event, blocking);
    }
    unlock();
    return status;
}

cl_int clEnqueueWriteBufferRect(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                const size_t *buffer_origin, const size_t *host_origin,
                                const size_t *region, size_t buffer_row_pitch,
                                size_t buffer_slice_pitch, size_t host_row_pitch,
                                size_t host_slice_pitch, const void *ptr, cl_uint num_events,
                                const cl_event *wait_list, cl_event *event)
{
    struct box_transfer box;
    struct transfer t;
    lock();
    cl_int status = transfer_check(queue, buffer, is_buffer, ptr, CL_MEM_HOST_READ_ONLY,
                                   num_events, wait_list);
    if (!status)
        status = check_box_transfer(&box, buffer, buffer_origin, host_origin, region,
                                    (struct pitches){buffer_row_pitch, buffer_slice_pitch},
                                    (struct pitches){host_row_pitch, host_slice_pitch}, ptr);
    if (!status)
        status = transfer_begin(&t, queue, CL_COMMAND_WRITE_BUFFER_RECT, box.host, region,
                                num_events, wait_list, event || blocking);
    if (!status) {
        transfer_fill(&t);
        SEND(write_buffer_rect, NULL, COMMAND(&t.command), BOX(box, t.piece));
        status = transfer_end_write(&t, event, blocking);
    }
    unlock();
    return status;
}

/* -- on the device ------------------------------------------------------------------------- */

cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem buffer, const void *pattern,
                           size_t pattern_size, size_t offset, size_t size, cl_uint num_events,
                           const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = memory_check(queue, buffer, is_buffer);
    if (!status
        && (!pattern || !pattern_size || pattern_size > 128 || pattern_size & (pattern_size - 1)
            || offset % pattern_size || size % pattern_size))
        status = CL_INVALID_VALUE;
    if (!status)
        status = buffer_check_range(buffer, offset, size);
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_FILL_BUFFER, num_events, wait_list, event);
    if (!status) {
        SEND(fill_buffer, NULL, COMMAND(&c), .offset = offset, .size = size,
             .buffer = buffer->object.id, .pattern = pattern,
             .pattern_count = (uint32_t)pattern_size);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

/* Whether two ranges, in buffers that may be parts of one, have bytes in common. */
static bool overlap(cl_mem source, cl_mem destination, size_t source_offset,
                    size_t destination_offset, size_t size)
{
    const struct _cl_mem *source_root = source->parent ? source->parent : source;
    const struct _cl_mem *root = destination->parent ? destination->parent : destination;
    size_t from = source->origin + source_offset, to = destination->origin + destination_offset;
    return source_root == root && (from < to ? to - from : from - to) < size;
}

cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem source, cl_mem destination,
                           size_t source_offset, size_t destination_offset, size_t size,
                           cl_uint num_events, const cl_event *wait_list, cl_event *event)
{
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = memory_check(queue, source, is_buffer);
    if (!status)
        status = memory_check(queue, destination, is_buffer);
    if (!status)
        status = buffer_check_range(source, source_offset, size);
    if (!status)
        status = buffer_check_range(destination, destination_offset, size);
    if (!status && overlap(source, destination, source_offset, destination_offset, size))
        status = CL_MEM_COPY_OVERLAP;
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_COPY_BUFFER, num_events, wait_list, event);
    if (!status) {
        SEND(copy_buffer, NULL, COMMAND(&c), .source_offset = source_offset,
             .destination_offset = destination_offset, .size = size,
             .source = source->object.id, .destination = destination->object.id);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueCopyBufferRect(cl_command_queue queue, cl_mem source, cl_mem destination,
                               const size_t *source_origin, const size_t *destination_origin,
                               const size_t *region, size_t source_row_pitch,
                               size_t source_slice_pitch, size_t destination_row_pitch,
                               size_t destination_slice_pitch, cl_uint num_events,
                               const cl_event *wait_list, cl_event *event)
{
    struct pitches from = {source_row_pitch, source_slice_pitch};
    struct pitches to = {destination_row_pitch, destination_slice_pitch};
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status)
        status = memory_check(queue, source, is_buffer);
    if (!status)
        status = memory_check(queue, destination, is_buffer);
    if (!status)
        status = check_box(source, source_origin, region, &from);
    if (!status)
        status = check_box(destination, destination_origin, region, &to);
    if (!status && source == destination && (from.row != to.row || from.slice != to.slice))
        status = CL_INVALID_VALUE;
    struct command c;
    if (!status)
        status =
            command_begin(&c, queue, CL_COMMAND_COPY_BUFFER_RECT, num_events, wait_list, event);
    if (!status) {
        SEND(copy_buffer_rect, NULL, COMMAND(&c), .source_origin = VECTOR(source_origin),
             .destination_origin = VECTOR(destination_origin), .region = VECTOR(region),
             .source_row_pitch = from.row, .source_slice_pitch = from.slice,
             .destination_row_pitch = to.row, .destination_slice_pitch = to.slice,
             .source = source->object.id, .destination = destination->object.id);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

cl_int clEnqueueMigrateMemObjects(cl_command_queue queue, cl_uint num_memories,
                                  const cl_mem *memories, cl_mem_migration_flags flags,
                                  cl_uint num_events, const cl_event *wait_list, cl_event *event)
{
    uint32_t ids[1024];
    const cl_mem_migration_flags known =
        CL_MIGRATE_MEM_OBJECT_HOST | CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED;
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status && (!num_memories || !memories || flags & ~known || num_memories > 1024))
        status = CL_INVALID_VALUE;
    for (cl_uint i = 0; !status && i < num_memories; i++) {
        if (!is_object(memories[i], MEMORY))
            status = CL_INVALID_MEM_OBJECT;
        else if (memories[i]->context != queue->context)
            status = CL_INVALID_CONTEXT;
        else
            ids[i] = memories[i]->object.id;
    }
    struct command c;
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_MIGRATE_MEM_OBJECTS, num_events, wait_list,
                               event);
    if (!status) {
        SEND(migrate_memory, NULL, COMMAND(&c), .flags = flags, .memories = ids,
             .memories_count = num_memories);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

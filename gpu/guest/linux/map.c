/* Mapping. A buffer that is a blob is mapped where it lies; anything else is read into a piece, or
 * to the host pointer that the program gave, and written back when it is unmapped. */
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define VECTOR(v) {(v)[0], (v)[1], (v)[2]}
#define FOR_WRITING ((cl_map_flags)(CL_MAP_WRITE | CL_MAP_WRITE_INVALIDATE_REGION))

static cl_int check_flags(cl_mem memory, cl_map_flags flags)
{
    if (flags & ~(FOR_WRITING | CL_MAP_READ)
        || (flags & CL_MAP_WRITE_INVALIDATE_REGION && flags & (CL_MAP_READ | CL_MAP_WRITE)))
        return CL_INVALID_VALUE;
    if (flags & CL_MAP_READ && memory->flags & (CL_MEM_HOST_WRITE_ONLY | CL_MEM_HOST_NO_ACCESS))
        return CL_INVALID_OPERATION;
    if (flags & FOR_WRITING && memory->flags & (CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_NO_ACCESS))
        return CL_INVALID_OPERATION;
    return CL_SUCCESS;
}

static struct mapping *mapping_new(cl_mem memory, cl_map_flags flags)
{
    struct mapping *mapping = calloc(1, sizeof *mapping);
    if (mapping) {
        mapping->flags = flags;
        mapping->next = memory->mappings;
        memory->mappings = mapping;
    }
    return mapping;
}

static void mapping_end(cl_mem memory, struct mapping *ended)
{
    struct mapping **link = &memory->mappings;
    while (*link && *link != ended)
        link = &(*link)->next;
    if (*link)
        *link = ended->next;
    if (ended->id)
        id_free(ended->id);
    free(ended);
}

/* What is read in a map whose bytes are needed, copied to the host pointer when it is there. */
struct arrival {
    struct after after;
    struct piece *piece;
    struct box to;
    size_t size[3];
};

static void arrive(struct after *after)
{
    struct arrival *arrival = (struct arrival *)after;
    copy_box(arrival->to,
             (struct box){arrival->piece->bytes, arrival->size[0],
                          arrival->size[0] * arrival->size[1]},
             arrival->size);
    free(arrival);
}

static void copy_to_host(struct piece *piece, struct box to, const size_t size[3])
{
    struct arrival *arrival = malloc(sizeof *arrival);
    if (!arrival)
        return;
    *arrival = (struct arrival){{NULL, arrive}, piece, to, {size[0], size[1], size[2]}};
    stream_after(&arrival->after);
}

static void *map_buffer(cl_command_queue queue, cl_mem buffer, bool blocking, cl_map_flags flags,
                        size_t offset, size_t size, cl_uint num_events, const cl_event *wait_list,
                        cl_event *event, cl_int *status)
{
    const bool in_place = buffer->blob && !buffer->host_ptr;
    struct piece *piece = in_place ? NULL : piece_take(size);
    struct mapping *mapping = mapping_new(buffer, flags);
    struct command c;
    *status = CL_OUT_OF_HOST_MEMORY;
    if (mapping && (piece || in_place))
        *status = command_begin(&c, queue, CL_COMMAND_MAP_BUFFER, num_events, wait_list,
                                event || blocking);
    if (*status) {
        if (mapping)
            mapping_end(buffer, mapping);
        if (piece)
            piece_give(piece);
        return NULL;
    }
    mapping->piece = piece;
    mapping->origin[0] = offset;
    mapping->region[0] = size;
    mapping->pointer = in_place           ? buffer->blob->bytes + buffer->blob_offset + offset
                       : buffer->host_ptr ? buffer->host_ptr + offset
                                          : piece->bytes;
    if (in_place) {
        mapping->id = id_new();
        /* The device wants to be told of a direction; a program need not say one. */
        SEND(map_buffer, NULL, COMMAND(&c),
             .flags = flags ? flags : CL_MAP_READ | CL_MAP_WRITE, .offset = offset, .size = size,
             .buffer = buffer->object.id, .id = mapping->id);
    } else if (flags & CL_MAP_WRITE_INVALIDATE_REGION) {
        SEND(marker, NULL, COMMAND(&c));
    } else {
        SEND(read_buffer, NULL, COMMAND(&c), .offset = offset, .size = size,
             .blob_offset = piece->offset, .buffer = buffer->object.id,
             .blob = piece->blob->resource);
        if (buffer->host_ptr)
            copy_to_host(piece, (struct box){mapping->pointer, size, size},
                         (const size_t[]){size, 1, 1});
    }
    void *pointer = mapping->pointer;
    *status = command_end(&c, event, blocking);
    return *status ? NULL : pointer;
}

void *clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                         cl_map_flags flags, size_t offset, size_t size, cl_uint num_events,
                         const cl_event *wait_list, cl_event *event, cl_int *status)
{
    void *pointer = NULL;
    lock();
    cl_int wrong = command_check(queue, num_events, wait_list);
    if (!wrong && !is_buffer(buffer))
        wrong = CL_INVALID_MEM_OBJECT;
    if (!wrong && buffer->context != queue->context)
        wrong = CL_INVALID_CONTEXT;
    if (!wrong)
        wrong = buffer_check_range(buffer, offset, size);
    if (!wrong)
        wrong = check_flags(buffer, flags);
    if (!wrong)
        pointer = map_buffer(queue, buffer, blocking, flags, offset, size, num_events, wait_list,
                             event, &wrong);
    unlock();
    if (status)
        *status = wrong;
    return pointer;
}

static void *map_image(cl_command_queue queue, cl_mem image, bool blocking, cl_map_flags flags,
                       const size_t *origin, const size_t *region, cl_uint num_events,
                       const cl_event *wait_list, cl_event *event, size_t *row_pitch,
                       size_t *slice_pitch, cl_int *status)
{
    const size_t size[] = {region[0] * image->element_size, region[1], region[2]};
    struct piece *piece = piece_take(size[0] * size[1] * size[2]);
    struct mapping *mapping = mapping_new(image, flags);
    struct command c;
    *status = CL_OUT_OF_HOST_MEMORY;
    if (mapping && piece)
        *status = command_begin(&c, queue, CL_COMMAND_MAP_IMAGE, num_events, wait_list,
                                event || blocking);
    if (*status) {
        if (mapping)
            mapping_end(image, mapping);
        if (piece)
            piece_give(piece);
        return NULL;
    }
    mapping->piece = piece;
    memcpy(mapping->origin, origin, sizeof mapping->origin);
    memcpy(mapping->region, region, sizeof mapping->region);
    mapping->row_pitch = image->host_ptr ? image->row_pitch : size[0];
    mapping->slice_pitch = image->host_ptr ? image->slice_pitch : size[0] * size[1];
    mapping->pointer = piece->bytes;
    if (image->host_ptr)
        mapping->pointer = image->host_ptr + origin[0] * image->element_size
                           + origin[1] * image->row_pitch + origin[2] * image->slice_pitch;
    if (flags & CL_MAP_WRITE_INVALIDATE_REGION) {
        SEND(marker, NULL, COMMAND(&c));
    } else {
        SEND(read_image, NULL, COMMAND(&c), .origin = VECTOR(origin), .region = VECTOR(region),
             .blob_offset = piece->offset, .image = image->object.id,
             .blob = piece->blob->resource);
        if (image->host_ptr)
            copy_to_host(
                piece, (struct box){mapping->pointer, mapping->row_pitch, mapping->slice_pitch},
                size);
    }
    /* The rows of a 1D array's region are its images. */
    const bool is_1d_array = image->type == CL_MEM_OBJECT_IMAGE1D_ARRAY;
    *row_pitch = mapping->row_pitch;
    if (slice_pitch)
        *slice_pitch = is_1d_array ? mapping->row_pitch : mapping->slice_pitch;
    void *pointer = mapping->pointer;
    *status = command_end(&c, event, blocking);
    return *status ? NULL : pointer;
}

void *clEnqueueMapImage(cl_command_queue queue, cl_mem image, cl_bool blocking,
                        cl_map_flags flags, const size_t *origin, const size_t *region,
                        size_t *row_pitch, size_t *slice_pitch, cl_uint num_events,
                        const cl_event *wait_list, cl_event *event, cl_int *status)
{
    void *pointer = NULL;
    lock();
    cl_int wrong = command_check(queue, num_events, wait_list);
    if (!wrong && !is_image(image))
        wrong = CL_INVALID_MEM_OBJECT;
    if (!wrong && image->context != queue->context)
        wrong = CL_INVALID_CONTEXT;
    if (!wrong)
        wrong = row_pitch ? image_check_region(image, origin, region) : CL_INVALID_VALUE;
    if (!wrong) {
        const cl_mem_object_type type = image->type;
        const bool has_slices = type == CL_MEM_OBJECT_IMAGE3D
                                || type == CL_MEM_OBJECT_IMAGE2D_ARRAY
                                || type == CL_MEM_OBJECT_IMAGE1D_ARRAY;
        wrong = has_slices && !slice_pitch ? CL_INVALID_VALUE : check_flags(image, flags);
        if (!has_slices && slice_pitch) {
            *slice_pitch = 0;
            slice_pitch = NULL;
        }
    }
    if (!wrong)
        pointer = map_image(queue, image, blocking, flags, origin, region, num_events, wait_list,
                            event, row_pitch, slice_pitch, &wrong);
    unlock();
    if (status)
        *status = wrong;
    return pointer;
}

/* Send back what the program may have written. */
static void write_back(struct command *c, cl_mem memory, const struct mapping *mapping)
{
    const size_t element = memory->type == CL_MEM_OBJECT_BUFFER ? 1 : memory->element_size;
    const bool is_flat = memory->type == CL_MEM_OBJECT_BUFFER;
    const size_t size[] = {mapping->region[0] * element, is_flat ? 1 : mapping->region[1],
                           is_flat ? 1 : mapping->region[2]};
    struct piece *piece = mapping->piece;
    if (memory->host_ptr) {
        const struct box from = {mapping->pointer, is_flat ? size[0] : mapping->row_pitch,
                                 is_flat ? size[0] : mapping->slice_pitch};
        copy_box((struct box){piece->bytes, size[0], size[0] * size[1]}, from, size);
    }
    if (is_flat)
        SEND(write_buffer, NULL, COMMAND(c), .offset = mapping->origin[0], .size = size[0],
             .blob_offset = piece->offset, .buffer = memory->object.id,
             .blob = piece->blob->resource);
    else
        SEND(write_image, NULL, COMMAND(c), .origin = VECTOR(mapping->origin),
             .region = VECTOR(mapping->region), .blob_offset = piece->offset,
             .image = memory->object.id, .blob = piece->blob->resource);
}

cl_int clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem memory, void *mapped,
                               cl_uint num_events, const cl_event *wait_list, cl_event *event)
{
    struct command c;
    struct mapping *mapping = NULL;
    lock();
    cl_int status = command_check(queue, num_events, wait_list);
    if (!status && !is_object(memory, MEMORY))
        status = CL_INVALID_MEM_OBJECT;
    if (!status && memory->context != queue->context)
        status = CL_INVALID_CONTEXT;
    if (!status) {
        mapping = memory->mappings;
        while (mapping && mapping->pointer != mapped)
            mapping = mapping->next;
        if (!mapping)
            status = CL_INVALID_VALUE;
    }
    if (!status)
        status = command_begin(&c, queue, CL_COMMAND_UNMAP_MEM_OBJECT, num_events, wait_list,
                               event);
    if (!status) {
        if (mapping->id)
            SEND(unmap, NULL, COMMAND(&c), .mapping = mapping->id);
        else if (mapping->flags & FOR_WRITING)
            write_back(&c, memory, mapping);
        else
            SEND(marker, NULL, COMMAND(&c));
        if (mapping->piece)
            piece_give_after(mapping->piece);
        mapping_end(memory, mapping);
        status = command_end(&c, event, false);
    }
    unlock();
    return status;
}

/* Boxes of bytes, and commands that bring them between the program's memory and the device's. */
#include <stdlib.h>
#include <string.h>

#include "memory.h"

void copy_box(struct box to, struct box from, const size_t size[3])
{
    for (size_t slice = 0; slice < size[2]; slice++) {
        uint8_t *to_row = to.at + slice * to.slice_pitch;
        const uint8_t *from_row = from.at + slice * from.slice_pitch;
        if (to.row_pitch == size[0] && from.row_pitch == size[0]) {
            memcpy(to_row, from_row, size[0] * size[1]);
            continue;
        }
        for (size_t row = 0; row < size[1]; row++)
            memcpy(to_row + row * to.row_pitch, from_row + row * from.row_pitch, size[0]);
    }
}

struct copy {
    struct after after;
    struct piece *piece;
    struct box to;
    size_t size[3];
};

static void copy_now(struct after *after)
{
    struct copy *copy = (struct copy *)after;
    struct box from = {copy->piece->bytes, copy->size[0], copy->size[0] * copy->size[1]};
    copy_box(copy->to, from, copy->size);
    piece_give(copy->piece);
    free(copy);
}

static bool copy_after(struct piece *piece, struct box to, const size_t size[3])
{
    struct copy *copy = malloc(sizeof *copy);
    if (!copy)
        return false;
    *copy = (struct copy){{NULL, copy_now}, piece, to, {size[0], size[1], size[2]}};
    stream_after(&copy->after);
    return true;
}

cl_int memory_check(cl_command_queue queue, cl_mem memory, bool (*is_kind)(cl_mem))
{
    if (!is_kind(memory))
        return CL_INVALID_MEM_OBJECT;
    return memory->context == queue->context ? CL_SUCCESS : CL_INVALID_CONTEXT;
}

cl_int transfer_check(cl_command_queue queue, cl_mem memory, bool (*is_kind)(cl_mem),
                      const void *ptr, cl_mem_flags forbidden, cl_uint count,
                      const cl_event *waits)
{
    cl_int status = command_check(queue, count, waits);
    if (!status)
        status = memory_check(queue, memory, is_kind);
    if (!status && !ptr)
        status = CL_INVALID_VALUE;
    if (!status && memory->flags & (forbidden | CL_MEM_HOST_NO_ACCESS))
        status = CL_INVALID_OPERATION;
    return status;
}

cl_int transfer_begin(struct transfer *transfer, cl_command_queue queue, cl_command_type type,
                      struct box host, const size_t size[3], cl_uint count, const cl_event *waits,
                      bool with_event)
{
    transfer->host = host;
    memcpy(transfer->size, size, sizeof transfer->size);
    transfer->piece = piece_take(size[0] * size[1] * size[2]);
    if (!transfer->piece)
        return CL_OUT_OF_HOST_MEMORY;
    cl_int status = command_begin(&transfer->command, queue, type, count, waits, with_event);
    if (status)
        piece_give(transfer->piece);
    return status;
}

void transfer_fill(struct transfer *transfer)
{
    const size_t *size = transfer->size;
    copy_box((struct box){transfer->piece->bytes, size[0], size[0] * size[1]}, transfer->host,
             size);
}

cl_int transfer_end_read(struct transfer *transfer, cl_event *event, bool blocking)
{
    bool will_copy = copy_after(transfer->piece, transfer->host, transfer->size);
    if (!will_copy)
        piece_give_after(transfer->piece);
    cl_int status = command_end(&transfer->command, will_copy ? event : NULL, blocking);
    return will_copy || status ? status : CL_OUT_OF_HOST_MEMORY;
}

cl_int transfer_end_write(struct transfer *transfer, cl_event *event, bool blocking)
{
    piece_give_after(transfer->piece);
    return command_end(&transfer->command, event, blocking);
}

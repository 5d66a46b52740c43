/* Memory objects: what buffers and images have in common. */
#pragma once

#include "library.h"

#define FLAGS_OF_DEVICE                                                                 \
    ((cl_mem_flags)(CL_MEM_READ_WRITE | CL_MEM_WRITE_ONLY | CL_MEM_READ_ONLY            \
                    | CL_MEM_HOST_WRITE_ONLY | CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_NO_ACCESS))

bool is_memory(const void *pointer);
cl_int memory_check_flags(cl_mem_flags flags, const void *host_ptr);
cl_mem memory_new(cl_context context, cl_mem_object_type type, cl_mem_flags flags, size_t size);
/* Send the making of an object, and take its answer: the piece is given back. */
cl_int memory_made(struct piece *answer);
cl_mem memory_give(cl_mem memory, cl_int wrong, cl_int *status);

bool is_buffer(cl_mem memory);
bool is_image(cl_mem memory);
/* Whether an object is of a kind, and of the queue's context: CL_SUCCESS or the error. */
cl_int memory_check(cl_command_queue queue, cl_mem memory, bool (*is_kind)(cl_mem));
/* An image's size as the regions of commands have it. */
void image_shape(cl_mem image, size_t shape[3]);
/* Checks of a command's part of an image or a buffer: CL_SUCCESS or the error. */
cl_int image_check_region(cl_mem image, const size_t *origin, const size_t *region);
cl_int buffer_check_range(cl_mem buffer, size_t offset, size_t size);
/* The pitch of rows and slices in the program's memory, 0 where tightly packed. */
cl_int image_host_pitches(cl_mem image, const size_t *region, size_t *row_pitch,
                          size_t *slice_pitch);

#define VECTOR(v) {(v)[0], (v)[1], (v)[2]}

/* -- commands between an object and the program's memory (boxes.c) ------------------------- */

/* Its bytes travel through a piece. `size` is bytes of a row, rows, slices. */
struct transfer {
    struct command command;
    struct piece *piece;
    struct box host;
    size_t size[3];
};

/* The checks that all of them have. An object with one of the `forbidden` flags takes none. */
cl_int transfer_check(cl_command_queue queue, cl_mem memory, bool (*is_kind)(cl_mem),
                      const void *ptr, cl_mem_flags forbidden, cl_uint count,
                      const cl_event *waits);
cl_int transfer_begin(struct transfer *transfer, cl_command_queue queue, cl_command_type type,
                      struct box host, const size_t size[3], cl_uint count, const cl_event *waits,
                      bool with_event);
/* Before a write is sent: the piece gets the program's bytes. */
void transfer_fill(struct transfer *transfer);
/* After a read was sent: the program gets the bytes when it is complete. */
cl_int transfer_end_read(struct transfer *transfer, cl_event *event, bool blocking);
cl_int transfer_end_write(struct transfer *transfer, cl_event *event, bool blocking);

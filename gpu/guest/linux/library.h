/* What the parts of the library share. One lock guards all of it: functions here are called with
 * the lock held unless they say otherwise. */
#pragma once

#include <CL/cl.h>
#include <stdbool.h>
#include <stdint.h>

#include "gpu_protocol.h"
#include "virtgpu.h"

/* -- objects (objects.c) ------------------------------------------------------------------- */

enum kind {
    PLATFORM = 0x434c5031,
    DEVICE,
    CONTEXT,
    QUEUE,
    MEMORY,
    SAMPLER,
    PROGRAM,
    KERNEL,
    EVENT,
};

/* Every object of the API begins with this. The ICD loader looks at its first pointer only. */
struct object {
    const void *const *dispatch;
    uint32_t kind;
    uint32_t references; /* the program's */
    uint32_t uses;       /* other objects' and unfinished commands' */
    uint32_t id;         /* the device's name for it; 0: it has none */
};

extern const void *const icd_dispatch[];

bool is_object(const void *object, enum kind kind);
/* Zeroed, with one reference. */
void *object_new(enum kind kind, size_t size);
cl_int object_retain(void *object, enum kind kind, cl_int error);
cl_int object_release(void *object, enum kind kind, cl_int error);
void object_use(void *object);
void object_drop(void *object);
/* Give up an object that nobody has seen: the device does not have it. */
void object_discard(void *object);
uint32_t id_new(void);
void id_free(uint32_t id);

void lock(void);
void unlock(void);
/* Free the lock until an event is complete. */
void wait_for_change(void);
void tell_change(void);

/* Answer a query for information; needs no lock. */
cl_int give(const void *from, size_t from_size, size_t size, void *value, size_t *size_ret);
cl_int give_text(const char *text, size_t size, void *value, size_t *size_ret);
#define GIVE(type, expression)                                   \
    do {                                                         \
        type given_ = (expression);                              \
        return give(&given_, sizeof given_, size, value, size_ret); \
    } while (0)
#define FAIL(error)           \
    do {                      \
        if (status)           \
            *status = (error); \
        return NULL;          \
    } while (0)

struct _cl_platform_id {
    struct object object;
};

struct _cl_device_id {
    struct object object;
};

struct _cl_context {
    struct object object;
    cl_context_properties *properties;
    size_t properties_size;
};

struct _cl_command_queue {
    struct object object;
    cl_context context;
    cl_command_queue_properties properties;
    struct batch *last;  /* its latest submission that is under way */
    unsigned user_waits; /* its submissions under way that may wait for a user event */
};

struct mapping {
    struct mapping *next;
    void *pointer;
    cl_map_flags flags;
    size_t origin[3], region[3]; /* bytes of a buffer, elements of an image */
    size_t row_pitch, slice_pitch;
    uint32_t id;         /* of a MapBuffer; 0 where the bytes travel through `piece` */
    struct piece *piece; /* mapped bytes, where they are not the object's own */
    bool pending;        /* the map command is not complete yet */
};

struct destructor {
    struct destructor *next;
    void (*notify)(cl_mem, void *);
    void *user_data;
};

struct _cl_mem {
    struct object object;
    cl_context context;
    cl_mem parent; /* the buffer that this is a part or an image of */
    cl_mem_object_type type;
    cl_mem_flags flags;
    size_t size, origin;
    uint8_t *host_ptr;
    struct blob *blob; /* whose bytes the buffer is; the parent's of a sub-buffer */
    uint64_t blob_offset;
    struct mapping *mappings;
    struct destructor *destructors;
    /* images only */
    cl_image_format format;
    cl_image_desc desc;
    size_t element_size;
    size_t row_pitch, slice_pitch; /* of host_ptr, or as if tightly packed */
    struct _cl_mem *next, **link;  /* all that live */
};

struct _cl_sampler {
    struct object object;
    cl_context context;
    cl_bool normalized;
    cl_addressing_mode addressing;
    cl_filter_mode filter;
    struct _cl_sampler *next, **link;
};

struct _cl_program {
    struct object object;
    cl_context context;
    char *source;
    char *options, *log, *kernel_names;
    uint8_t *key;
    size_t key_size;
    cl_build_status build_status;
    cl_program_binary_type binary_type;
    uint32_t kernels; /* made of it, and not released */
};

struct argument {
    cl_kernel_arg_address_qualifier address;
    cl_kernel_arg_access_qualifier access;
    cl_kernel_arg_type_qualifier type_qualifier;
    const char *type_name, *name;
    bool is_set;
};

struct _cl_kernel {
    struct object object;
    cl_program program;
    char *name, *attributes;
    struct gpu_kernel_info info;
    void *answer; /* where `info` points to */
    struct argument *arguments;
};

struct callback {
    struct callback *next;
    void (*notify)(cl_event, cl_int, void *);
    void *user_data;
    cl_int type;
};

struct _cl_event {
    struct object object;
    cl_context context;
    cl_command_queue queue; /* none: a user event */
    cl_command_type type;
    cl_int status;
    bool waits_for_user;    /* it may depend on a user event that is not complete */
    struct batch *batch;    /* the submission that it completes with */
    struct piece *answer;
    struct _cl_event *next; /* in that submission */
    struct callback *callbacks;
    bool profiled;
    struct gpu_event_profile profile;
};

/* How an object of each kind ends. */
void context_destroy(cl_context context);
void queue_destroy(cl_command_queue queue);
void memory_destroy(cl_mem memory);
void sampler_destroy(cl_sampler sampler);
void program_destroy(cl_program program);
void kernel_destroy(cl_kernel kernel);
void event_destroy(cl_event event);

/* -- the device (device.c) ----------------------------------------------------------------- */

extern struct _cl_platform_id the_platform;
extern struct _cl_device_id the_device;

/* Find the device, once. False where there is none. */
bool device_open(void);
int device_file(void);
/* Make the context, once: before the first command. */
cl_int device_start(void);
/* Whether the host has an OpenCL device for us: CL_SUCCESS or an error. */
cl_int device_status(void);
uint64_t device_number(cl_device_info name, uint64_t otherwise);
void device_sizes(cl_device_info name, size_t sizes[3]);
bool are_our_devices(cl_uint count, const cl_device_id *devices);

/* -- submissions (stream.c) ---------------------------------------------------------------- */

/* What happens when a submission is complete. `run` frees it. */
struct after {
    struct after *next;
    void (*run)(struct after *);
};

/* Be ready to add a command: of a queue, or with none one that starts nothing. `apart`: it may wait
 * for something that the program does only after what came before it is complete. */
void stream_begin(cl_command_queue queue, bool apart);
/* The same with nothing that starts a command, for stream_ask. */
void stream_begin_alone(void);
/* Whether what is collected is complete after all that is in this queue: then it may be asked in
 * the same submission. */
bool stream_ends_with(cl_command_queue queue);
/* Whether what is collected may wait for a user event. */
bool stream_waits_for_user(void);
/* Wait while too much is under way; the lock is free meanwhile. */
void stream_throttle(void);
void stream_after(struct after *after);
void stream_event(cl_event event);
void stream_flush(void);
/* Send what is there, and wait until it is complete: then it has this answer, if it has any. The
 * lock is free meanwhile. */
cl_int stream_ask(const struct piece *answer);
/* Wait for a submission; the lock is free meanwhile. */
void stream_wait(struct batch *batch);
/* Wait for all of a queue. */
void stream_wait_queue(cl_command_queue queue);
/* See which submissions are complete by now. */
void stream_reap(void);
/* Its file descriptor, -1 where it has none (yet). */
int batch_fence(const struct batch *batch);
bool batch_is_sent(const struct batch *batch);
/* Whether the device has taken all that was sent. */
cl_int stream_status(void);

/* A program prints: look for text from now on. */
void printed_expect(void);
/* Write what kernels printed to the standard output; the lock is free meanwhile. */
void printed_show(cl_context context);

uint8_t *stream_end(void);
uint64_t stream_room(void);
void stream_add(uint64_t size);
bool stream_grow(uint64_t size);

/* Add a packet: SEND(release, NULL, .id = 5). */
#define SEND(name, place, ...)                                                           \
    do {                                                                                 \
        const struct gpu_##name command_ = {__VA_ARGS__};                                \
        uint64_t size_;                                                                  \
        while ((size_ = gpu_encode_##name(stream_end(), stream_room(), &command_, place)) \
               > stream_room())                                                          \
            if (!stream_grow(size_))                                                     \
                break;                                                                   \
        if (size_ <= stream_room())                                                      \
            stream_add(size_);                                                           \
    } while (0)

/* -- memory that the device can reach (arena.c) -------------------------------------------- */

struct piece {
    struct piece *next;
    struct blob *blob;
    uint64_t offset, size;
    uint8_t *bytes;
    uint32_t size_class;
};

/* At least `size` bytes, or a null pointer. */
struct piece *piece_take(uint64_t size);
/* Give it back: the device is done with it. */
void piece_give(struct piece *piece);
/* Give it back when what is being sent is complete. */
void piece_give_after(struct piece *piece);
struct blob *blob_take(uint64_t size);
/* Give it back when all that was ever sent is complete. */
void blob_give(struct blob *blob);
/* `oldest`: the number of the oldest submission that is not complete. */
void blobs_reap(uint64_t oldest);
uint64_t stream_number(void);

/* A place for an answer, marked as not answered. */
struct gpu_answer_place answer_place(struct piece *piece);
cl_int answer_status(const struct piece *piece);
/* Whether there is one. Not where it is known to be missing only because the device is lost. */
bool is_answered(const struct piece *piece);
/* The fields of an answer, and their size. */
const void *answer_body(const struct piece *piece, uint64_t *size);

/* -- commands (command.c) ------------------------------------------------------------------ */

/* An enqueued command in the making. */
struct command {
    cl_command_queue queue;
    cl_event event;
    uint32_t event_id;
    uint32_t *waits;
    uint32_t wait_count;
    uint32_t few_waits[8];
};

#define COMMAND(c)                                                                    \
    .queue = (c)->queue->object.id, .event = (c)->event_id, .wait = (c)->waits, \
    .wait_count = (c)->wait_count

cl_int command_check(cl_command_queue queue, cl_uint count, const cl_event *waits);
/* After command_check. `with_event`: the program or the library wants to know when it ends. */
cl_int command_begin(struct command *command, cl_command_queue queue, cl_command_type type,
                     cl_uint count, const cl_event *waits, bool with_event);
/* Hands out the event, and waits for it where `blocking`. */
cl_int command_end(struct command *command, cl_event *event, bool blocking);

/* -- events (event.c) ---------------------------------------------------------------------- */

cl_event event_new(cl_context context, cl_command_queue queue, cl_command_type type);
void event_complete(cl_event event, cl_int status);
/* Wait for an event; the lock is free meanwhile. */
void event_wait(cl_event event);
/* Call a function on the library's own thread. */
struct call {
    struct call *next;
    void (*run)(struct call *);
};
void call_later(struct call *call);

/* -- bytes (boxes.c) ----------------------------------------------------------------------- */

/* A box of bytes: `size` is bytes of a row, rows, slices. */
struct box {
    uint8_t *at;
    size_t row_pitch, slice_pitch;
};
void copy_box(struct box to, struct box from, const size_t size[3]);

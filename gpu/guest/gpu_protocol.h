/* The GPU's command set for C guests. Generated from gpu/protocol by `make docs`.
 *
 * gpu_encode_NAME(out, room, command, answer) gives the packet's size in bytes, a multiple of 8,
 * and writes it to `out` where it fits into `room` (else writes nothing). `out` is aligned to 8.
 * `answer` says where the answer goes, or is a null pointer where none is wanted.
 *
 * gpu_decode_NAME(data, size, record) reads what the device wrote: `data` is aligned to 8, and
 * `size` its bytes. Lists are pointers into `data`. 0 where the bytes are no such record.
 *
 * Needs no library, and little-endian memory. SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef GPU_PROTOCOL_H
#define GPU_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#define GPU_VERSION 1u
#define GPU_CAPSET 30u
#define GPU_FLAG_ANSWER 1u
#define GPU_MAX_STREAM 4194304u
#define GPU_MAX_COMMANDS 65536u
#define GPU_MAX_OBJECTS 1048576u
#define GPU_MAX_ANSWER 1048576u
#define GPU_MAX_INLINE 65536u
#define GPU_RINGS 64u

enum gpu_opcode {
    GPU_GET_ERROR = 0x0001,
    GPU_RELEASE = 0x0002,
    GPU_READ_PRINTED = 0x0003,
    GPU_CREATE_CONTEXT = 0x0100,
    GPU_CREATE_QUEUE = 0x0101,
    GPU_CREATE_BUFFER = 0x0110,
    GPU_CREATE_SUB_BUFFER = 0x0111,
    GPU_CREATE_IMAGE = 0x0112,
    GPU_CREATE_SAMPLER = 0x0113,
    GPU_CREATE_PROGRAM = 0x0120,
    GPU_CREATE_PROGRAM_WITH_BINARY = 0x0121,
    GPU_BUILD_PROGRAM = 0x0122,
    GPU_COMPILE_PROGRAM = 0x0123,
    GPU_LINK_PROGRAM = 0x0124,
    GPU_GET_PROGRAM_BUILD = 0x0125,
    GPU_GET_PROGRAM_INFO = 0x0126,
    GPU_GET_PROGRAM_PRINTS = 0x0127,
    GPU_CREATE_KERNEL = 0x0130,
    GPU_SET_ARGUMENT = 0x0131,
    GPU_SET_ARGUMENT_OBJECT = 0x0132,
    GPU_SET_ARGUMENT_LOCAL = 0x0133,
    GPU_GET_KERNEL_INFO = 0x0134,
    GPU_GET_IMAGE_FORMATS = 0x0140,
    GPU_CREATE_USER_EVENT = 0x0150,
    GPU_SET_USER_EVENT_STATUS = 0x0151,
    GPU_GET_EVENT_STATUS = 0x0152,
    GPU_GET_EVENT_PROFILE = 0x0153,
    GPU_READ_BUFFER = 0x0200,
    GPU_WRITE_BUFFER = 0x0201,
    GPU_WRITE_BUFFER_INLINE = 0x0202,
    GPU_READ_BUFFER_RECT = 0x0203,
    GPU_WRITE_BUFFER_RECT = 0x0204,
    GPU_COPY_BUFFER = 0x0205,
    GPU_COPY_BUFFER_RECT = 0x0206,
    GPU_FILL_BUFFER = 0x0207,
    GPU_READ_IMAGE = 0x0210,
    GPU_WRITE_IMAGE = 0x0211,
    GPU_COPY_IMAGE = 0x0212,
    GPU_COPY_IMAGE_TO_BUFFER = 0x0213,
    GPU_COPY_BUFFER_TO_IMAGE = 0x0214,
    GPU_FILL_IMAGE = 0x0215,
    GPU_MAP_BUFFER = 0x0220,
    GPU_MAP_IMAGE = 0x0221,
    GPU_UNMAP = 0x0222,
    GPU_MIGRATE_MEMORY = 0x0223,
    GPU_ND_RANGE = 0x0230,
    GPU_TASK = 0x0231,
    GPU_MARKER = 0x0240,
    GPU_BARRIER = 0x0241,
    GPU_FLUSH = 0x0242,
    GPU_FINISH = 0x0243,
    GPU_GRANT_MEMORY = 0x0f00,
    GPU_REVOKE_MEMORY = 0x0f01,
    GPU_SET_SCANOUT = 0x0f02,
    GPU_FLUSH_SCANOUT = 0x0f03,
};

enum gpu_addressing_mode {
    GPU_ADDRESSING_MODE_NONE = 0x1130,
    GPU_ADDRESSING_MODE_CLAMP_TO_EDGE = 0x1131,
    GPU_ADDRESSING_MODE_CLAMP = 0x1132,
    GPU_ADDRESSING_MODE_REPEAT = 0x1133,
    GPU_ADDRESSING_MODE_MIRRORED_REPEAT = 0x1134,
};

enum gpu_channel_order {
    GPU_CHANNEL_ORDER_R = 0x10b0,
    GPU_CHANNEL_ORDER_A = 0x10b1,
    GPU_CHANNEL_ORDER_RG = 0x10b2,
    GPU_CHANNEL_ORDER_RA = 0x10b3,
    GPU_CHANNEL_ORDER_RGB = 0x10b4,
    GPU_CHANNEL_ORDER_RGBA = 0x10b5,
    GPU_CHANNEL_ORDER_BGRA = 0x10b6,
    GPU_CHANNEL_ORDER_ARGB = 0x10b7,
    GPU_CHANNEL_ORDER_INTENSITY = 0x10b8,
    GPU_CHANNEL_ORDER_LUMINANCE = 0x10b9,
    GPU_CHANNEL_ORDER_RX = 0x10ba,
    GPU_CHANNEL_ORDER_RGX = 0x10bb,
    GPU_CHANNEL_ORDER_RGBX = 0x10bc,
    GPU_CHANNEL_ORDER_DEPTH = 0x10bd,
    GPU_CHANNEL_ORDER_DEPTH_STENCIL = 0x10be,
};

enum gpu_channel_type {
    GPU_CHANNEL_TYPE_SNORM_INT8 = 0x10d0,
    GPU_CHANNEL_TYPE_SNORM_INT16 = 0x10d1,
    GPU_CHANNEL_TYPE_UNORM_INT8 = 0x10d2,
    GPU_CHANNEL_TYPE_UNORM_INT16 = 0x10d3,
    GPU_CHANNEL_TYPE_UNORM_SHORT_565 = 0x10d4,
    GPU_CHANNEL_TYPE_UNORM_SHORT_555 = 0x10d5,
    GPU_CHANNEL_TYPE_UNORM_INT_101010 = 0x10d6,
    GPU_CHANNEL_TYPE_SIGNED_INT8 = 0x10d7,
    GPU_CHANNEL_TYPE_SIGNED_INT16 = 0x10d8,
    GPU_CHANNEL_TYPE_SIGNED_INT32 = 0x10d9,
    GPU_CHANNEL_TYPE_UNSIGNED_INT8 = 0x10da,
    GPU_CHANNEL_TYPE_UNSIGNED_INT16 = 0x10db,
    GPU_CHANNEL_TYPE_UNSIGNED_INT32 = 0x10dc,
    GPU_CHANNEL_TYPE_HALF_FLOAT = 0x10dd,
    GPU_CHANNEL_TYPE_FLOAT = 0x10de,
    GPU_CHANNEL_TYPE_UNORM_INT24 = 0x10df,
};

enum gpu_execution {
    GPU_EXECUTION_COMPLETE = 0x0,
    GPU_EXECUTION_RUNNING = 0x1,
    GPU_EXECUTION_SUBMITTED = 0x2,
    GPU_EXECUTION_QUEUED = 0x3,
};

enum gpu_filter_mode {
    GPU_FILTER_MODE_NEAREST = 0x1140,
    GPU_FILTER_MODE_LINEAR = 0x1141,
};

enum gpu_map_flags {
    GPU_MAP_FLAGS_READ = 0x1,
    GPU_MAP_FLAGS_WRITE = 0x2,
    GPU_MAP_FLAGS_WRITE_INVALIDATE_REGION = 0x4,
};

enum gpu_mem_flags {
    GPU_MEM_FLAGS_READ_WRITE = 0x1,
    GPU_MEM_FLAGS_WRITE_ONLY = 0x2,
    GPU_MEM_FLAGS_READ_ONLY = 0x4,
    GPU_MEM_FLAGS_USE_HOST_PTR = 0x8,
    GPU_MEM_FLAGS_ALLOC_HOST_PTR = 0x10,
    GPU_MEM_FLAGS_COPY_HOST_PTR = 0x20,
    GPU_MEM_FLAGS_HOST_WRITE_ONLY = 0x80,
    GPU_MEM_FLAGS_HOST_READ_ONLY = 0x100,
    GPU_MEM_FLAGS_HOST_NO_ACCESS = 0x200,
};

enum gpu_mem_object {
    GPU_MEM_OBJECT_BUFFER = 0x10f0,
    GPU_MEM_OBJECT_IMAGE2D = 0x10f1,
    GPU_MEM_OBJECT_IMAGE3D = 0x10f2,
    GPU_MEM_OBJECT_IMAGE2D_ARRAY = 0x10f3,
    GPU_MEM_OBJECT_IMAGE1D = 0x10f4,
    GPU_MEM_OBJECT_IMAGE1D_ARRAY = 0x10f5,
    GPU_MEM_OBJECT_IMAGE1D_BUFFER = 0x10f6,
};

enum gpu_migrate_flags {
    GPU_MIGRATE_FLAGS_HOST = 0x1,
    GPU_MIGRATE_FLAGS_CONTENT_UNDEFINED = 0x2,
};

enum gpu_queue_properties {
    GPU_QUEUE_PROPERTIES_OUT_OF_ORDER_EXEC_MODE = 0x1,
    GPU_QUEUE_PROPERTIES_PROFILING = 0x2,
};

enum gpu_status {
    GPU_STATUS_SUCCESS = 0x0,
    GPU_STATUS_DEVICE_NOT_FOUND = -1,
    GPU_STATUS_DEVICE_NOT_AVAILABLE = -2,
    GPU_STATUS_COMPILER_NOT_AVAILABLE = -3,
    GPU_STATUS_MEM_OBJECT_ALLOCATION_FAILURE = -4,
    GPU_STATUS_OUT_OF_RESOURCES = -5,
    GPU_STATUS_OUT_OF_HOST_MEMORY = -6,
    GPU_STATUS_PROFILING_INFO_NOT_AVAILABLE = -7,
    GPU_STATUS_MEM_COPY_OVERLAP = -8,
    GPU_STATUS_IMAGE_FORMAT_MISMATCH = -9,
    GPU_STATUS_IMAGE_FORMAT_NOT_SUPPORTED = -10,
    GPU_STATUS_BUILD_PROGRAM_FAILURE = -11,
    GPU_STATUS_MAP_FAILURE = -12,
    GPU_STATUS_MISALIGNED_SUB_BUFFER_OFFSET = -13,
    GPU_STATUS_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST = -14,
    GPU_STATUS_COMPILE_PROGRAM_FAILURE = -15,
    GPU_STATUS_LINKER_NOT_AVAILABLE = -16,
    GPU_STATUS_LINK_PROGRAM_FAILURE = -17,
    GPU_STATUS_DEVICE_PARTITION_FAILED = -18,
    GPU_STATUS_KERNEL_ARG_INFO_NOT_AVAILABLE = -19,
    GPU_STATUS_INVALID_VALUE = -30,
    GPU_STATUS_INVALID_DEVICE_TYPE = -31,
    GPU_STATUS_INVALID_PLATFORM = -32,
    GPU_STATUS_INVALID_DEVICE = -33,
    GPU_STATUS_INVALID_CONTEXT = -34,
    GPU_STATUS_INVALID_QUEUE_PROPERTIES = -35,
    GPU_STATUS_INVALID_COMMAND_QUEUE = -36,
    GPU_STATUS_INVALID_HOST_PTR = -37,
    GPU_STATUS_INVALID_MEM_OBJECT = -38,
    GPU_STATUS_INVALID_IMAGE_FORMAT_DESCRIPTOR = -39,
    GPU_STATUS_INVALID_IMAGE_SIZE = -40,
    GPU_STATUS_INVALID_SAMPLER = -41,
    GPU_STATUS_INVALID_BINARY = -42,
    GPU_STATUS_INVALID_BUILD_OPTIONS = -43,
    GPU_STATUS_INVALID_PROGRAM = -44,
    GPU_STATUS_INVALID_PROGRAM_EXECUTABLE = -45,
    GPU_STATUS_INVALID_KERNEL_NAME = -46,
    GPU_STATUS_INVALID_KERNEL_DEFINITION = -47,
    GPU_STATUS_INVALID_KERNEL = -48,
    GPU_STATUS_INVALID_ARG_INDEX = -49,
    GPU_STATUS_INVALID_ARG_VALUE = -50,
    GPU_STATUS_INVALID_ARG_SIZE = -51,
    GPU_STATUS_INVALID_KERNEL_ARGS = -52,
    GPU_STATUS_INVALID_WORK_DIMENSION = -53,
    GPU_STATUS_INVALID_WORK_GROUP_SIZE = -54,
    GPU_STATUS_INVALID_WORK_ITEM_SIZE = -55,
    GPU_STATUS_INVALID_GLOBAL_OFFSET = -56,
    GPU_STATUS_INVALID_EVENT_WAIT_LIST = -57,
    GPU_STATUS_INVALID_EVENT = -58,
    GPU_STATUS_INVALID_OPERATION = -59,
    GPU_STATUS_INVALID_GL_OBJECT = -60,
    GPU_STATUS_INVALID_BUFFER_SIZE = -61,
    GPU_STATUS_INVALID_MIP_LEVEL = -62,
    GPU_STATUS_INVALID_GLOBAL_WORK_SIZE = -63,
    GPU_STATUS_INVALID_PROPERTY = -64,
    GPU_STATUS_INVALID_IMAGE_DESCRIPTOR = -65,
    GPU_STATUS_INVALID_COMPILER_OPTIONS = -66,
    GPU_STATUS_INVALID_LINKER_OPTIONS = -67,
    GPU_STATUS_INVALID_DEVICE_PARTITION_COUNT = -68,
};

/* Where an answer goes: `size` bytes, its header included, at `offset` of `blob`. */
struct gpu_answer_place {
    uint64_t offset;
    uint32_t blob;
    uint32_t size;
};

/* What stands there before the answer's fields: `size` is theirs. */
struct gpu_answer_header {
    int32_t status;
    uint32_t size;
};

typedef uint16_t __attribute__((may_alias)) gpu_u16_;
typedef uint32_t __attribute__((may_alias)) gpu_u32_;
typedef uint64_t __attribute__((may_alias)) gpu_u64_;

static inline void gpu_put32_(uint8_t *at, uint32_t value) { *(gpu_u32_ *)(void *)at = value; }
static inline void gpu_put64_(uint8_t *at, uint64_t value) { *(gpu_u64_ *)(void *)at = value; }
static inline uint32_t gpu_get32_(const uint8_t *at) { return *(const gpu_u32_ *)(const void *)at; }
static inline uint64_t gpu_get64_(const uint8_t *at) { return *(const gpu_u64_ *)(const void *)at; }
static inline uint64_t gpu_pad_(uint64_t size) { return (size + 7) & ~(uint64_t)7; }

/* The packet's header and its answer's place; its fields follow. */
static inline uint8_t *gpu_begin_(void *out, uint32_t opcode, uint64_t size,
                                  const struct gpu_answer_place *answer)
{
    uint8_t *at = out;
    *(gpu_u16_ *)(void *)at = (uint16_t)opcode;
    *(gpu_u16_ *)(void *)(at + 2) = answer ? GPU_FLAG_ANSWER : 0;
    gpu_put32_(at + 4, (uint32_t)size);
    at += 8;
    if (answer) {
        gpu_put64_(at, answer->offset);
        gpu_put32_(at + 8, answer->blob);
        gpu_put32_(at + 12, answer->size);
        at += 16;
    }
    return at;
}

/* The bytes of a list, padded with zeros. */
static inline uint8_t *gpu_list_(uint8_t *at, const void *list, uint64_t size)
{
    const uint8_t *from = list;
    uint64_t i = 0;
    for (; i < size; i++)
        at[i] = from[i];
    for (; i < gpu_pad_(size); i++)
        at[i] = 0;
    return at + i;
}

_Static_assert(sizeof(struct gpu_answer_place) == 16 && GPU_FLAG_ANSWER == 1, "as on the wire");
_Static_assert(sizeof(struct gpu_answer_header) == 8, "as on the wire");

/* Take the context's first error, and clear it. */
struct gpu_get_error {
    char nothing;
};

static inline uint64_t gpu_encode_get_error(void *out, uint64_t room,
    const struct gpu_get_error *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 8 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_ERROR, size, answer);
    (void)at;
    (void)command;
    return size;
}

/* clRelease*: Give up an object; its id is free again. What is enqueued keeps what it uses. */
struct gpu_release {
    uint32_t id;
};

static inline uint64_t gpu_encode_release(void *out, uint64_t room,
    const struct gpu_release *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_RELEASE, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* Take what kernels printed into a blob: u32 count of bytes, the text, and zeros. Of what is not
 * taken the context keeps CL_DEVICE_PRINTF_BUFFER_SIZE bytes. */
struct gpu_read_printed {
    uint64_t size;
    uint64_t blob_offset;
    uint32_t context;
    uint32_t blob;
};

static inline uint64_t gpu_encode_read_printed(void *out, uint64_t room,
    const struct gpu_read_printed *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 32 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_READ_PRINTED, size, answer);
    gpu_put64_(at + 0, command->size);
    gpu_put64_(at + 8, command->blob_offset);
    gpu_put32_(at + 16, command->context);
    gpu_put32_(at + 20, command->blob);
    (void)at;
    return size;
}

/* clCreateContext: Make a context on the device. */
struct gpu_create_context {
    uint32_t id;
};

static inline uint64_t gpu_encode_create_context(void *out, uint64_t room,
    const struct gpu_create_context *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_CONTEXT, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clCreateCommandQueue: Make a queue. `priority`: 0 medium, 1 high, 2 low. */
struct gpu_create_queue {
    uint64_t properties;
    uint32_t id;
    uint32_t context;
    uint32_t priority;
};

static inline uint64_t gpu_encode_create_queue(void *out, uint64_t room,
    const struct gpu_create_queue *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 32 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_QUEUE, size, answer);
    gpu_put64_(at + 0, command->properties);
    gpu_put32_(at + 8, command->id);
    gpu_put32_(at + 12, command->context);
    gpu_put32_(at + 16, command->priority);
    gpu_put32_(at + 20, 0);
    (void)at;
    return size;
}

/* clCreateBuffer: Make a buffer on the blob's own bytes, or with COPY_HOST_PTR from a copy of them;
 * without a blob, of the device's memory. */
struct gpu_create_buffer {
    uint64_t flags;
    uint64_t size;
    uint64_t blob_offset;
    uint32_t id;
    uint32_t context;
    uint32_t blob;
};

static inline uint64_t gpu_encode_create_buffer(void *out, uint64_t room,
    const struct gpu_create_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 48 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_BUFFER, size, answer);
    gpu_put64_(at + 0, command->flags);
    gpu_put64_(at + 8, command->size);
    gpu_put64_(at + 16, command->blob_offset);
    gpu_put32_(at + 24, command->id);
    gpu_put32_(at + 28, command->context);
    gpu_put32_(at + 32, command->blob);
    gpu_put32_(at + 36, 0);
    (void)at;
    return size;
}

/* clCreateSubBuffer: Make a buffer of a part of a buffer. */
struct gpu_create_sub_buffer {
    uint64_t flags;
    uint64_t origin;
    uint64_t size;
    uint32_t id;
    uint32_t buffer;
};

static inline uint64_t gpu_encode_create_sub_buffer(void *out, uint64_t room,
    const struct gpu_create_sub_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 40 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_SUB_BUFFER, size, answer);
    gpu_put64_(at + 0, command->flags);
    gpu_put64_(at + 8, command->origin);
    gpu_put64_(at + 16, command->size);
    gpu_put32_(at + 24, command->id);
    gpu_put32_(at + 28, command->buffer);
    (void)at;
    return size;
}

/* clCreateImage: Make an image: like a buffer of a blob or of the device's memory, or a 1D image of
 * `buffer`. Pitches are 0 where the device may choose. */
struct gpu_create_image {
    uint64_t flags;
    uint64_t width;
    uint64_t height;
    uint64_t depth;
    uint64_t array_size;
    uint64_t row_pitch;
    uint64_t slice_pitch;
    uint64_t blob_offset;
    uint32_t id;
    uint32_t context;
    uint32_t type;
    uint32_t channel_order;
    uint32_t channel_type;
    uint32_t buffer;
    uint32_t blob;
};

static inline uint64_t gpu_encode_create_image(void *out, uint64_t room,
    const struct gpu_create_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 104 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_IMAGE, size, answer);
    gpu_put64_(at + 0, command->flags);
    gpu_put64_(at + 8, command->width);
    gpu_put64_(at + 16, command->height);
    gpu_put64_(at + 24, command->depth);
    gpu_put64_(at + 32, command->array_size);
    gpu_put64_(at + 40, command->row_pitch);
    gpu_put64_(at + 48, command->slice_pitch);
    gpu_put64_(at + 56, command->blob_offset);
    gpu_put32_(at + 64, command->id);
    gpu_put32_(at + 68, command->context);
    gpu_put32_(at + 72, command->type);
    gpu_put32_(at + 76, command->channel_order);
    gpu_put32_(at + 80, command->channel_type);
    gpu_put32_(at + 84, command->buffer);
    gpu_put32_(at + 88, command->blob);
    gpu_put32_(at + 92, 0);
    (void)at;
    return size;
}

/* clCreateSampler: Make a sampler. */
struct gpu_create_sampler {
    uint32_t id;
    uint32_t context;
    uint32_t normalized;
    uint32_t addressing;
    uint32_t filter;
};

static inline uint64_t gpu_encode_create_sampler(void *out, uint64_t room,
    const struct gpu_create_sampler *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 32 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_SAMPLER, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, command->context);
    gpu_put32_(at + 8, command->normalized);
    gpu_put32_(at + 12, command->addressing);
    gpu_put32_(at + 16, command->filter);
    gpu_put32_(at + 20, 0);
    (void)at;
    return size;
}

/* clCreateProgramWithSource: Make a program of OpenCL C source, its strings joined. */
struct gpu_create_program {
    uint32_t id;
    uint32_t context;
    const uint8_t *source;
    uint32_t source_count; /* at most 2097152 */
};

static inline uint64_t gpu_encode_create_program(void *out, uint64_t room,
    const struct gpu_create_program *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(1ull * command->source_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_PROGRAM, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, command->context);
    gpu_put32_(at + 8, command->source_count);
    gpu_put32_(at + 12, 0);
    at += 16;
    at = gpu_list_(at, command->source, 1ull * command->source_count);
    return size;
}

/* clCreateProgramWithBinary: Make a program of a binary's key, as GetProgramInfo gave it. The
 * binary itself never leaves the host; INVALID_BINARY where the host does not know the key. */
struct gpu_create_program_with_binary {
    uint32_t id;
    uint32_t context;
    const uint8_t *key;
    uint32_t key_count; /* at most 256 */
};

static inline uint64_t gpu_encode_create_program_with_binary(void *out, uint64_t room,
    const struct gpu_create_program_with_binary *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(1ull * command->key_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_PROGRAM_WITH_BINARY, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, command->context);
    gpu_put32_(at + 8, command->key_count);
    gpu_put32_(at + 12, 0);
    at += 16;
    at = gpu_list_(at, command->key, 1ull * command->key_count);
    return size;
}

/* clBuildProgram: Compile and link. */
struct gpu_build_program {
    uint32_t program;
    const uint8_t *options;
    uint32_t options_count; /* at most 65536 */
};

static inline uint64_t gpu_encode_build_program(void *out, uint64_t room,
    const struct gpu_build_program *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0)
                    + gpu_pad_(1ull * command->options_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_BUILD_PROGRAM, size, answer);
    gpu_put32_(at + 0, command->program);
    gpu_put32_(at + 4, command->options_count);
    at += 8;
    at = gpu_list_(at, command->options, 1ull * command->options_count);
    return size;
}

/* clCompileProgram: Compile with programs as headers; `names` holds their names, each ending in
 * NUL. */
struct gpu_compile_program {
    uint32_t program;
    const uint32_t *headers;
    uint32_t headers_count; /* at most 256 */
    const uint8_t *names;
    uint32_t names_count; /* at most 65536 */
    const uint8_t *options;
    uint32_t options_count; /* at most 65536 */
};

static inline uint64_t gpu_encode_compile_program(void *out, uint64_t room,
    const struct gpu_compile_program *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->headers_count)
                    + gpu_pad_(1ull * command->names_count)
                    + gpu_pad_(1ull * command->options_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_COMPILE_PROGRAM, size, answer);
    gpu_put32_(at + 0, command->program);
    gpu_put32_(at + 4, command->headers_count);
    gpu_put32_(at + 8, command->names_count);
    gpu_put32_(at + 12, command->options_count);
    at += 16;
    at = gpu_list_(at, command->headers, 4ull * command->headers_count);
    at = gpu_list_(at, command->names, 1ull * command->names_count);
    at = gpu_list_(at, command->options, 1ull * command->options_count);
    return size;
}

/* clLinkProgram: Make a program of compiled ones. */
struct gpu_link_program {
    uint32_t id;
    uint32_t context;
    const uint32_t *programs;
    uint32_t programs_count; /* at most 256 */
    const uint8_t *options;
    uint32_t options_count; /* at most 65536 */
};

static inline uint64_t gpu_encode_link_program(void *out, uint64_t room,
    const struct gpu_link_program *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->programs_count)
                    + gpu_pad_(1ull * command->options_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_LINK_PROGRAM, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, command->context);
    gpu_put32_(at + 8, command->programs_count);
    gpu_put32_(at + 12, command->options_count);
    at += 16;
    at = gpu_list_(at, command->programs, 4ull * command->programs_count);
    at = gpu_list_(at, command->options, 1ull * command->options_count);
    return size;
}

/* clGetProgramBuildInfo: How the last build of a program went. */
struct gpu_get_program_build {
    uint32_t program;
};

static inline uint64_t gpu_encode_get_program_build(void *out, uint64_t room,
    const struct gpu_get_program_build *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_PROGRAM_BUILD, size, answer);
    gpu_put32_(at + 0, command->program);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clGetProgramInfo: What a built program has. */
struct gpu_get_program_info {
    uint32_t program;
};

static inline uint64_t gpu_encode_get_program_info(void *out, uint64_t room,
    const struct gpu_get_program_info *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_PROGRAM_INFO, size, answer);
    gpu_put32_(at + 0, command->program);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* Whether ReadPrinted may have something when a built program's kernels are done. */
struct gpu_get_program_prints {
    uint32_t program;
};

static inline uint64_t gpu_encode_get_program_prints(void *out, uint64_t room,
    const struct gpu_get_program_prints *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_PROGRAM_PRINTS, size, answer);
    gpu_put32_(at + 0, command->program);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clCreateKernel: Make a kernel of a built program. */
struct gpu_create_kernel {
    uint32_t id;
    uint32_t program;
    const uint8_t *function_name;
    uint32_t function_name_count; /* at most 4096 */
};

static inline uint64_t gpu_encode_create_kernel(void *out, uint64_t room,
    const struct gpu_create_kernel *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(1ull * command->function_name_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_KERNEL, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, command->program);
    gpu_put32_(at + 8, command->function_name_count);
    gpu_put32_(at + 12, 0);
    at += 16;
    at = gpu_list_(at, command->function_name, 1ull * command->function_name_count);
    return size;
}

/* clSetKernelArg: Give an argument by its bytes. */
struct gpu_set_argument {
    uint32_t kernel;
    uint32_t index;
    const uint8_t *value;
    uint32_t value_count; /* at most 4096 */
};

static inline uint64_t gpu_encode_set_argument(void *out, uint64_t room,
    const struct gpu_set_argument *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(1ull * command->value_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_SET_ARGUMENT, size, answer);
    gpu_put32_(at + 0, command->kernel);
    gpu_put32_(at + 4, command->index);
    gpu_put32_(at + 8, command->value_count);
    gpu_put32_(at + 12, 0);
    at += 16;
    at = gpu_list_(at, command->value, 1ull * command->value_count);
    return size;
}

/* clSetKernelArg: Give an argument that is a buffer, image or sampler; 0: a null buffer. */
struct gpu_set_argument_object {
    uint32_t kernel;
    uint32_t index;
    uint32_t object;
};

static inline uint64_t gpu_encode_set_argument_object(void *out, uint64_t room,
    const struct gpu_set_argument_object *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_SET_ARGUMENT_OBJECT, size, answer);
    gpu_put32_(at + 0, command->kernel);
    gpu_put32_(at + 4, command->index);
    gpu_put32_(at + 8, command->object);
    gpu_put32_(at + 12, 0);
    (void)at;
    return size;
}

/* clSetKernelArg: Give an argument `size` bytes of local memory. */
struct gpu_set_argument_local {
    uint64_t size;
    uint32_t kernel;
    uint32_t index;
};

static inline uint64_t gpu_encode_set_argument_local(void *out, uint64_t room,
    const struct gpu_set_argument_local *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_SET_ARGUMENT_LOCAL, size, answer);
    gpu_put64_(at + 0, command->size);
    gpu_put32_(at + 8, command->kernel);
    gpu_put32_(at + 12, command->index);
    (void)at;
    return size;
}

/* clGetKernel{,WorkGroup,Arg}Info: All there is to know of a kernel. */
struct gpu_get_kernel_info {
    uint32_t kernel;
};

static inline uint64_t gpu_encode_get_kernel_info(void *out, uint64_t room,
    const struct gpu_get_kernel_info *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_KERNEL_INFO, size, answer);
    gpu_put32_(at + 0, command->kernel);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clGetSupportedImageFormats: The image formats that the device has for these flags and this type.
 * */
struct gpu_get_image_formats {
    uint64_t flags;
    uint32_t context;
    uint32_t type;
};

static inline uint64_t gpu_encode_get_image_formats(void *out, uint64_t room,
    const struct gpu_get_image_formats *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_IMAGE_FORMATS, size, answer);
    gpu_put64_(at + 0, command->flags);
    gpu_put32_(at + 8, command->context);
    gpu_put32_(at + 12, command->type);
    (void)at;
    return size;
}

/* clCreateUserEvent: Make an event that the guest completes. */
struct gpu_create_user_event {
    uint32_t id;
    uint32_t context;
};

static inline uint64_t gpu_encode_create_user_event(void *out, uint64_t room,
    const struct gpu_create_user_event *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_CREATE_USER_EVENT, size, answer);
    gpu_put32_(at + 0, command->id);
    gpu_put32_(at + 4, command->context);
    (void)at;
    return size;
}

/* clSetUserEventStatus: Complete a user event (0), or fail it (below 0). */
struct gpu_set_user_event_status {
    uint32_t event;
    int32_t status;
};

static inline uint64_t gpu_encode_set_user_event_status(void *out, uint64_t room,
    const struct gpu_set_user_event_status *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_SET_USER_EVENT_STATUS, size, answer);
    gpu_put32_(at + 0, command->event);
    gpu_put32_(at + 4, (uint32_t)command->status);
    (void)at;
    return size;
}

/* clGetEventInfo: How far a command is. Asked on its queue's own ring, the answer comes after the
 * command. */
struct gpu_get_event_status {
    uint32_t event;
};

static inline uint64_t gpu_encode_get_event_status(void *out, uint64_t room,
    const struct gpu_get_event_status *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_EVENT_STATUS, size, answer);
    gpu_put32_(at + 0, command->event);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clGetEventProfilingInfo: When a command of a profiling queue ran. */
struct gpu_get_event_profile {
    uint32_t event;
};

static inline uint64_t gpu_encode_get_event_profile(void *out, uint64_t room,
    const struct gpu_get_event_profile *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GET_EVENT_PROFILE, size, answer);
    gpu_put32_(at + 0, command->event);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clEnqueueReadBuffer: Copy from a buffer to a blob. */
struct gpu_read_buffer {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t offset;
    uint64_t size;
    uint64_t blob_offset;
    uint32_t buffer;
    uint32_t blob;
};

static inline uint64_t gpu_encode_read_buffer(void *out, uint64_t room,
    const struct gpu_read_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 56 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_READ_BUFFER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->offset);
    gpu_put64_(at + 24, command->size);
    gpu_put64_(at + 32, command->blob_offset);
    gpu_put32_(at + 40, command->buffer);
    gpu_put32_(at + 44, command->blob);
    at += 48;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueWriteBuffer: Copy from a blob to a buffer. */
struct gpu_write_buffer {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t offset;
    uint64_t size;
    uint64_t blob_offset;
    uint32_t buffer;
    uint32_t blob;
};

static inline uint64_t gpu_encode_write_buffer(void *out, uint64_t room,
    const struct gpu_write_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 56 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_WRITE_BUFFER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->offset);
    gpu_put64_(at + 24, command->size);
    gpu_put64_(at + 32, command->blob_offset);
    gpu_put32_(at + 40, command->buffer);
    gpu_put32_(at + 44, command->blob);
    at += 48;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueWriteBuffer: Write bytes that the packet carries. */
struct gpu_write_buffer_inline {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t offset;
    uint32_t buffer;
    const uint8_t *data;
    uint32_t data_count; /* at most 65536 */
};

static inline uint64_t gpu_encode_write_buffer_inline(void *out, uint64_t room,
    const struct gpu_write_buffer_inline *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 40 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count)
                    + gpu_pad_(1ull * command->data_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_WRITE_BUFFER_INLINE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->offset);
    gpu_put32_(at + 24, command->buffer);
    gpu_put32_(at + 28, command->data_count);
    at += 32;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    at = gpu_list_(at, command->data, 1ull * command->data_count);
    return size;
}

/* clEnqueueReadBufferRect: Copy a box from a buffer to a blob. Pitches of 0 mean tightly packed. */
struct gpu_read_buffer_rect {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t buffer_origin[3];
    uint64_t host_origin[3];
    uint64_t region[3];
    uint64_t buffer_row_pitch;
    uint64_t buffer_slice_pitch;
    uint64_t host_row_pitch;
    uint64_t host_slice_pitch;
    uint64_t blob_offset;
    uint32_t buffer;
    uint32_t blob;
};

static inline uint64_t gpu_encode_read_buffer_rect(void *out, uint64_t room,
    const struct gpu_read_buffer_rect *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 144 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_READ_BUFFER_RECT, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->buffer_origin[0]);
    gpu_put64_(at + 24, command->buffer_origin[1]);
    gpu_put64_(at + 32, command->buffer_origin[2]);
    gpu_put64_(at + 40, command->host_origin[0]);
    gpu_put64_(at + 48, command->host_origin[1]);
    gpu_put64_(at + 56, command->host_origin[2]);
    gpu_put64_(at + 64, command->region[0]);
    gpu_put64_(at + 72, command->region[1]);
    gpu_put64_(at + 80, command->region[2]);
    gpu_put64_(at + 88, command->buffer_row_pitch);
    gpu_put64_(at + 96, command->buffer_slice_pitch);
    gpu_put64_(at + 104, command->host_row_pitch);
    gpu_put64_(at + 112, command->host_slice_pitch);
    gpu_put64_(at + 120, command->blob_offset);
    gpu_put32_(at + 128, command->buffer);
    gpu_put32_(at + 132, command->blob);
    at += 136;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueWriteBufferRect: Copy a box from a blob to a buffer. */
struct gpu_write_buffer_rect {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t buffer_origin[3];
    uint64_t host_origin[3];
    uint64_t region[3];
    uint64_t buffer_row_pitch;
    uint64_t buffer_slice_pitch;
    uint64_t host_row_pitch;
    uint64_t host_slice_pitch;
    uint64_t blob_offset;
    uint32_t buffer;
    uint32_t blob;
};

static inline uint64_t gpu_encode_write_buffer_rect(void *out, uint64_t room,
    const struct gpu_write_buffer_rect *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 144 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_WRITE_BUFFER_RECT, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->buffer_origin[0]);
    gpu_put64_(at + 24, command->buffer_origin[1]);
    gpu_put64_(at + 32, command->buffer_origin[2]);
    gpu_put64_(at + 40, command->host_origin[0]);
    gpu_put64_(at + 48, command->host_origin[1]);
    gpu_put64_(at + 56, command->host_origin[2]);
    gpu_put64_(at + 64, command->region[0]);
    gpu_put64_(at + 72, command->region[1]);
    gpu_put64_(at + 80, command->region[2]);
    gpu_put64_(at + 88, command->buffer_row_pitch);
    gpu_put64_(at + 96, command->buffer_slice_pitch);
    gpu_put64_(at + 104, command->host_row_pitch);
    gpu_put64_(at + 112, command->host_slice_pitch);
    gpu_put64_(at + 120, command->blob_offset);
    gpu_put32_(at + 128, command->buffer);
    gpu_put32_(at + 132, command->blob);
    at += 136;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueCopyBuffer: Copy between buffers, or parts of one that do not overlap. */
struct gpu_copy_buffer {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t source_offset;
    uint64_t destination_offset;
    uint64_t size;
    uint32_t source;
    uint32_t destination;
};

static inline uint64_t gpu_encode_copy_buffer(void *out, uint64_t room,
    const struct gpu_copy_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 56 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_COPY_BUFFER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->source_offset);
    gpu_put64_(at + 24, command->destination_offset);
    gpu_put64_(at + 32, command->size);
    gpu_put32_(at + 40, command->source);
    gpu_put32_(at + 44, command->destination);
    at += 48;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueCopyBufferRect: Copy a box between buffers. */
struct gpu_copy_buffer_rect {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t source_origin[3];
    uint64_t destination_origin[3];
    uint64_t region[3];
    uint64_t source_row_pitch;
    uint64_t source_slice_pitch;
    uint64_t destination_row_pitch;
    uint64_t destination_slice_pitch;
    uint32_t source;
    uint32_t destination;
};

static inline uint64_t gpu_encode_copy_buffer_rect(void *out, uint64_t room,
    const struct gpu_copy_buffer_rect *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 136 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_COPY_BUFFER_RECT, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->source_origin[0]);
    gpu_put64_(at + 24, command->source_origin[1]);
    gpu_put64_(at + 32, command->source_origin[2]);
    gpu_put64_(at + 40, command->destination_origin[0]);
    gpu_put64_(at + 48, command->destination_origin[1]);
    gpu_put64_(at + 56, command->destination_origin[2]);
    gpu_put64_(at + 64, command->region[0]);
    gpu_put64_(at + 72, command->region[1]);
    gpu_put64_(at + 80, command->region[2]);
    gpu_put64_(at + 88, command->source_row_pitch);
    gpu_put64_(at + 96, command->source_slice_pitch);
    gpu_put64_(at + 104, command->destination_row_pitch);
    gpu_put64_(at + 112, command->destination_slice_pitch);
    gpu_put32_(at + 120, command->source);
    gpu_put32_(at + 124, command->destination);
    at += 128;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueFillBuffer: Fill with a pattern of 1, 2, 4 ... 128 bytes. */
struct gpu_fill_buffer {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t offset;
    uint64_t size;
    uint32_t buffer;
    const uint8_t *pattern;
    uint32_t pattern_count; /* at most 128 */
};

static inline uint64_t gpu_encode_fill_buffer(void *out, uint64_t room,
    const struct gpu_fill_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 48 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count)
                    + gpu_pad_(1ull * command->pattern_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_FILL_BUFFER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->offset);
    gpu_put64_(at + 24, command->size);
    gpu_put32_(at + 32, command->buffer);
    gpu_put32_(at + 36, command->pattern_count);
    at += 40;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    at = gpu_list_(at, command->pattern, 1ull * command->pattern_count);
    return size;
}

/* clEnqueueReadImage: Copy a box from an image to a blob. */
struct gpu_read_image {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t origin[3];
    uint64_t region[3];
    uint64_t row_pitch;
    uint64_t slice_pitch;
    uint64_t blob_offset;
    uint32_t image;
    uint32_t blob;
};

static inline uint64_t gpu_encode_read_image(void *out, uint64_t room,
    const struct gpu_read_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 104 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_READ_IMAGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->origin[0]);
    gpu_put64_(at + 24, command->origin[1]);
    gpu_put64_(at + 32, command->origin[2]);
    gpu_put64_(at + 40, command->region[0]);
    gpu_put64_(at + 48, command->region[1]);
    gpu_put64_(at + 56, command->region[2]);
    gpu_put64_(at + 64, command->row_pitch);
    gpu_put64_(at + 72, command->slice_pitch);
    gpu_put64_(at + 80, command->blob_offset);
    gpu_put32_(at + 88, command->image);
    gpu_put32_(at + 92, command->blob);
    at += 96;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueWriteImage: Copy a box from a blob to an image. */
struct gpu_write_image {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t origin[3];
    uint64_t region[3];
    uint64_t row_pitch;
    uint64_t slice_pitch;
    uint64_t blob_offset;
    uint32_t image;
    uint32_t blob;
};

static inline uint64_t gpu_encode_write_image(void *out, uint64_t room,
    const struct gpu_write_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 104 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_WRITE_IMAGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->origin[0]);
    gpu_put64_(at + 24, command->origin[1]);
    gpu_put64_(at + 32, command->origin[2]);
    gpu_put64_(at + 40, command->region[0]);
    gpu_put64_(at + 48, command->region[1]);
    gpu_put64_(at + 56, command->region[2]);
    gpu_put64_(at + 64, command->row_pitch);
    gpu_put64_(at + 72, command->slice_pitch);
    gpu_put64_(at + 80, command->blob_offset);
    gpu_put32_(at + 88, command->image);
    gpu_put32_(at + 92, command->blob);
    at += 96;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueCopyImage: Copy a box between images of one format. */
struct gpu_copy_image {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t source_origin[3];
    uint64_t destination_origin[3];
    uint64_t region[3];
    uint32_t source;
    uint32_t destination;
};

static inline uint64_t gpu_encode_copy_image(void *out, uint64_t room,
    const struct gpu_copy_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 104 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_COPY_IMAGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->source_origin[0]);
    gpu_put64_(at + 24, command->source_origin[1]);
    gpu_put64_(at + 32, command->source_origin[2]);
    gpu_put64_(at + 40, command->destination_origin[0]);
    gpu_put64_(at + 48, command->destination_origin[1]);
    gpu_put64_(at + 56, command->destination_origin[2]);
    gpu_put64_(at + 64, command->region[0]);
    gpu_put64_(at + 72, command->region[1]);
    gpu_put64_(at + 80, command->region[2]);
    gpu_put32_(at + 88, command->source);
    gpu_put32_(at + 92, command->destination);
    at += 96;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueCopyImageToBuffer: Copy a box from an image to a buffer, tightly packed. */
struct gpu_copy_image_to_buffer {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t origin[3];
    uint64_t region[3];
    uint64_t buffer_offset;
    uint32_t image;
    uint32_t buffer;
};

static inline uint64_t gpu_encode_copy_image_to_buffer(void *out, uint64_t room,
    const struct gpu_copy_image_to_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 88 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_COPY_IMAGE_TO_BUFFER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->origin[0]);
    gpu_put64_(at + 24, command->origin[1]);
    gpu_put64_(at + 32, command->origin[2]);
    gpu_put64_(at + 40, command->region[0]);
    gpu_put64_(at + 48, command->region[1]);
    gpu_put64_(at + 56, command->region[2]);
    gpu_put64_(at + 64, command->buffer_offset);
    gpu_put32_(at + 72, command->image);
    gpu_put32_(at + 76, command->buffer);
    at += 80;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueCopyBufferToImage: Copy from a buffer to a box of an image. */
struct gpu_copy_buffer_to_image {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t origin[3];
    uint64_t region[3];
    uint64_t buffer_offset;
    uint32_t image;
    uint32_t buffer;
};

static inline uint64_t gpu_encode_copy_buffer_to_image(void *out, uint64_t room,
    const struct gpu_copy_buffer_to_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 88 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_COPY_BUFFER_TO_IMAGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->origin[0]);
    gpu_put64_(at + 24, command->origin[1]);
    gpu_put64_(at + 32, command->origin[2]);
    gpu_put64_(at + 40, command->region[0]);
    gpu_put64_(at + 48, command->region[1]);
    gpu_put64_(at + 56, command->region[2]);
    gpu_put64_(at + 64, command->buffer_offset);
    gpu_put32_(at + 72, command->image);
    gpu_put32_(at + 76, command->buffer);
    at += 80;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueFillImage: Fill a box with a color: four floats, or integers as the format's type wants.
 * */
struct gpu_fill_image {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t origin[3];
    uint64_t region[3];
    uint32_t image;
    const uint8_t *color;
    uint32_t color_count; /* at most 16 */
};

static inline uint64_t gpu_encode_fill_image(void *out, uint64_t room,
    const struct gpu_fill_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 80 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count)
                    + gpu_pad_(1ull * command->color_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_FILL_IMAGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->origin[0]);
    gpu_put64_(at + 24, command->origin[1]);
    gpu_put64_(at + 32, command->origin[2]);
    gpu_put64_(at + 40, command->region[0]);
    gpu_put64_(at + 48, command->region[1]);
    gpu_put64_(at + 56, command->region[2]);
    gpu_put32_(at + 64, command->image);
    gpu_put32_(at + 68, command->color_count);
    at += 72;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    at = gpu_list_(at, command->color, 1ull * command->color_count);
    return size;
}

/* clEnqueueMapBuffer: Make a blob's buffer readable and writable in the blob; `id` is what Unmap
 * ends. */
struct gpu_map_buffer {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t flags;
    uint64_t offset;
    uint64_t size;
    uint32_t buffer;
    uint32_t id;
};

static inline uint64_t gpu_encode_map_buffer(void *out, uint64_t room,
    const struct gpu_map_buffer *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 56 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_MAP_BUFFER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->flags);
    gpu_put64_(at + 24, command->offset);
    gpu_put64_(at + 32, command->size);
    gpu_put32_(at + 40, command->buffer);
    gpu_put32_(at + 44, command->id);
    at += 48;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueMapImage: Make a blob's image readable and writable in the blob. */
struct gpu_map_image {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t flags;
    uint64_t origin[3];
    uint64_t region[3];
    uint32_t image;
    uint32_t id;
};

static inline uint64_t gpu_encode_map_image(void *out, uint64_t room,
    const struct gpu_map_image *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 88 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_MAP_IMAGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->flags);
    gpu_put64_(at + 24, command->origin[0]);
    gpu_put64_(at + 32, command->origin[1]);
    gpu_put64_(at + 40, command->origin[2]);
    gpu_put64_(at + 48, command->region[0]);
    gpu_put64_(at + 56, command->region[1]);
    gpu_put64_(at + 64, command->region[2]);
    gpu_put32_(at + 72, command->image);
    gpu_put32_(at + 76, command->id);
    at += 80;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueUnmapMemObject: End a mapping: the device sees what was written. The mapping's id is
 * free again. */
struct gpu_unmap {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint32_t mapping;
};

static inline uint64_t gpu_encode_unmap(void *out, uint64_t room,
    const struct gpu_unmap *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_UNMAP, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, command->mapping);
    at += 16;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueMigrateMemObjects: Bring memory to the device, or to the host. */
struct gpu_migrate_memory {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t flags;
    const uint32_t *memories;
    uint32_t memories_count; /* at most 1024 */
};

static inline uint64_t gpu_encode_migrate_memory(void *out, uint64_t room,
    const struct gpu_migrate_memory *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 40 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count)
                    + gpu_pad_(4ull * command->memories_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_MIGRATE_MEMORY, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->flags);
    gpu_put32_(at + 24, command->memories_count);
    gpu_put32_(at + 28, 0);
    at += 32;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    at = gpu_list_(at, command->memories, 4ull * command->memories_count);
    return size;
}

/* clEnqueueNDRangeKernel: Run a kernel over a range of `dimensions`; local sizes of 0 leave them to
 * the device. Unused dimensions are 0 in `offset` and `local_size`, 1 in `global_size`. */
struct gpu_nd_range {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint64_t offset[3];
    uint64_t global_size[3];
    uint64_t local_size[3];
    uint32_t kernel;
    uint32_t dimensions;
};

static inline uint64_t gpu_encode_nd_range(void *out, uint64_t room,
    const struct gpu_nd_range *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 104 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_ND_RANGE, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    gpu_put64_(at + 16, command->offset[0]);
    gpu_put64_(at + 24, command->offset[1]);
    gpu_put64_(at + 32, command->offset[2]);
    gpu_put64_(at + 40, command->global_size[0]);
    gpu_put64_(at + 48, command->global_size[1]);
    gpu_put64_(at + 56, command->global_size[2]);
    gpu_put64_(at + 64, command->local_size[0]);
    gpu_put64_(at + 72, command->local_size[1]);
    gpu_put64_(at + 80, command->local_size[2]);
    gpu_put32_(at + 88, command->kernel);
    gpu_put32_(at + 92, command->dimensions);
    at += 96;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueTask: Run a kernel as one work-item. */
struct gpu_task {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
    uint32_t kernel;
};

static inline uint64_t gpu_encode_task(void *out, uint64_t room,
    const struct gpu_task *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_TASK, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, command->kernel);
    at += 16;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueMarkerWithWaitList: An event of all before it in its queue, or of those it waits for. */
struct gpu_marker {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
};

static inline uint64_t gpu_encode_marker(void *out, uint64_t room,
    const struct gpu_marker *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_MARKER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    at += 16;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clEnqueueBarrierWithWaitList: What follows in the queue starts after this. */
struct gpu_barrier {
    uint32_t queue;
    uint32_t event;
    const uint32_t *wait;
    uint32_t wait_count; /* at most 1024 */
};

static inline uint64_t gpu_encode_barrier(void *out, uint64_t room,
    const struct gpu_barrier *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 24 + (answer ? 16u : 0)
                    + gpu_pad_(4ull * command->wait_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_BARRIER, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, command->event);
    gpu_put32_(at + 8, command->wait_count);
    gpu_put32_(at + 12, 0);
    at += 16;
    at = gpu_list_(at, command->wait, 4ull * command->wait_count);
    return size;
}

/* clFlush: Start what is enqueued. A submission does so at its end. */
struct gpu_flush {
    uint32_t queue;
};

static inline uint64_t gpu_encode_flush(void *out, uint64_t room,
    const struct gpu_flush *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_FLUSH, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* clFinish: Hold the submission's fence until all that was ever enqueued to the queue is complete.
 * */
struct gpu_finish {
    uint32_t queue;
};

static inline uint64_t gpu_encode_finish(void *out, uint64_t room,
    const struct gpu_finish *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_FINISH, size, answer);
    gpu_put32_(at + 0, command->queue);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* Make physical memory a blob: pairs of address and size, multiples of 4 KiB. */
struct gpu_grant_memory {
    uint32_t blob;
    const uint64_t *ranges;
    uint32_t ranges_count; /* at most 65536 */
};

static inline uint64_t gpu_encode_grant_memory(void *out, uint64_t room,
    const struct gpu_grant_memory *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0)
                    + gpu_pad_(8ull * command->ranges_count);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_GRANT_MEMORY, size, answer);
    gpu_put32_(at + 0, command->blob);
    gpu_put32_(at + 4, command->ranges_count);
    at += 8;
    at = gpu_list_(at, command->ranges, 8ull * command->ranges_count);
    return size;
}

/* End a blob. */
struct gpu_revoke_memory {
    uint32_t blob;
};

static inline uint64_t gpu_encode_revoke_memory(void *out, uint64_t room,
    const struct gpu_revoke_memory *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 16 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_REVOKE_MEMORY, size, answer);
    gpu_put32_(at + 0, command->blob);
    gpu_put32_(at + 4, 0);
    (void)at;
    return size;
}

/* Show a picture that lies in a blob; `width` 0 shows none. Pixels are 4 bytes, in memory order B,
 * G, R, unused. */
struct gpu_set_scanout {
    uint64_t offset;
    uint32_t width;
    uint32_t height;
    uint32_t stride;
    uint32_t blob;
};

static inline uint64_t gpu_encode_set_scanout(void *out, uint64_t room,
    const struct gpu_set_scanout *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 32 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_SET_SCANOUT, size, answer);
    gpu_put64_(at + 0, command->offset);
    gpu_put32_(at + 8, command->width);
    gpu_put32_(at + 12, command->height);
    gpu_put32_(at + 16, command->stride);
    gpu_put32_(at + 20, command->blob);
    (void)at;
    return size;
}

/* What lies in the picture now is to be seen. */
struct gpu_flush_scanout {
    char nothing;
};

static inline uint64_t gpu_encode_flush_scanout(void *out, uint64_t room,
    const struct gpu_flush_scanout *command, const struct gpu_answer_place *answer)
{
    uint64_t size = 8 + (answer ? 16u : 0);
    if (size > room)
        return size;
    uint8_t *at = gpu_begin_(out, GPU_FLUSH_SCANOUT, size, answer);
    (void)at;
    (void)command;
    return size;
}

/* The device, as virtio-gpu's capability set and the ring's information page carry it. `platform`
 * and `device` answer clGetPlatformInfo and clGetDeviceInfo without a round trip: one entry a
 * parameter of u32 name, u32 bytes, and the value as a 64-bit little-endian guest has it (text with
 * its NUL), padded to 8 bytes. `status` is DEVICE_NOT_FOUND where the host has no OpenCL device;
 * the lists are empty then. */
struct gpu_capset {
    uint32_t version;
    int32_t status;
    uint32_t max_stream;
    uint32_t max_commands;
    uint32_t max_answer;
    uint32_t max_inline;
    uint32_t rings;
    const uint8_t *platform;
    uint32_t platform_count; /* at most 16384 */
    const uint8_t *device;
    uint32_t device_count; /* at most 65536 */
};

static inline int gpu_decode_capset(const void *data, uint64_t size,
    struct gpu_capset *record)
{
    const uint8_t *at = data;
    if (size < 40)
        return 0;
    record->version = gpu_get32_(at + 0);
    record->status = (int32_t)gpu_get32_(at + 4);
    record->max_stream = gpu_get32_(at + 8);
    record->max_commands = gpu_get32_(at + 12);
    record->max_answer = gpu_get32_(at + 16);
    record->max_inline = gpu_get32_(at + 20);
    record->rings = gpu_get32_(at + 24);
    record->platform_count = gpu_get32_(at + 28);
    record->device_count = gpu_get32_(at + 32);
    uint64_t end = 40;
    record->platform = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->platform_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->platform_count);
    if (end > size)
        return 0;
    record->device = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->device_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->device_count);
    if (end > size)
        return 0;
    return 1;
}

/* The first error since the last GetError: its status (0: none), its command's opcode, and that
 * command's number in the context, counted from 0. */
struct gpu_latched_error {
    uint64_t index;
    uint32_t opcode;
    int32_t error;
};

static inline int gpu_decode_latched_error(const void *data, uint64_t size,
    struct gpu_latched_error *record)
{
    const uint8_t *at = data;
    if (size < 16)
        return 0;
    record->index = gpu_get64_(at + 0);
    record->opcode = gpu_get32_(at + 8);
    record->error = (int32_t)gpu_get32_(at + 12);
    return 1;
}

/* CL_PROGRAM_BUILD_STATUS, CL_PROGRAM_BINARY_TYPE and the log. */
struct gpu_program_build {
    int32_t build_status;
    uint32_t binary_type;
    const uint8_t *log;
    uint32_t log_count; /* at most 524288 */
};

static inline int gpu_decode_program_build(const void *data, uint64_t size,
    struct gpu_program_build *record)
{
    const uint8_t *at = data;
    if (size < 16)
        return 0;
    record->build_status = (int32_t)gpu_get32_(at + 0);
    record->binary_type = gpu_get32_(at + 4);
    record->log_count = gpu_get32_(at + 8);
    uint64_t end = 16;
    record->log = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->log_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->log_count);
    if (end > size)
        return 0;
    return 1;
}

/* Names of the kernels joined by `;`, and the key of the binary (empty: not built). */
struct gpu_program_info {
    const uint8_t *kernels;
    uint32_t kernels_count; /* at most 262144 */
    const uint8_t *key;
    uint32_t key_count; /* at most 256 */
};

static inline int gpu_decode_program_info(const void *data, uint64_t size,
    struct gpu_program_info *record)
{
    const uint8_t *at = data;
    if (size < 8)
        return 0;
    record->kernels_count = gpu_get32_(at + 0);
    record->key_count = gpu_get32_(at + 4);
    uint64_t end = 8;
    record->kernels = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->kernels_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->kernels_count);
    if (end > size)
        return 0;
    record->key = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->key_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->key_count);
    if (end > size)
        return 0;
    return 1;
}

/* Whether a built program's kernels may print: 1, or 0. */
struct gpu_program_prints {
    uint32_t prints;
};

static inline int gpu_decode_program_prints(const void *data, uint64_t size,
    struct gpu_program_prints *record)
{
    const uint8_t *at = data;
    if (size < 8)
        return 0;
    record->prints = gpu_get32_(at + 0);
    return 1;
}

/* clGetKernelInfo, clGetKernelWorkGroupInfo and clGetKernelArgInfo at once. Lists have an element
 * an argument, names end in NUL; all are empty where `has_arguments` is 0. */
struct gpu_kernel_info {
    uint64_t compile_work_group_size[3];
    uint64_t work_group_size;
    uint64_t preferred_work_group_size_multiple;
    uint64_t local_mem_size;
    uint64_t private_mem_size;
    uint32_t num_args;
    uint32_t has_arguments;
    const uint32_t *address_qualifiers;
    uint32_t address_qualifiers_count; /* at most 65536 */
    const uint32_t *access_qualifiers;
    uint32_t access_qualifiers_count; /* at most 65536 */
    const uint32_t *type_qualifiers;
    uint32_t type_qualifiers_count; /* at most 65536 */
    const uint8_t *type_names;
    uint32_t type_names_count; /* at most 65536 */
    const uint8_t *names;
    uint32_t names_count; /* at most 65536 */
    const uint8_t *attributes;
    uint32_t attributes_count; /* at most 65536 */
};

static inline int gpu_decode_kernel_info(const void *data, uint64_t size,
    struct gpu_kernel_info *record)
{
    const uint8_t *at = data;
    if (size < 88)
        return 0;
    record->compile_work_group_size[0] = gpu_get64_(at + 0);
    record->compile_work_group_size[1] = gpu_get64_(at + 8);
    record->compile_work_group_size[2] = gpu_get64_(at + 16);
    record->work_group_size = gpu_get64_(at + 24);
    record->preferred_work_group_size_multiple = gpu_get64_(at + 32);
    record->local_mem_size = gpu_get64_(at + 40);
    record->private_mem_size = gpu_get64_(at + 48);
    record->num_args = gpu_get32_(at + 56);
    record->has_arguments = gpu_get32_(at + 60);
    record->address_qualifiers_count = gpu_get32_(at + 64);
    record->access_qualifiers_count = gpu_get32_(at + 68);
    record->type_qualifiers_count = gpu_get32_(at + 72);
    record->type_names_count = gpu_get32_(at + 76);
    record->names_count = gpu_get32_(at + 80);
    record->attributes_count = gpu_get32_(at + 84);
    uint64_t end = 88;
    record->address_qualifiers = (const uint32_t *)(const void *)(at + end);
    if (4ull * record->address_qualifiers_count > size - end)
        return 0;
    end += gpu_pad_(4ull * record->address_qualifiers_count);
    if (end > size)
        return 0;
    record->access_qualifiers = (const uint32_t *)(const void *)(at + end);
    if (4ull * record->access_qualifiers_count > size - end)
        return 0;
    end += gpu_pad_(4ull * record->access_qualifiers_count);
    if (end > size)
        return 0;
    record->type_qualifiers = (const uint32_t *)(const void *)(at + end);
    if (4ull * record->type_qualifiers_count > size - end)
        return 0;
    end += gpu_pad_(4ull * record->type_qualifiers_count);
    if (end > size)
        return 0;
    record->type_names = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->type_names_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->type_names_count);
    if (end > size)
        return 0;
    record->names = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->names_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->names_count);
    if (end > size)
        return 0;
    record->attributes = (const uint8_t *)(const void *)(at + end);
    if (1ull * record->attributes_count > size - end)
        return 0;
    end += gpu_pad_(1ull * record->attributes_count);
    if (end > size)
        return 0;
    return 1;
}

/* Pairs of channel order and channel type. */
struct gpu_image_formats {
    const uint32_t *formats;
    uint32_t formats_count; /* at most 65536 */
};

static inline int gpu_decode_image_formats(const void *data, uint64_t size,
    struct gpu_image_formats *record)
{
    const uint8_t *at = data;
    if (size < 8)
        return 0;
    record->formats_count = gpu_get32_(at + 0);
    uint64_t end = 8;
    record->formats = (const uint32_t *)(const void *)(at + end);
    if (4ull * record->formats_count > size - end)
        return 0;
    end += gpu_pad_(4ull * record->formats_count);
    if (end > size)
        return 0;
    return 1;
}

/* CL_EVENT_COMMAND_EXECUTION_STATUS. */
struct gpu_event_status {
    int32_t execution;
};

static inline int gpu_decode_event_status(const void *data, uint64_t size,
    struct gpu_event_status *record)
{
    const uint8_t *at = data;
    if (size < 8)
        return 0;
    record->execution = (int32_t)gpu_get32_(at + 0);
    return 1;
}

/* Times in ns of the device's clock. */
struct gpu_event_profile {
    uint64_t queued;
    uint64_t submit;
    uint64_t start;
    uint64_t end;
};

static inline int gpu_decode_event_profile(const void *data, uint64_t size,
    struct gpu_event_profile *record)
{
    const uint8_t *at = data;
    if (size < 32)
        return 0;
    record->queued = gpu_get64_(at + 0);
    record->submit = gpu_get64_(at + 8);
    record->start = gpu_get64_(at + 16);
    record->end = gpu_get64_(at + 24);
    return 1;
}

#endif

#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "memory.h"

#define SHARED_FROM (64u << 10) /* smaller buffers cost less in the device's memory */

static struct _cl_mem *all;

bool is_memory(const void *pointer)
{
    for (const struct _cl_mem *memory = all; memory; memory = memory->next)
        if (memory == pointer)
            return true;
    return false;
}

cl_int memory_check_flags(cl_mem_flags flags, const void *host_ptr)
{
    const cl_mem_flags access = flags & (CL_MEM_READ_WRITE | CL_MEM_WRITE_ONLY | CL_MEM_READ_ONLY);
    const cl_mem_flags host =
        flags & (CL_MEM_HOST_WRITE_ONLY | CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_NO_ACCESS);
    const cl_mem_flags pointer = flags & (CL_MEM_USE_HOST_PTR | CL_MEM_COPY_HOST_PTR);
    if (flags & ~(access | host | pointer | CL_MEM_ALLOC_HOST_PTR) || access & (access - 1)
        || host & (host - 1))
        return CL_INVALID_VALUE;
    if (flags & CL_MEM_USE_HOST_PTR && flags & (CL_MEM_ALLOC_HOST_PTR | CL_MEM_COPY_HOST_PTR))
        return CL_INVALID_VALUE;
    return !pointer != !host_ptr ? CL_INVALID_HOST_PTR : CL_SUCCESS;
}

cl_mem memory_new(cl_context context, cl_mem_object_type type, cl_mem_flags flags, size_t size)
{
    cl_mem memory = object_new(MEMORY, sizeof *memory);
    if (!memory)
        return NULL;
    memory->context = context;
    memory->type = type;
    memory->flags = flags;
    memory->size = size;
    memory->object.id = id_new();
    memory->next = all;
    memory->link = &all;
    if (all)
        all->link = &memory->next;
    all = memory;
    object_use(context);
    return memory;
}

struct destruction {
    struct call call;
    struct destructor destructor;
    cl_mem memory;
};

static void tell_destruction(struct call *call)
{
    struct destruction *destruction = (struct destruction *)call;
    destruction->destructor.notify(destruction->memory, destruction->destructor.user_data);
    free(destruction);
}

void memory_destroy(cl_mem memory)
{
    *memory->link = memory->next;
    if (memory->next)
        memory->next->link = memory->link;
    while (memory->mappings) {
        struct mapping *mapping = memory->mappings;
        memory->mappings = mapping->next;
        if (mapping->piece) {
            stream_begin(NULL, false);
            piece_give_after(mapping->piece);
        }
        free(mapping);
    }
    while (memory->destructors) {
        struct destructor *destructor = memory->destructors;
        struct destruction *destruction = malloc(sizeof *destruction);
        memory->destructors = destructor->next;
        if (destruction) {
            *destruction = (struct destruction){{NULL, tell_destruction}, *destructor, memory};
            call_later(&destruction->call);
        }
        free(destructor);
    }
    if (memory->parent)
        object_drop(memory->parent);
    else if (memory->blob)
        blob_give(memory->blob);
    object_drop(memory->context);
}

cl_int memory_made(struct piece *answer)
{
    stream_ask(answer);
    cl_int status = answer_status(answer);
    piece_give(answer);
    return status;
}

cl_mem memory_give(cl_mem memory, cl_int wrong, cl_int *status)
{
    if (wrong && memory)
        object_discard(memory);
    if (status)
        *status = wrong;
    return wrong ? NULL : memory;
}

static bool is_shared(cl_mem_flags flags, size_t size)
{
    struct sysinfo system;
    if (flags & CL_MEM_ALLOC_HOST_PTR)
        return true;
    return size >= SHARED_FROM && sysinfo(&system) == 0
           && size < (uint64_t)system.freeram * system.mem_unit / 2;
}

static cl_int make_buffer(cl_mem memory, const void *host_ptr)
{
    struct piece *answer = piece_take(sizeof(struct gpu_answer_header));
    struct piece *content = NULL;
    uint32_t resource = 0;
    uint64_t offset = 0;
    cl_mem_flags flags = memory->flags & FLAGS_OF_DEVICE;
    if (!answer)
        return CL_OUT_OF_HOST_MEMORY;
    stream_begin_alone();
    if (is_shared(memory->flags, memory->size)) {
        memory->blob = blob_take(memory->size);
        if (memory->blob) {
            resource = memory->blob->resource;
            if (host_ptr)
                memcpy(memory->blob->bytes, host_ptr, memory->size);
        }
    }
    if (!memory->blob && host_ptr) {
        content = piece_take(memory->size);
        if (!content) {
            piece_give(answer);
            return CL_MEM_OBJECT_ALLOCATION_FAILURE;
        }
        memcpy(content->bytes, host_ptr, memory->size);
        resource = content->blob->resource;
        offset = content->offset;
        flags |= CL_MEM_COPY_HOST_PTR;
    }
    struct gpu_answer_place place = answer_place(answer);
    SEND(create_buffer, &place, .flags = flags, .size = memory->size, .blob_offset = offset,
         .id = memory->object.id, .context = memory->context->object.id, .blob = resource);
    if (content)
        piece_give_after(content);
    return memory_made(answer);
}

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t size, void *host_ptr,
                      cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    cl_int wrong = memory_check_flags(flags, host_ptr);
    if (wrong)
        FAIL(wrong);
    if (!size || size > device_number(CL_DEVICE_MAX_MEM_ALLOC_SIZE, UINT64_MAX))
        FAIL(CL_INVALID_BUFFER_SIZE);
    lock();
    cl_mem memory = memory_new(context, CL_MEM_OBJECT_BUFFER, flags, size);
    wrong = memory ? make_buffer(memory, host_ptr) : CL_OUT_OF_HOST_MEMORY;
    if (memory && flags & CL_MEM_USE_HOST_PTR)
        memory->host_ptr = host_ptr;
    memory = memory_give(memory, wrong, status);
    unlock();
    return memory;
}

static cl_mem_flags sub_flags(cl_mem_flags own, cl_mem_flags parent)
{
    const cl_mem_flags access = CL_MEM_READ_WRITE | CL_MEM_WRITE_ONLY | CL_MEM_READ_ONLY;
    const cl_mem_flags host =
        CL_MEM_HOST_WRITE_ONLY | CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_NO_ACCESS;
    if (!(own & access))
        own |= parent & access;
    if (!(own & host))
        own |= parent & host;
    return own | (parent & (CL_MEM_USE_HOST_PTR | CL_MEM_ALLOC_HOST_PTR | CL_MEM_COPY_HOST_PTR));
}

static cl_int check_sub_flags(cl_mem_flags own, cl_mem_flags parent)
{
    if (memory_check_flags(own, NULL) || own & CL_MEM_ALLOC_HOST_PTR)
        return CL_INVALID_VALUE;
    if (parent & CL_MEM_WRITE_ONLY && own & (CL_MEM_READ_WRITE | CL_MEM_READ_ONLY))
        return CL_INVALID_VALUE;
    if (parent & CL_MEM_READ_ONLY && own & (CL_MEM_READ_WRITE | CL_MEM_WRITE_ONLY))
        return CL_INVALID_VALUE;
    if (parent & CL_MEM_HOST_WRITE_ONLY && own & CL_MEM_HOST_READ_ONLY)
        return CL_INVALID_VALUE;
    if (parent & CL_MEM_HOST_READ_ONLY && own & CL_MEM_HOST_WRITE_ONLY)
        return CL_INVALID_VALUE;
    if (parent & CL_MEM_HOST_NO_ACCESS && own & (CL_MEM_HOST_READ_ONLY | CL_MEM_HOST_WRITE_ONLY))
        return CL_INVALID_VALUE;
    return CL_SUCCESS;
}

cl_mem clCreateSubBuffer(cl_mem buffer, cl_mem_flags flags, cl_buffer_create_type type,
                         const void *info, cl_int *status)
{
    const cl_buffer_region *region = info;
    if (!is_object(buffer, MEMORY) || buffer->type != CL_MEM_OBJECT_BUFFER || buffer->parent)
        FAIL(CL_INVALID_MEM_OBJECT);
    cl_int wrong = check_sub_flags(flags, buffer->flags);
    if (wrong)
        FAIL(wrong);
    if (type != CL_BUFFER_CREATE_TYPE_REGION || !region)
        FAIL(CL_INVALID_VALUE);
    if (!region->size)
        FAIL(CL_INVALID_BUFFER_SIZE);
    if (region->origin > buffer->size || region->size > buffer->size - region->origin)
        FAIL(CL_INVALID_VALUE);
    uint64_t alignment = device_number(CL_DEVICE_MEM_BASE_ADDR_ALIGN, 1024) / 8;
    if (alignment && region->origin % alignment)
        FAIL(CL_MISALIGNED_SUB_BUFFER_OFFSET);
    lock();
    cl_mem_flags all_flags = sub_flags(flags, buffer->flags);
    cl_mem memory = memory_new(buffer->context, CL_MEM_OBJECT_BUFFER, all_flags, region->size);
    struct piece *answer = piece_take(sizeof(struct gpu_answer_header));
    wrong = CL_OUT_OF_HOST_MEMORY;
    if (memory && answer) {
        memory->parent = buffer;
        memory->origin = region->origin;
        memory->blob = buffer->blob;
        memory->blob_offset = buffer->blob_offset + region->origin;
        memory->host_ptr = buffer->host_ptr ? buffer->host_ptr + region->origin : NULL;
        object_use(buffer);
        struct gpu_answer_place place = answer_place(answer);
        stream_begin_alone();
        SEND(create_sub_buffer, &place, .flags = flags & FLAGS_OF_DEVICE,
             .origin = region->origin, .size = region->size, .id = memory->object.id,
             .buffer = buffer->object.id);
        wrong = memory_made(answer);
    }
    memory = memory_give(memory, wrong, status);
    unlock();
    return memory;
}

cl_int clRetainMemObject(cl_mem memory)
{
    return object_retain(memory, MEMORY, CL_INVALID_MEM_OBJECT);
}

cl_int clReleaseMemObject(cl_mem memory)
{
    return object_release(memory, MEMORY, CL_INVALID_MEM_OBJECT);
}

static cl_uint map_count(cl_mem memory)
{
    cl_uint count = 0;
    lock();
    for (struct mapping *mapping = memory->mappings; mapping; mapping = mapping->next)
        count++;
    unlock();
    return count;
}

cl_int clGetMemObjectInfo(cl_mem memory, cl_mem_info name, size_t size, void *value,
                          size_t *size_ret)
{
    if (!is_object(memory, MEMORY))
        return CL_INVALID_MEM_OBJECT;
    switch (name) {
    case CL_MEM_TYPE: GIVE(cl_mem_object_type, memory->type);
    case CL_MEM_FLAGS: GIVE(cl_mem_flags, memory->flags);
    case CL_MEM_SIZE: GIVE(size_t, memory->size);
    case CL_MEM_HOST_PTR: GIVE(void *, memory->host_ptr);
    case CL_MEM_MAP_COUNT: GIVE(cl_uint, map_count(memory));
    case CL_MEM_REFERENCE_COUNT: GIVE(cl_uint, memory->object.references);
    case CL_MEM_CONTEXT: GIVE(cl_context, memory->context);
    case CL_MEM_ASSOCIATED_MEMOBJECT: GIVE(cl_mem, memory->parent);
    case CL_MEM_OFFSET: GIVE(size_t, memory->origin);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clSetMemObjectDestructorCallback(cl_mem memory, void (*notify)(cl_mem, void *),
                                        void *user_data)
{
    if (!is_object(memory, MEMORY))
        return CL_INVALID_MEM_OBJECT;
    if (!notify)
        return CL_INVALID_VALUE;
    struct destructor *destructor = malloc(sizeof *destructor);
    if (!destructor)
        return CL_OUT_OF_HOST_MEMORY;
    lock();
    *destructor = (struct destructor){memory->destructors, notify, user_data};
    memory->destructors = destructor;
    unlock();
    return CL_SUCCESS;
}

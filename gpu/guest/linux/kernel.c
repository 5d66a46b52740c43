#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "sampler.h"

#define INFO_ROOM (64u << 10)

/* Whether `name` is one of the names that `;` separates. */
static bool is_named(const char *names, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = names; at && *at;) {
        size_t length = strcspn(at, ";");
        if (length == size && !memcmp(at, name, size))
            return true;
        at += length + (at[length] == ';');
    }
    return false;
}

/* The next of the texts that end in NUL. */
static const char *next_text(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at;
    const uint8_t *stop = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
    if (!stop)
        return "";
    *at = stop + 1;
    return (const char *)start;
}

static bool take_arguments(cl_kernel kernel)
{
    const struct gpu_kernel_info *info = &kernel->info;
    const uint32_t count = info->num_args;
    kernel->arguments = calloc(count ? count : 1, sizeof *kernel->arguments);
    if (!kernel->arguments)
        return false;
    if (!info->has_arguments || info->address_qualifiers_count < count
        || info->access_qualifiers_count < count || info->type_qualifiers_count < count) {
        kernel->info.has_arguments = 0;
        return true;
    }
    const uint8_t *types = info->type_names, *names = info->names;
    for (uint32_t i = 0; i < count; i++) {
        struct argument *argument = &kernel->arguments[i];
        argument->address = info->address_qualifiers[i];
        argument->access = info->access_qualifiers[i];
        argument->type_qualifier = info->type_qualifiers[i];
        argument->type_name = next_text(&types, info->type_names + info->type_names_count);
        argument->name = next_text(&names, info->names + info->names_count);
    }
    return true;
}

static cl_int take_info(cl_kernel kernel, const struct piece *answer)
{
    uint64_t size;
    const void *body = answer_body(answer, &size);
    kernel->answer = malloc(size ? size : 1);
    if (!kernel->answer)
        return CL_OUT_OF_HOST_MEMORY;
    memcpy(kernel->answer, body, size);
    if (!gpu_decode_kernel_info(kernel->answer, size, &kernel->info))
        return CL_OUT_OF_RESOURCES;
    const struct gpu_kernel_info *info = &kernel->info;
    const uint8_t *attributes = info->attributes;
    kernel->attributes = strdup(next_text(&attributes, attributes + info->attributes_count));
    return kernel->attributes && take_arguments(kernel) ? CL_SUCCESS : CL_OUT_OF_HOST_MEMORY;
}

static cl_int make_kernel(cl_kernel kernel)
{
    struct piece *made = piece_take(sizeof(struct gpu_answer_header));
    struct piece *known = piece_take(INFO_ROOM);
    cl_int status = CL_OUT_OF_HOST_MEMORY;
    if (made && known) {
        struct gpu_answer_place made_place = answer_place(made), place = answer_place(known);
        stream_begin_alone();
        SEND(create_kernel, &made_place, .id = kernel->object.id,
             .program = kernel->program->object.id,
             .function_name = (const uint8_t *)kernel->name,
             .function_name_count = (uint32_t)strlen(kernel->name));
        SEND(get_kernel_info, &place, .kernel = kernel->object.id);
        stream_ask(known);
        status = answer_status(made);
        if (!status)
            status = answer_status(known) ? answer_status(known) : take_info(kernel, known);
    }
    if (made)
        piece_give(made);
    if (known)
        piece_give(known);
    return status;
}

/* With the lock held. */
static cl_kernel kernel_new(cl_program program, const char *name, size_t length, cl_int *status)
{
    cl_kernel kernel = object_new(KERNEL, sizeof *kernel);
    *status = CL_OUT_OF_HOST_MEMORY;
    if (!kernel)
        return NULL;
    kernel->program = program;
    kernel->object.id = id_new();
    kernel->name = strndup(name, length);
    object_use(program);
    program->kernels++;
    if (kernel->name)
        *status = make_kernel(kernel);
    if (*status) {
        object_discard(kernel);
        return NULL;
    }
    return kernel;
}

cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *status)
{
    if (!is_object(program, PROGRAM))
        FAIL(CL_INVALID_PROGRAM);
    if (!name)
        FAIL(CL_INVALID_VALUE);
    if (program->build_status || !program->kernel_names)
        FAIL(CL_INVALID_PROGRAM_EXECUTABLE);
    if (!is_named(program->kernel_names, name))
        FAIL(CL_INVALID_KERNEL_NAME);
    cl_int wrong;
    lock();
    cl_kernel kernel = kernel_new(program, name, strlen(name), &wrong);
    unlock();
    if (status)
        *status = wrong;
    return kernel;
}

cl_int clCreateKernelsInProgram(cl_program program, cl_uint num_kernels, cl_kernel *kernels,
                                cl_uint *num_kernels_ret)
{
    if (!is_object(program, PROGRAM))
        return CL_INVALID_PROGRAM;
    if (program->build_status || !program->kernel_names)
        return CL_INVALID_PROGRAM_EXECUTABLE;
    size_t count;
    clGetProgramInfo(program, CL_PROGRAM_NUM_KERNELS, sizeof count, &count, NULL);
    if (kernels && num_kernels < count)
        return CL_INVALID_VALUE;
    const char *at = program->kernel_names;
    cl_int status = CL_SUCCESS;
    lock();
    for (size_t i = 0; kernels && i < count && !status; i++) {
        size_t length = strcspn(at, ";");
        kernels[i] = kernel_new(program, at, length, &status);
        at += length + 1;
        while (status && i--)
            object_drop((object_use(kernels[i]), kernels[i]->object.references--, kernels[i]));
    }
    unlock();
    if (num_kernels_ret)
        *num_kernels_ret = (cl_uint)count;
    return status;
}

void kernel_destroy(cl_kernel kernel)
{
    free(kernel->name);
    free(kernel->attributes);
    free(kernel->answer);
    free(kernel->arguments);
    kernel->program->kernels--;
    object_drop(kernel->program);
}

cl_int clRetainKernel(cl_kernel kernel)
{
    return object_retain(kernel, KERNEL, CL_INVALID_KERNEL);
}

cl_int clReleaseKernel(cl_kernel kernel)
{
    return object_release(kernel, KERNEL, CL_INVALID_KERNEL);
}

/* -- arguments ----------------------------------------------------------------------------- */

/* Bytes of an argument of a built-in type, or 0 where the type is not one. */
static size_t type_size(const char *type)
{
    static const struct {
        const char *name;
        size_t size;
    } types[] = {
        {"char", 1}, {"uchar", 1}, {"short", 2}, {"ushort", 2}, {"int", 4},
        {"uint", 4}, {"long", 8},  {"ulong", 8}, {"float", 4},  {"double", 8},
        {"half", 2},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t length = strlen(types[i].name);
        if (strncmp(type, types[i].name, length))
            continue;
        if (!type[length])
            return types[i].size;
        char *end;
        unsigned long count = strtoul(type + length, &end, 10);
        if (!*end && (count == 2 || count == 3 || count == 4 || count == 8 || count == 16))
            return types[i].size * (count == 3 ? 4 : count);
    }
    return 0;
}

enum argument_kind { BYTES, MEMORY_ARGUMENT, IMAGE_ARGUMENT, SAMPLER_ARGUMENT, LOCAL_ARGUMENT };

static enum argument_kind guess_kind(size_t size, const void *value)
{
    void *pointer;
    if (!value)
        return LOCAL_ARGUMENT;
    if (size != sizeof pointer)
        return BYTES;
    memcpy(&pointer, value, sizeof pointer);
    if (is_sampler(pointer))
        return SAMPLER_ARGUMENT;
    return is_memory(pointer) ? MEMORY_ARGUMENT : BYTES;
}

static enum argument_kind kind_of(const struct argument *argument)
{
    if (argument->address == CL_KERNEL_ARG_ADDRESS_LOCAL)
        return LOCAL_ARGUMENT;
    if (!strncmp(argument->type_name, "image", 5) && argument->access != CL_KERNEL_ARG_ACCESS_NONE)
        return IMAGE_ARGUMENT;
    if (!strcmp(argument->type_name, "sampler_t"))
        return SAMPLER_ARGUMENT;
    return argument->address == CL_KERNEL_ARG_ADDRESS_PRIVATE ? BYTES : MEMORY_ARGUMENT;
}

static cl_int set_object(cl_kernel kernel, cl_uint index, enum argument_kind kind, size_t size,
                         const void *value)
{
    void *pointer = NULL;
    if (size != sizeof pointer)
        return CL_INVALID_ARG_SIZE;
    if (value)
        memcpy(&pointer, value, sizeof pointer);
    if (kind == SAMPLER_ARGUMENT && !is_sampler(pointer))
        return CL_INVALID_SAMPLER;
    if (kind == IMAGE_ARGUMENT && !(is_memory(pointer) && is_image(pointer)))
        return CL_INVALID_MEM_OBJECT;
    if (kind == MEMORY_ARGUMENT && pointer && !is_memory(pointer))
        return CL_INVALID_MEM_OBJECT;
    uint32_t id = pointer ? ((struct object *)pointer)->id : 0;
    SEND(set_argument_object, NULL, .kernel = kernel->object.id, .index = index, .object = id);
    return CL_SUCCESS;
}

static cl_int set_bytes(cl_kernel kernel, cl_uint index, const struct argument *argument,
                        size_t size, const void *value)
{
    size_t wanted = kernel->info.has_arguments ? type_size(argument->type_name) : 0;
    if (!value)
        return CL_INVALID_ARG_VALUE;
    if (!size || (wanted && size != wanted) || size > 4096)
        return CL_INVALID_ARG_SIZE;
    SEND(set_argument, NULL, .kernel = kernel->object.id, .index = index, .value = value,
         .value_count = (uint32_t)size);
    return CL_SUCCESS;
}

static cl_int set_local(cl_kernel kernel, cl_uint index, size_t size, const void *value)
{
    if (value)
        return CL_INVALID_ARG_VALUE;
    if (!size)
        return CL_INVALID_ARG_SIZE;
    SEND(set_argument_local, NULL, .size = size, .kernel = kernel->object.id, .index = index);
    return CL_SUCCESS;
}

cl_int clSetKernelArg(cl_kernel kernel, cl_uint index, size_t size, const void *value)
{
    if (!is_object(kernel, KERNEL))
        return CL_INVALID_KERNEL;
    if (index >= kernel->info.num_args)
        return CL_INVALID_ARG_INDEX;
    lock();
    struct argument *argument = &kernel->arguments[index];
    const enum argument_kind kind =
        kernel->info.has_arguments ? kind_of(argument) : guess_kind(size, value);
    cl_int status;
    stream_begin(NULL, false);
    switch (kind) {
    case BYTES: status = set_bytes(kernel, index, argument, size, value); break;
    case LOCAL_ARGUMENT: status = set_local(kernel, index, size, value); break;
    default: status = set_object(kernel, index, kind, size, value); break;
    }
    if (!status) {
        argument->is_set = true;
        status = stream_status();
    }
    unlock();
    return status;
}

/* -- information --------------------------------------------------------------------------- */

cl_int clGetKernelInfo(cl_kernel kernel, cl_kernel_info name, size_t size, void *value,
                       size_t *size_ret)
{
    if (!is_object(kernel, KERNEL))
        return CL_INVALID_KERNEL;
    switch (name) {
    case CL_KERNEL_FUNCTION_NAME: return give_text(kernel->name, size, value, size_ret);
    case CL_KERNEL_NUM_ARGS: GIVE(cl_uint, kernel->info.num_args);
    case CL_KERNEL_REFERENCE_COUNT: GIVE(cl_uint, kernel->object.references);
    case CL_KERNEL_CONTEXT: GIVE(cl_context, kernel->program->context);
    case CL_KERNEL_PROGRAM: GIVE(cl_program, kernel->program);
    case CL_KERNEL_ATTRIBUTES: return give_text(kernel->attributes, size, value, size_ret);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clGetKernelArgInfo(cl_kernel kernel, cl_uint index, cl_kernel_arg_info name, size_t size,
                          void *value, size_t *size_ret)
{
    if (!is_object(kernel, KERNEL))
        return CL_INVALID_KERNEL;
    if (index >= kernel->info.num_args)
        return CL_INVALID_ARG_INDEX;
    if (!kernel->info.has_arguments)
        return CL_KERNEL_ARG_INFO_NOT_AVAILABLE;
    const struct argument *argument = &kernel->arguments[index];
    switch (name) {
    case CL_KERNEL_ARG_ADDRESS_QUALIFIER:
        GIVE(cl_kernel_arg_address_qualifier, argument->address);
    case CL_KERNEL_ARG_ACCESS_QUALIFIER: GIVE(cl_kernel_arg_access_qualifier, argument->access);
    case CL_KERNEL_ARG_TYPE_QUALIFIER:
        GIVE(cl_kernel_arg_type_qualifier, argument->type_qualifier);
    case CL_KERNEL_ARG_TYPE_NAME: return give_text(argument->type_name, size, value, size_ret);
    case CL_KERNEL_ARG_NAME: return give_text(argument->name, size, value, size_ret);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clGetKernelWorkGroupInfo(cl_kernel kernel, cl_device_id device,
                                cl_kernel_work_group_info name, size_t size, void *value,
                                size_t *size_ret)
{
    if (!is_object(kernel, KERNEL))
        return CL_INVALID_KERNEL;
    if (device && device != &the_device)
        return CL_INVALID_DEVICE;
    const struct gpu_kernel_info *info = &kernel->info;
    switch (name) {
    case CL_KERNEL_WORK_GROUP_SIZE: GIVE(size_t, info->work_group_size);
    case CL_KERNEL_COMPILE_WORK_GROUP_SIZE:
        return give(info->compile_work_group_size, sizeof info->compile_work_group_size, size,
                    value, size_ret);
    case CL_KERNEL_LOCAL_MEM_SIZE: GIVE(cl_ulong, info->local_mem_size);
    case CL_KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE:
        GIVE(size_t, info->preferred_work_group_size_multiple);
    case CL_KERNEL_PRIVATE_MEM_SIZE: GIVE(cl_ulong, info->private_mem_size);
    default: return CL_INVALID_VALUE;
    }
}

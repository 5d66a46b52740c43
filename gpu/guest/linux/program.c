#include <stdlib.h>
#include <string.h>

#include "library.h"

#define LOG_ROOM GPU_MAX_ANSWER

static char *text_of(const void *bytes, size_t size)
{
    char *text = malloc(size + 1);
    if (text) {
        if (size)
            memcpy(text, bytes, size);
        text[size] = 0;
    }
    return text;
}

static cl_program program_new(cl_context context)
{
    cl_program program = object_new(PROGRAM, sizeof *program);
    if (program) {
        program->context = context;
        program->build_status = CL_BUILD_NONE;
        program->object.id = id_new();
        object_use(context);
    }
    return program;
}

static cl_program program_give(cl_program program, cl_int wrong, cl_int *status)
{
    if (wrong && program) {
        object_discard(program);
        program = NULL;
    }
    if (status)
        *status = wrong;
    return program;
}

void program_destroy(cl_program program)
{
    free(program->source);
    free(program->options);
    free(program->log);
    free(program->kernel_names);
    free(program->key);
    object_drop(program->context);
}

static char *join(cl_uint count, const char **strings, const size_t *lengths, cl_int *wrong)
{
    size_t total = 0;
    *wrong = count && strings ? CL_SUCCESS : CL_INVALID_VALUE;
    for (cl_uint i = 0; !*wrong && i < count; i++) {
        if (!strings[i])
            *wrong = CL_INVALID_VALUE;
        else
            total += lengths && lengths[i] ? lengths[i] : strlen(strings[i]);
    }
    char *source = *wrong ? NULL : malloc(total + 1);
    if (!source) {
        *wrong = *wrong ? *wrong : CL_OUT_OF_HOST_MEMORY;
        return NULL;
    }
    char *at = source;
    for (cl_uint i = 0; i < count; i++) {
        size_t size = lengths && lengths[i] ? lengths[i] : strlen(strings[i]);
        memcpy(at, strings[i], size);
        at += size;
    }
    *at = 0;
    return source;
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char **strings,
                                     const size_t *lengths, cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    cl_int wrong;
    char *source = join(count, strings, lengths, &wrong);
    if (!wrong && !*source) {
        free(source);
        wrong = CL_INVALID_VALUE;
    }
    if (wrong)
        FAIL(wrong);
    lock();
    cl_program program = program_new(context);
    wrong = CL_OUT_OF_HOST_MEMORY;
    if (program) {
        program->source = source;
        stream_begin(NULL, false);
        SEND(create_program, NULL, .id = program->object.id, .context = context->object.id,
             .source = (const uint8_t *)source, .source_count = (uint32_t)strlen(source));
        wrong = stream_status();
    } else {
        free(source);
    }
    program = program_give(program, wrong, status);
    unlock();
    return program;
}

/* Make a program with one packet that is answered. */
#define MAKE_PROGRAM(name, ...)                                                   \
    do {                                                                          \
        struct piece *answer_ = piece_take(sizeof(struct gpu_answer_header));     \
        wrong = CL_OUT_OF_HOST_MEMORY;                                            \
        if (program && answer_) {                                                 \
            struct gpu_answer_place place_ = answer_place(answer_);               \
            stream_begin_alone();                                                 \
            SEND(name, &place_, .id = program->object.id,                         \
                 .context = context->object.id, __VA_ARGS__);                     \
            stream_ask(answer_);                                                  \
            wrong = answer_status(answer_);                                       \
        }                                                                         \
        if (answer_)                                                              \
            piece_give(answer_);                                                  \
    } while (0)

cl_program clCreateProgramWithBinary(cl_context context, cl_uint num_devices,
                                     const cl_device_id *devices, const size_t *lengths,
                                     const unsigned char **binaries, cl_int *binary_status,
                                     cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    if (!num_devices || !devices || !lengths || !binaries || !lengths[0] || !binaries[0])
        FAIL(CL_INVALID_VALUE);
    if (!are_our_devices(num_devices, devices))
        FAIL(CL_INVALID_DEVICE);
    lock();
    cl_program program = program_new(context);
    cl_int wrong;
    /* What stands for a binary is its key on the host: nothing longer is one. */
    if (lengths[0] > 256)
        wrong = CL_INVALID_BINARY;
    else
        MAKE_PROGRAM(create_program_with_binary, .key = binaries[0],
                     .key_count = (uint32_t)lengths[0]);
    if (binary_status)
        *binary_status = wrong;
    program = program_give(program, wrong, status);
    unlock();
    return program;
}

cl_program clCreateProgramWithBuiltInKernels(cl_context context, cl_uint num_devices,
                                             const cl_device_id *devices, const char *names,
                                             cl_int *status)
{
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    if (!names || !num_devices || !devices)
        FAIL(CL_INVALID_VALUE);
    FAIL(are_our_devices(num_devices, devices) ? CL_INVALID_VALUE : CL_INVALID_DEVICE);
}

/* -- building ------------------------------------------------------------------------------ */

static cl_int check_build(cl_program program, cl_uint num_devices, const cl_device_id *devices,
                          void (*notify)(cl_program, void *), void *user_data)
{
    if (!is_object(program, PROGRAM))
        return CL_INVALID_PROGRAM;
    if (!num_devices != !devices || (!notify && user_data))
        return CL_INVALID_VALUE;
    if (devices && !are_our_devices(num_devices, devices))
        return CL_INVALID_DEVICE;
    return CL_SUCCESS;
}

static void take_build(cl_program program, const struct piece *answer)
{
    struct gpu_program_build build;
    uint64_t size;
    const void *body = answer_body(answer, &size);
    if (answer_status(answer) || !gpu_decode_program_build(body, size, &build)) {
        program->build_status = CL_BUILD_ERROR;
        return;
    }
    program->build_status = build.build_status;
    program->binary_type = build.binary_type;
    free(program->log);
    program->log = text_of(build.log, build.log_count);
}

static void take_info(cl_program program, const struct piece *answer)
{
    struct gpu_program_info info;
    uint64_t size;
    const void *body = answer_body(answer, &size);
    free(program->kernel_names);
    free(program->key);
    program->kernel_names = NULL;
    program->key = NULL;
    program->key_size = 0;
    if (answer_status(answer) || !gpu_decode_program_info(body, size, &info))
        return;
    program->kernel_names = text_of(info.kernels, info.kernels_count);
    program->key = (uint8_t *)text_of(info.key, info.key_count);
    program->key_size = program->key ? info.key_count : 0;
}

static void take_prints(const struct piece *answer)
{
    struct gpu_program_prints program;
    uint64_t size;
    const void *body = answer_body(answer, &size);
    if (!answer_status(answer) && gpu_decode_program_prints(body, size, &program) && program.prints)
        printed_expect();
}

struct build_answers {
    struct piece *build, *log, *info, *prints;
};

static bool take_answers(struct build_answers *answers)
{
    answers->build = piece_take(sizeof(struct gpu_answer_header));
    answers->log = piece_take(LOG_ROOM);
    answers->info = piece_take(LOG_ROOM);
    answers->prints = piece_take(sizeof(struct gpu_answer_header) + 8);
    return answers->build && answers->log && answers->info && answers->prints;
}

static void give_answers(struct build_answers *answers)
{
    if (answers->build)
        piece_give(answers->build);
    if (answers->log)
        piece_give(answers->log);
    if (answers->info)
        piece_give(answers->info);
    if (answers->prints)
        piece_give(answers->prints);
}

/* Ask how a build went, send it all, and take the answers. */
static cl_int finish_build(cl_program program, struct build_answers *answers)
{
    struct gpu_answer_place log = answer_place(answers->log), info = answer_place(answers->info);
    struct gpu_answer_place prints = answer_place(answers->prints);
    SEND(get_program_build, &log, .program = program->object.id);
    SEND(get_program_info, &info, .program = program->object.id);
    SEND(get_program_prints, &prints, .program = program->object.id);
    stream_ask(answers->info);
    take_build(program, answers->log);
    take_info(program, answers->info);
    take_prints(answers->prints);
    return answer_status(answers->build);
}

cl_int clBuildProgram(cl_program program, cl_uint num_devices, const cl_device_id *devices,
                      const char *options, void (*notify)(cl_program, void *), void *user_data)
{
    cl_int status = check_build(program, num_devices, devices, notify, user_data);
    if (status)
        return status;
    struct build_answers answers;
    const char *given = options ? options : "";
    lock();
    if (program->kernels) {
        status = CL_INVALID_OPERATION;
    } else if (!take_answers(&answers)) {
        give_answers(&answers);
        status = CL_OUT_OF_HOST_MEMORY;
    } else {
        free(program->options);
        program->options = text_of(given, strlen(given));
        struct gpu_answer_place place = answer_place(answers.build);
        stream_begin_alone();
        SEND(build_program, &place, .program = program->object.id,
             .options = (const uint8_t *)given, .options_count = (uint32_t)strlen(given));
        status = finish_build(program, &answers);
        give_answers(&answers);
    }
    unlock();
    if (notify)
        notify(program, user_data);
    return status;
}

static cl_int compile(cl_program program, const char *options, cl_uint num_headers,
                      const cl_program *headers, const char **names)
{
    uint32_t ids[256];
    size_t size = 0;
    for (cl_uint i = 0; i < num_headers; i++) {
        ids[i] = headers[i]->object.id;
        size += strlen(names[i]) + 1;
    }
    char *joined = malloc(size + 1);
    struct build_answers answers;
    cl_int status = CL_OUT_OF_HOST_MEMORY;
    bool ready = take_answers(&answers);
    if (joined && ready) {
        char *at = joined;
        for (cl_uint i = 0; i < num_headers; i++) {
            strcpy(at, names[i]);
            at += strlen(at) + 1;
        }
        struct gpu_answer_place place = answer_place(answers.build);
        stream_begin_alone();
        SEND(compile_program, &place, .program = program->object.id, .headers = ids,
             .headers_count = num_headers, .names = (const uint8_t *)joined,
             .names_count = (uint32_t)size, .options = (const uint8_t *)options,
             .options_count = (uint32_t)strlen(options));
        status = finish_build(program, &answers);
    }
    give_answers(&answers);
    free(joined);
    return status;
}

cl_int clCompileProgram(cl_program program, cl_uint num_devices, const cl_device_id *devices,
                        const char *options, cl_uint num_headers, const cl_program *headers,
                        const char **names, void (*notify)(cl_program, void *), void *user_data)
{
    cl_int status = check_build(program, num_devices, devices, notify, user_data);
    if (status)
        return status;
    if (!num_headers != !headers || !num_headers != !names || num_headers > 256)
        return CL_INVALID_VALUE;
    for (cl_uint i = 0; i < num_headers; i++)
        if (!is_object(headers[i], PROGRAM) || !names[i])
            return CL_INVALID_VALUE;
    const char *given = options ? options : "";
    lock();
    if (program->kernels) {
        status = CL_INVALID_OPERATION;
    } else {
        free(program->options);
        program->options = text_of(given, strlen(given));
        status = compile(program, given, num_headers, headers, names);
    }
    unlock();
    if (notify)
        notify(program, user_data);
    return status;
}

cl_program clLinkProgram(cl_context context, cl_uint num_devices, const cl_device_id *devices,
                         const char *options, cl_uint num_programs, const cl_program *programs,
                         void (*notify)(cl_program, void *), void *user_data, cl_int *status)
{
    uint32_t ids[256];
    if (!is_object(context, CONTEXT))
        FAIL(CL_INVALID_CONTEXT);
    if (!num_programs || !programs || num_programs > 256 || !num_devices != !devices
        || (!notify && user_data))
        FAIL(CL_INVALID_VALUE);
    if (devices && !are_our_devices(num_devices, devices))
        FAIL(CL_INVALID_DEVICE);
    for (cl_uint i = 0; i < num_programs; i++) {
        if (!is_object(programs[i], PROGRAM))
            FAIL(CL_INVALID_PROGRAM);
        ids[i] = programs[i]->object.id;
    }
    const char *given = options ? options : "";
    struct build_answers answers;
    lock();
    cl_program program = program_new(context);
    cl_int wrong = CL_OUT_OF_HOST_MEMORY;
    bool ready = take_answers(&answers);
    if (program && ready) {
        program->options = text_of(given, strlen(given));
        struct gpu_answer_place place = answer_place(answers.build);
        stream_begin_alone();
        SEND(link_program, &place, .id = program->object.id, .context = context->object.id,
             .programs = ids, .programs_count = num_programs, .options = (const uint8_t *)given,
             .options_count = (uint32_t)strlen(given));
        wrong = finish_build(program, &answers);
    }
    give_answers(&answers);
    program = program_give(program, wrong, status);
    unlock();
    if (notify)
        notify(program, user_data);
    return program;
}

/* -- information --------------------------------------------------------------------------- */

cl_int clRetainProgram(cl_program program)
{
    return object_retain(program, PROGRAM, CL_INVALID_PROGRAM);
}

cl_int clReleaseProgram(cl_program program)
{
    return object_release(program, PROGRAM, CL_INVALID_PROGRAM);
}

static size_t count_names(const char *names)
{
    size_t count = names && *names;
    for (const char *at = names; at && *at; at++)
        count += *at == ';';
    return count;
}

static cl_int give_binaries(cl_program program, size_t size, void *value, size_t *size_ret)
{
    if (value && size < sizeof(unsigned char *))
        return CL_INVALID_VALUE;
    unsigned char *to = value ? *(unsigned char **)value : NULL;
    if (to && program->key_size)
        memcpy(to, program->key, program->key_size);
    if (size_ret)
        *size_ret = sizeof to;
    return CL_SUCCESS;
}

cl_int clGetProgramInfo(cl_program program, cl_program_info name, size_t size, void *value,
                        size_t *size_ret)
{
    if (!is_object(program, PROGRAM))
        return CL_INVALID_PROGRAM;
    switch (name) {
    case CL_PROGRAM_REFERENCE_COUNT: GIVE(cl_uint, program->object.references);
    case CL_PROGRAM_CONTEXT: GIVE(cl_context, program->context);
    case CL_PROGRAM_NUM_DEVICES: GIVE(cl_uint, 1);
    case CL_PROGRAM_DEVICES: GIVE(cl_device_id, &the_device);
    case CL_PROGRAM_SOURCE: return give_text(program->source, size, value, size_ret);
    case CL_PROGRAM_BINARY_SIZES: GIVE(size_t, program->key_size);
    case CL_PROGRAM_BINARIES: return give_binaries(program, size, value, size_ret);
    case CL_PROGRAM_NUM_KERNELS:
        if (!program->kernel_names || program->build_status)
            return CL_INVALID_PROGRAM_EXECUTABLE;
        GIVE(size_t, count_names(program->kernel_names));
    case CL_PROGRAM_KERNEL_NAMES:
        if (!program->kernel_names || program->build_status)
            return CL_INVALID_PROGRAM_EXECUTABLE;
        return give_text(program->kernel_names, size, value, size_ret);
    default: return CL_INVALID_VALUE;
    }
}

cl_int clGetProgramBuildInfo(cl_program program, cl_device_id device, cl_program_build_info name,
                             size_t size, void *value, size_t *size_ret)
{
    if (!is_object(program, PROGRAM))
        return CL_INVALID_PROGRAM;
    if (device != &the_device)
        return CL_INVALID_DEVICE;
    switch (name) {
    case CL_PROGRAM_BUILD_STATUS: GIVE(cl_build_status, program->build_status);
    case CL_PROGRAM_BUILD_OPTIONS: return give_text(program->options, size, value, size_ret);
    case CL_PROGRAM_BUILD_LOG: return give_text(program->log, size, value, size_ret);
    case CL_PROGRAM_BINARY_TYPE: GIVE(cl_program_binary_type, program->binary_type);
    default: return CL_INVALID_VALUE;
    }
}

/* The GPU without the library: the kernel's driver and gpu_protocol.h, and saxpy on blobs that the
 * device computes on in place. */
#include "gpu_protocol.h"
#include "virtgpu.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT (1u << 18)

static const char *source =
    "__kernel void saxpy(float a, __global const float *x, __global float *y)\n"
    "{ size_t i = get_global_id(0); y[i] = a * x[i] + y[i]; }\n";

static uint64_t stream[4096], used;

#define ADD(name, place, ...)                                                               \
    do {                                                                                    \
        const struct gpu_##name command = {__VA_ARGS__};                                    \
        used += gpu_encode_##name((uint8_t *)stream + used, sizeof stream - used, &command, \
                                  place);                                                   \
    } while (0)

static void fail(const char *what)
{
    printf("FAIL raw: %s\n", what);
    exit(1);
}

static void submit(int device, uint32_t ring)
{
    int fence = virtgpu_submit(device, ring, stream, (uint32_t)used);
    struct pollfd wait = {.fd = fence, .events = POLLIN};
    if (fence < 0 || poll(&wait, 1, 60000) != 1)
        fail("the fence does not signal");
    close(fence);
    used = 0;
}

int main(void)
{
    struct blob x, y, answer;
    uint64_t capset_size;
    int device = virtgpu_open();
    void *capset = device < 0 ? NULL : virtgpu_capset(device, &capset_size);
    struct gpu_capset known;
    if (!capset || !gpu_decode_capset(capset, capset_size, &known) || known.status)
        fail("there is no device that computes");
    if (!virtgpu_context(device, GPU_RINGS) || !virtgpu_create_blob(device, 4 * COUNT, &x)
        || !virtgpu_create_blob(device, 4 * COUNT, &y)
        || !virtgpu_create_blob(device, 4096, &answer))
        fail("there are no blobs");
    float *x_values = (float *)(void *)x.bytes, *y_values = (float *)(void *)y.bytes;
    for (uint32_t i = 0; i < COUNT; i++) {
        x_values[i] = (float)i;
        y_values[i] = 1;
    }
    const float a = 2;
    const struct gpu_answer_place place = {0, answer.resource, 4096};
    ADD(create_context, NULL, .id = 1);
    ADD(create_queue, NULL, .id = 2, .context = 1);
    ADD(create_buffer, NULL, .id = 3, .context = 1, .size = 4 * COUNT, .blob = x.resource);
    ADD(create_buffer, NULL, .id = 4, .context = 1, .size = 4 * COUNT, .blob = y.resource);
    ADD(create_program, NULL, .id = 5, .context = 1, .source = (const uint8_t *)source,
        .source_count = (uint32_t)strlen(source));
    ADD(build_program, NULL, .program = 5);
    ADD(create_kernel, NULL, .id = 6, .program = 5, .function_name = (const uint8_t *)"saxpy",
        .function_name_count = 5);
    ADD(set_argument, NULL, .kernel = 6, .index = 0, .value = (const uint8_t *)&a,
        .value_count = sizeof a);
    ADD(set_argument_object, NULL, .kernel = 6, .index = 1, .object = 3);
    ADD(set_argument_object, NULL, .kernel = 6, .index = 2, .object = 4);
    ADD(nd_range, NULL, .queue = 2, .kernel = 6, .dimensions = 1, .global_size = {COUNT, 1, 1});
    ADD(map_buffer, NULL, .queue = 2, .buffer = 4, .flags = GPU_MAP_FLAGS_READ, .size = 4 * COUNT,
        .id = 7);
    submit(device, 1);
    ADD(get_error, &place, 0);
    submit(device, 0);
    const struct gpu_answer_header *header = (const void *)answer.bytes;
    struct gpu_latched_error error;
    if (header->status || !gpu_decode_latched_error(header + 1, header->size, &error)
        || error.error) {
        printf("error %d of command %#x\n", error.error, error.opcode);
        fail("a command failed");
    }
    for (uint32_t i = 0; i < COUNT; i++)
        if (y_values[i] != a * x_values[i] + 1)
            fail("a value is wrong");
    printf("PASS raw\n");
    return 0;
}

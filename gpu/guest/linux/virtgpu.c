#include "virtgpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu_protocol.h"

#define IOCTL(direction, number, type) \
    ((unsigned long)(direction) << 30 | sizeof(type) << 16 | (unsigned long)'d' << 8 | (number))
#define READ_WRITE 3
#define WRITE 1
#define DRIVER 0x40 /* where a driver's own numbers begin */

struct drm_version {
    int major, minor, patch;
    size_t name_size;
    char *name;
    size_t date_size;
    char *date;
    size_t description_size;
    char *description;
};

struct drm_gem_close {
    uint32_t handle, pad;
};

struct map {
    uint64_t offset;
    uint32_t handle, pad;
};

struct execbuffer {
    uint32_t flags, size;
    uint64_t command, handles;
    uint32_t handle_count;
    int32_t fence;
    uint32_t ring, pad;
};

struct get_caps {
    uint32_t id, version;
    uint64_t address;
    uint32_t size, pad;
};

struct create_blob {
    uint32_t memory, flags, handle, resource;
    uint64_t size;
    uint32_t pad, command_size;
    uint64_t command, blob_id;
};

struct context_parameter {
    uint64_t name, value;
};

struct context_init {
    uint32_t count, pad;
    uint64_t parameters;
};

#define DRM_VERSION IOCTL(READ_WRITE, 0x00, struct drm_version)
#define DRM_GEM_CLOSE IOCTL(WRITE, 0x09, struct drm_gem_close)
#define MAP IOCTL(READ_WRITE, DRIVER + 0x01, struct map)
#define EXECBUFFER IOCTL(READ_WRITE, DRIVER + 0x02, struct execbuffer)
#define GET_CAPS IOCTL(READ_WRITE, DRIVER + 0x09, struct get_caps)
#define CREATE_BLOB IOCTL(READ_WRITE, DRIVER + 0x0a, struct create_blob)
#define CONTEXT_INIT IOCTL(READ_WRITE, DRIVER + 0x0b, struct context_init)

#define EXECBUFFER_FENCE_OUT 2
#define EXECBUFFER_RING 4
#define BLOB_OF_GUEST 1
#define BLOB_MAPPABLE 1
#define CONTEXT_CAPSET 1
#define CONTEXT_RINGS 2

#define LARGEST_CAPSET (1u << 18)

static int call(int device, unsigned long request, void *argument)
{
    int result;
    do
        result = ioctl(device, request, argument);
    while (result < 0 && (errno == EINTR || errno == EAGAIN));
    return result;
}

static bool is_virtio_gpu(int device)
{
    char name[16] = "";
    struct drm_version version = {.name_size = sizeof name - 1, .name = name};
    return call(device, DRM_VERSION, &version) == 0 && strcmp(name, "virtio_gpu") == 0;
}

int virtgpu_open(void)
{
    static const char *const patterns[] = {"/dev/dri/renderD%d", "/dev/dri/card%d"};
    static const int first[] = {128, 0};
    for (int kind = 0; kind < 2; kind++) {
        for (int number = 0; number < 16; number++) {
            char path[32];
            snprintf(path, sizeof path, patterns[kind], first[kind] + number);
            int device = open(path, O_RDWR | O_CLOEXEC);
            if (device < 0)
                continue;
            struct get_caps caps = {.id = GPU_CAPSET};
            uint64_t word = 0;
            caps.address = (uintptr_t)&word;
            caps.size = sizeof word;
            if (is_virtio_gpu(device) && call(device, GET_CAPS, &caps) == 0)
                return device;
            close(device);
        }
    }
    return -1;
}

void *virtgpu_capset(int device, uint64_t *size)
{
    /* The kernel copies no more than the set has. */
    uint8_t *bytes = calloc(1, LARGEST_CAPSET);
    struct get_caps caps = {
        .id = GPU_CAPSET,
        .address = (uintptr_t)bytes,
        .size = LARGEST_CAPSET,
    };
    if (!bytes || call(device, GET_CAPS, &caps) < 0) {
        free(bytes);
        return NULL;
    }
    *size = LARGEST_CAPSET;
    return bytes;
}

bool virtgpu_context(int device, uint32_t rings)
{
    struct context_parameter parameters[] = {
        {CONTEXT_CAPSET, GPU_CAPSET},
        {CONTEXT_RINGS, rings},
    };
    struct context_init init = {.count = 2, .parameters = (uintptr_t)parameters};
    return call(device, CONTEXT_INIT, &init) == 0;
}

bool virtgpu_create_blob(int device, uint64_t size, struct blob *blob)
{
    struct create_blob create = {
        .memory = BLOB_OF_GUEST,
        .flags = BLOB_MAPPABLE,
        .size = size,
    };
    if (call(device, CREATE_BLOB, &create) < 0)
        return false;
    *blob = (struct blob){.handle = create.handle, .resource = create.resource, .size = size};
    struct map map = {.handle = create.handle};
    void *bytes = MAP_FAILED;
    if (call(device, MAP, &map) == 0)
        bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)map.offset);
    if (bytes == MAP_FAILED) {
        virtgpu_close_blob(device, blob);
        return false;
    }
    blob->bytes = bytes;
    return true;
}

void virtgpu_close_blob(int device, struct blob *blob)
{
    if (blob->bytes)
        munmap(blob->bytes, blob->size);
    struct drm_gem_close close = {.handle = blob->handle};
    call(device, DRM_GEM_CLOSE, &close);
    blob->bytes = NULL;
}

int virtgpu_submit(int device, uint32_t ring, const void *stream, uint32_t size)
{
    struct execbuffer submission = {
        .flags = EXECBUFFER_FENCE_OUT | EXECBUFFER_RING,
        .size = size,
        .command = (uintptr_t)stream,
        .fence = -1,
        .ring = ring,
    };
    return call(device, EXECBUFFER, &submission) < 0 ? -1 : submission.fence;
}

bool virtgpu_submit_unfenced(int device, const void *stream, uint32_t size)
{
    struct execbuffer submission = {
        .flags = EXECBUFFER_RING,
        .size = size,
        .command = (uintptr_t)stream,
        .fence = -1,
    };
    return call(device, EXECBUFFER, &submission) == 0;
}

/* The kernel's virtio-gpu driver: a context of our capability set, guest blobs, submissions.
 *
 * Numbers and layouts are those of the kernel's user interface (drm.h and virtgpu_drm.h), which a
 * driver keeps for ever. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest memory that the device can reach, mapped here. */
struct blob {
    uint32_t handle;   /* the kernel's, for this file */
    uint32_t resource; /* the device's: what commands call it */
    uint64_t size;
    uint8_t *bytes;
    struct blob *next;
};

/* The first virtio-gpu device that computes, or -1 where there is none. */
int virtgpu_open(void);

/* The capability set: its bytes (to be freed), or a null pointer where the device has none. */
void *virtgpu_capset(int device, uint64_t *size);

/* Make the file's context, with `rings` timelines. */
bool virtgpu_context(int device, uint32_t rings);

/* `size` bytes, whole pages. False where there is not so much memory. */
bool virtgpu_create_blob(int device, uint64_t size, struct blob *blob);
void virtgpu_close_blob(int device, struct blob *blob);

/* Send a stream to a ring. Gives a file descriptor that is readable when all of it is complete, or
 * -1: errno says why. */
int virtgpu_submit(int device, uint32_t ring, const void *stream, uint32_t size);
/* Send a stream to ring 0 without a fence: the driver has less to do for it. Drivers of before Linux
 * 6.6 make one all the same, on that ring. False where it was not taken. */
bool virtgpu_submit_unfenced(int device, const void *stream, uint32_t size);

/* Blobs cost a system call each and whole pages: small pieces share them, and large ones are kept
 * for the next who asks. */
#include <stdlib.h>

#include "library.h"

#define PAGE 4096u
#define SMALLEST 64u
#define CLASSES 8u /* 64 bytes, 256 bytes ... 1 MiB */
#define OWN_BLOB CLASSES
#define CHUNK (256u << 10)
#define KEPT_BYTES (64u << 20)

static struct piece *free_pieces[CLASSES];
static struct blob *kept_blobs;
static uint64_t kept_bytes;

struct doomed {
    struct doomed *next;
    struct blob *blob;
    uint64_t number;
};
static struct doomed *first_doomed, **last_doomed = &first_doomed;

static uint64_t class_size(uint32_t size_class) { return (uint64_t)SMALLEST << 2 * size_class; }

static bool fill_class(uint32_t size_class)
{
    uint64_t size = class_size(size_class);
    struct blob *blob = blob_take(size > CHUNK ? size : CHUNK);
    if (!blob)
        return false;
    for (uint64_t offset = 0; offset + size <= blob->size; offset += size) {
        struct piece *piece = malloc(sizeof *piece);
        if (!piece)
            break;
        *piece = (struct piece){
            free_pieces[size_class], blob, offset, size, blob->bytes + offset, size_class,
        };
        free_pieces[size_class] = piece;
    }
    return free_pieces[size_class] != NULL;
}

struct piece *piece_take(uint64_t size)
{
    for (uint32_t size_class = 0; size_class < CLASSES; size_class++) {
        if (size > class_size(size_class))
            continue;
        if (!free_pieces[size_class] && !fill_class(size_class))
            return NULL;
        struct piece *piece = free_pieces[size_class];
        free_pieces[size_class] = piece->next;
        piece->next = NULL;
        return piece;
    }
    struct piece *piece = malloc(sizeof *piece);
    struct blob *blob = piece ? blob_take(size) : NULL;
    if (!blob) {
        free(piece);
        return NULL;
    }
    *piece = (struct piece){NULL, blob, 0, blob->size, blob->bytes, OWN_BLOB};
    return piece;
}

static void keep_or_close(struct blob *blob)
{
    if (kept_bytes + blob->size <= KEPT_BYTES) {
        blob->next = kept_blobs;
        kept_blobs = blob;
        kept_bytes += blob->size;
        return;
    }
    virtgpu_close_blob(device_file(), blob);
    free(blob);
}

void piece_give(struct piece *piece)
{
    if (piece->size_class == OWN_BLOB) {
        keep_or_close(piece->blob);
        free(piece);
        return;
    }
    piece->next = free_pieces[piece->size_class];
    free_pieces[piece->size_class] = piece;
}

struct give {
    struct after after;
    struct piece *piece;
};

static void give_now(struct after *after)
{
    piece_give(((struct give *)after)->piece);
    free(after);
}

void piece_give_after(struct piece *piece)
{
    struct give *give = malloc(sizeof *give);
    if (!give)
        return; /* never used again rather than too early */
    *give = (struct give){{NULL, give_now}, piece};
    stream_after(&give->after);
}

struct blob *blob_take(uint64_t size)
{
    size = (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    for (struct blob **link = &kept_blobs; *link; link = &(*link)->next) {
        struct blob *blob = *link;
        if (blob->size >= size && blob->size / 2 <= size) {
            *link = blob->next;
            kept_bytes -= blob->size;
            return blob;
        }
    }
    struct blob *blob = malloc(sizeof *blob);
    if (blob && virtgpu_create_blob(device_file(), size, blob))
        return blob;
    free(blob);
    return NULL;
}

void blob_give(struct blob *blob)
{
    struct doomed *doomed = malloc(sizeof *doomed);
    if (!doomed)
        return;
    /* What is added next, the object's release among it, may begin a submission. */
    *doomed = (struct doomed){NULL, blob, stream_number() + 1};
    *last_doomed = doomed;
    last_doomed = &doomed->next;
}

void blobs_reap(uint64_t oldest)
{
    while (first_doomed && first_doomed->number < oldest) {
        struct doomed *doomed = first_doomed;
        first_doomed = doomed->next;
        if (!first_doomed)
            last_doomed = &first_doomed;
        keep_or_close(doomed->blob);
        free(doomed);
    }
}

struct gpu_answer_place answer_place(struct piece *piece)
{
    struct gpu_answer_header *header = (struct gpu_answer_header *)(void *)piece->bytes;
    /* What stays so where the device never answers. */
    *header = (struct gpu_answer_header){CL_OUT_OF_RESOURCES, 0};
    uint64_t room = piece->size < GPU_MAX_ANSWER ? piece->size : GPU_MAX_ANSWER;
    return (struct gpu_answer_place){piece->offset, piece->blob->resource, (uint32_t)room};
}

cl_int answer_status(const struct piece *piece)
{
    return ((const volatile struct gpu_answer_header *)(const void *)piece->bytes)->status;
}

bool is_answered(const struct piece *piece)
{
    const volatile struct gpu_answer_header *header = (const void *)piece->bytes;
    return header->status != CL_OUT_OF_RESOURCES || header->size;
}

const void *answer_body(const struct piece *piece, uint64_t *size)
{
    const struct gpu_answer_header *header = (const void *)piece->bytes;
    uint64_t room = piece->size - sizeof *header;
    *size = header->size < room ? header->size : room;
    return header + 1;
}

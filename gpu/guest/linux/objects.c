#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"

static pthread_mutex_t the_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_cond_t something_changed = PTHREAD_COND_INITIALIZER;

void wait_for_change(void) { pthread_cond_wait(&something_changed, &the_lock); }
void tell_change(void) { pthread_cond_broadcast(&something_changed); }
void lock(void) { pthread_mutex_lock(&the_lock); }
void unlock(void) { pthread_mutex_unlock(&the_lock); }

bool is_object(const void *object, enum kind kind)
{
    const struct object *head = object;
    return head && head->kind == (uint32_t)kind && head->references;
}

void *object_new(enum kind kind, size_t size)
{
    struct object *object = calloc(1, size);
    if (object)
        *object = (struct object){.dispatch = icd_dispatch, .kind = kind, .references = 1};
    return object;
}

cl_int object_retain(void *object, enum kind kind, cl_int error)
{
    lock();
    bool right = is_object(object, kind);
    if (right)
        ((struct object *)object)->references++;
    unlock();
    return right ? CL_SUCCESS : error;
}

static void end_if_unused(struct object *object)
{
    if (object->references || object->uses)
        return;
    switch ((enum kind)object->kind) {
    case CONTEXT: context_destroy((cl_context)object); break;
    case QUEUE: queue_destroy((cl_command_queue)object); break;
    case MEMORY: memory_destroy((cl_mem)object); break;
    case SAMPLER: sampler_destroy((cl_sampler)object); break;
    case PROGRAM: program_destroy((cl_program)object); break;
    case KERNEL: kernel_destroy((cl_kernel)object); break;
    case EVENT: event_destroy((cl_event)object); break;
    case PLATFORM:
    case DEVICE: return;
    }
    if (object->id) {
        stream_begin(NULL, false);
        SEND(release, NULL, .id = object->id);
        id_free(object->id);
    }
    object->kind = 0;
    free(object);
}

cl_int object_release(void *object, enum kind kind, cl_int error)
{
    lock();
    bool right = is_object(object, kind);
    if (right) {
        ((struct object *)object)->references--;
        end_if_unused(object);
    }
    unlock();
    return right ? CL_SUCCESS : error;
}

void object_use(void *object) { ((struct object *)object)->uses++; }

void object_drop(void *object)
{
    ((struct object *)object)->uses--;
    end_if_unused(object);
}

void object_discard(void *object)
{
    struct object *head = object;
    if (head->id)
        id_free(head->id);
    head->id = 0;
    head->references = 0;
    end_if_unused(head);
}

static uint32_t *free_ids, free_count, free_room, last_id;

uint32_t id_new(void) { return free_count ? free_ids[--free_count] : ++last_id; }

void id_free(uint32_t id)
{
    if (free_count == free_room) {
        uint32_t room = free_room ? 2 * free_room : 256;
        uint32_t *grown = realloc(free_ids, room * sizeof *grown);
        if (!grown)
            return; /* the number is not used again */
        free_ids = grown;
        free_room = room;
    }
    free_ids[free_count++] = id;
}

cl_int give(const void *from, size_t from_size, size_t size, void *value, size_t *size_ret)
{
    if (value && size < from_size)
        return CL_INVALID_VALUE;
    if (value && from_size)
        memcpy(value, from, from_size);
    if (size_ret)
        *size_ret = from_size;
    return CL_SUCCESS;
}

cl_int give_text(const char *text, size_t size, void *value, size_t *size_ret)
{
    const char *given = text ? text : "";
    return give(given, strlen(given) + 1, size, value, size_ret);
}

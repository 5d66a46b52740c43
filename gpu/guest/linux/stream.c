/* Commands are collected, and sent together: when somebody waits, when a queue is flushed, when
 * the next command is of another queue, or when there are many. A submission holds commands of one
 * queue, so that its fence waits for nothing else; fences are in order on each of the device's rings,
 * so a queue stays on its ring while it has submissions under way.
 *
 * A fence is an open file, which costs the kernel about as much as all else of a submission. Whoever
 * waits for an answer looks for it in memory first, so while answers come that soon they are asked for
 * without a fence, on a ring of their own, one at a time. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "library.h"

#define SEND_AT_BYTES (32u << 10)
#define SEND_AT_PACKETS 512u
#define MOST_UNDER_WAY 256u
/* How often to look for an answer before sleeping: some 25 us. */
#define LOOKS 1000u

/* Rings: what has no fence is on 0, as drivers do not say which it is on. */
enum { UNFENCED, WITHOUT_QUEUE, OF_QUEUES };

struct batch {
    struct batch *next;
    uint64_t number;
    cl_command_queue queue;
    uint32_t ring;
    int fence;
    bool out_of_order, apart, waits_for_user, done;
    const struct piece *answer; /* one of its, if it has any: they come all at once */
    unsigned holds;
    cl_event events;
    struct after *after, **last_after;
};

static uint8_t *buffer;
static uint64_t capacity, used;
static unsigned packets;
static struct batch *collecting;
static struct batch *first, **last = &first;
static unsigned under_way, on_ring[GPU_RINGS];
static uint64_t next_number = 1;
static bool lost;
static bool answers_are_soon = true; /* the last one that was waited for was */

uint8_t *stream_end(void) { return buffer ? buffer + used : NULL; }
uint64_t stream_room(void) { return capacity - used; }
uint64_t stream_number(void) { return collecting ? collecting->number : next_number; }
int batch_fence(const struct batch *batch) { return batch->fence; }
bool batch_is_sent(const struct batch *batch) { return batch != collecting; }
bool stream_waits_for_user(void) { return collecting && collecting->waits_for_user; }
cl_int stream_status(void) { return lost ? CL_OUT_OF_RESOURCES : CL_SUCCESS; }

void stream_add(uint64_t size)
{
    used += size;
    packets++;
}

bool stream_grow(uint64_t size)
{
    uint64_t wanted = 2 * capacity > used + size ? 2 * capacity : used + size;
    if (wanted < 2 * SEND_AT_BYTES)
        wanted = 2 * SEND_AT_BYTES;
    uint8_t *grown = used + size > GPU_MAX_STREAM ? NULL : realloc(buffer, wanted);
    if (!grown) {
        lost = true; /* a command is missing: nothing after it means what it says */
        return false;
    }
    buffer = grown;
    capacity = wanted;
    return true;
}

static void release_batch(struct batch *batch)
{
    if (--batch->holds)
        return;
    if (batch->fence >= 0)
        close(batch->fence);
    free(batch);
}

static void complete(struct batch *batch)
{
    for (struct after *after = batch->after; after;) {
        struct after *next = after->next;
        after->run(after);
        after = next;
    }
    batch->after = NULL;
    batch->done = true;
    for (cl_event event = batch->events; event;) {
        cl_event next = event->next;
        event->next = NULL;
        event->batch = NULL;
        cl_int status = CL_OUT_OF_RESOURCES;
        if (event->answer) {
            struct gpu_event_status answer;
            uint64_t size;
            const void *body = answer_body(event->answer, &size);
            status = answer_status(event->answer);
            if (!status && gpu_decode_event_status(body, size, &answer))
                status = answer.execution;
            piece_give(event->answer);
            event->answer = NULL;
        }
        event_complete(event, status);
        object_drop(event);
        event = next;
    }
    batch->events = NULL;
    if (batch->queue) {
        if (batch->queue->last == batch)
            batch->queue->last = NULL;
        batch->queue->user_waits -= batch->waits_for_user;
        object_drop(batch->queue);
        batch->queue = NULL;
    }
}

/* Take a submission that was sent off the list, as all before it on its ring are. */
static void finish(struct batch *batch)
{
    for (struct batch **link = &first; *link; link = &(*link)->next) {
        if (*link != batch)
            continue;
        *link = batch->next;
        if (!*link)
            last = link;
        break;
    }
    under_way--;
    on_ring[batch->ring]--;
    complete(batch);
    release_batch(batch);
    blobs_reap(first ? first->number : stream_number());
}

static void finish_ring(struct batch *until)
{
    uint64_t number = until->number;
    uint32_t ring = until->ring;
    for (;;) {
        struct batch *batch = first;
        while (batch && batch->ring != ring)
            batch = batch->next;
        if (!batch || batch->number > number)
            return;
        finish(batch);
    }
}

static uint32_t choose_ring(const struct batch *batch)
{
    if (!batch->queue)
        return WITHOUT_QUEUE;
    if (!batch->out_of_order && batch->queue->last)
        return batch->queue->last->ring;
    for (uint32_t ring = OF_QUEUES; ring < GPU_RINGS; ring++)
        if (!on_ring[ring])
            return ring;
    return OF_QUEUES + (uint32_t)(batch->number % (GPU_RINGS - OF_QUEUES));
}

void stream_begin(cl_command_queue queue, bool apart)
{
    if (collecting) {
        bool other = queue && collecting->queue && collecting->queue != queue;
        bool many = used >= SEND_AT_BYTES || packets >= SEND_AT_PACKETS;
        if (other || many || collecting->apart || (apart && collecting->queue))
            stream_flush();
    }
    if (!collecting) {
        struct batch *batch = calloc(1, sizeof *batch);
        if (!batch) {
            lost = true;
            return;
        }
        batch->number = next_number++;
        batch->fence = -1;
        batch->holds = 1;
        batch->last_after = &batch->after;
        collecting = batch;
    }
    if (queue && !collecting->queue) {
        object_use(queue);
        collecting->queue = queue;
        collecting->out_of_order = queue->properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
    }
    if (apart) {
        collecting->apart = collecting->out_of_order;
        collecting->waits_for_user = true;
    }
}

void stream_begin_alone(void)
{
    if (collecting && collecting->queue)
        stream_flush();
    stream_begin(NULL, false);
}

bool stream_ends_with(cl_command_queue queue)
{
    return collecting && collecting->queue == queue && !collecting->out_of_order;
}

void stream_after(struct after *after)
{
    after->next = NULL;
    *collecting->last_after = after;
    collecting->last_after = &after->next;
}

void stream_event(cl_event event)
{
    object_use(event);
    event->batch = collecting;
    event->next = collecting->events;
    collecting->events = event;
}

static void ask_for_events(struct batch *batch)
{
    for (cl_event event = batch->events; event; event = event->next) {
        event->answer = piece_take(sizeof(struct gpu_answer_header) + 8);
        if (!event->answer)
            continue;
        struct gpu_answer_place place = answer_place(event->answer);
        SEND(get_event_status, &place, .event = event->object.id);
        batch->answer = event->answer;
    }
}

/* Whether it will be complete soon, and nothing else has to be taken for complete with it. */
static bool needs_no_fence(const struct batch *batch)
{
    return answers_are_soon && !batch->waits_for_user && !batch->out_of_order && !on_ring[UNFENCED]
           && !(batch->queue && batch->queue->last);
}

/* Give a submission that has no fence one: it signals when all on its ring so far is complete. */
static bool add_fence(struct batch *batch)
{
    if (batch->fence < 0 && !lost)
        batch->fence = virtgpu_submit(device_file(), batch->ring, NULL, 0);
    lost |= batch->fence < 0;
    return !lost;
}

/* Send what was collected, if anything was. `awaited`: the caller will look for its answer now. */
static void send(bool awaited)
{
    struct batch *batch = collecting;
    if (!batch)
        return;
    ask_for_events(batch);
    cl_command_queue queue = batch->queue;
    if (queue) {
        batch->waits_for_user |= queue->user_waits > 0;
        queue->user_waits += batch->waits_for_user;
    }
    if (awaited && batch->answer && needs_no_fence(batch)) {
        batch->ring = UNFENCED;
        lost = lost || !virtgpu_submit_unfenced(device_file(), buffer, (uint32_t)used);
    } else {
        batch->ring = choose_ring(batch);
        if (batch->ring == UNFENCED) /* who waits for the last of the queue waits for no more */
            add_fence(queue->last);
        batch->fence = lost ? -1 : virtgpu_submit(device_file(), batch->ring, buffer, (uint32_t)used);
        lost |= batch->fence < 0;
    }
    if (queue)
        queue->last = batch;
    collecting = NULL;
    used = packets = 0;
    *last = batch;
    last = &batch->next;
    under_way++;
    on_ring[batch->ring]++;
    if (lost)
        finish_ring(batch);
}

void stream_flush(void) { send(false); }

/* The device writes answers before it signals: what takes no longer than to put this thread to
 * sleep and wake it again is seen here. */
static bool is_soon_answered(const struct piece *answer)
{
    for (unsigned looks = 0; looks < LOOKS; looks++)
        if (is_answered(answer))
            return true;
    return false;
}

/* Sleep until a submission is complete. */
static void sleep_for(struct batch *batch)
{
    if (!add_fence(batch)) {
        finish_ring(batch);
        return;
    }
    struct pollfd fence = {.fd = batch->fence, .events = POLLIN};
    unlock();
    bool ready = poll(&fence, 1, -1) > 0;
    lock();
    if (ready && !batch->done)
        finish_ring(batch);
}

void stream_wait(struct batch *batch)
{
    batch->holds++;
    if (batch == collecting)
        send(true);
    const struct piece *answer = batch->answer;
    if (answer && !batch->done) {
        unlock();
        bool soon = is_soon_answered(answer);
        lock();
        if (!batch->done)
            answers_are_soon = soon;
        if (soon && !batch->done)
            finish_ring(batch);
    }
    while (!batch->done)
        sleep_for(batch);
    release_batch(batch);
}

cl_int stream_ask(const struct piece *answer)
{
    struct batch *batch = collecting;
    if (batch) {
        batch->answer = answer;
        stream_wait(batch);
    }
    return stream_status();
}

void stream_wait_queue(cl_command_queue queue)
{
    if (collecting && collecting->queue == queue)
        stream_flush();
    /* Those of an out-of-order queue are on several rings. */
    for (;;) {
        struct batch *batch = first;
        while (batch && batch->queue != queue)
            batch = batch->next;
        if (!batch)
            return;
        stream_wait(batch);
    }
}

void stream_throttle(void)
{
    if (under_way > MOST_UNDER_WAY)
        stream_reap();
    while (under_way > MOST_UNDER_WAY) {
        struct batch *batch = first;
        while (batch && batch->waits_for_user)
            batch = batch->next;
        if (!batch)
            return;
        stream_wait(batch);
    }
}

void stream_reap(void)
{
    struct pollfd *fences = calloc(under_way + 1, sizeof *fences);
    struct batch **batches = calloc(under_way + 1, sizeof *batches);
    nfds_t count = 0;
    for (struct batch *batch = first; fences && batches && batch; batch = batch->next) {
        batches[count] = batch;
        fences[count++] = (struct pollfd){.fd = batch->fence, .events = POLLIN};
        batch->holds++;
    }
    poll(fences, count, 0);
    for (nfds_t i = 0; i < count; i++) {
        if (fences[i].revents && !batches[i]->done)
            finish_ring(batches[i]);
        release_batch(batches[i]);
    }
    free(fences);
    free(batches);
}

/* What kernels print goes to this program's standard output, when it waits for one of its commands:
 * that is then done, and all that was before it. */
#include <stdio.h>
#include <string.h>

#include "library.h"

#define ROOM (64u << 10)

static bool expected;

void printed_expect(void) { expected = true; }

/* Take what there is, ROOM at most; whether there may be more. */
static bool take(cl_context context, struct piece *answer, struct piece *text)
{
    struct gpu_answer_place place = answer_place(answer);
    uint32_t count = 0;
    stream_begin_alone();
    SEND(read_printed, &place, .context = context->object.id, .blob = text->blob->resource,
         .blob_offset = text->offset, .size = ROOM);
    stream_ask(answer);
    if (answer_status(answer))
        return false;
    memcpy(&count, text->bytes, sizeof count);
    if (count > ROOM - sizeof count)
        return false;
    unlock();
    fwrite(text->bytes + sizeof count, 1, count, stdout);
    lock();
    return count == ROOM - sizeof count;
}

void printed_show(cl_context context)
{
    if (!expected)
        return;
    struct piece *answer = piece_take(sizeof(struct gpu_answer_header)), *text = piece_take(ROOM);
    if (answer && text) {
        while (take(context, answer, text))
            continue;
        unlock();
        fflush(stdout);
        lock();
    }
    if (answer)
        piece_give(answer);
    if (text)
        piece_give(text);
}

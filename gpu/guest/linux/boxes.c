#include <stdlib.h>
#include <string.h>

#include "library.h"

void copy_box(struct box to, struct box from, const size_t size[3])
{
    for (size_t slice = 0; slice < size[2]; slice++) {
        uint8_t *to_row = to.at + slice * to.slice_pitch;
        const uint8_t *from_row = from.at + slice * from.slice_pitch;
        if (to.row_pitch == size[0] && from.row_pitch == size[0]) {
            memcpy(to_row, from_row, size[0] * size[1]);
            continue;
        }
        for (size_t row = 0; row < size[1]; row++)
            memcpy(to_row + row * to.row_pitch, from_row + row * from.row_pitch, size[0]);
    }
}

struct copy {
    struct after after;
    struct piece *piece;
    struct box to;
    size_t size[3];
};

static void copy_now(struct after *after)
{
    struct copy *copy = (struct copy *)after;
    struct box from = {copy->piece->bytes, copy->size[0], copy->size[0] * copy->size[1]};
    copy_box(copy->to, from, copy->size);
    piece_give(copy->piece);
    free(copy);
}

bool copy_after(struct piece *piece, struct box to, const size_t size[3])
{
    struct copy *copy = malloc(sizeof *copy);
    if (!copy)
        return false;
    *copy = (struct copy){{NULL, copy_now}, piece, to, {size[0], size[1], size[2]}};
    stream_after(&copy->after);
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walk for the end of a message resumes where it stopped, so a long message that trickles in costs its length once. The
 * buffer is compacted only when less than it holds would be moved away, hence each byte moves a bounded number of times.
 */

#include "inbox.h"

#include <string.h>

#define BUFFER_BYTES ((size_t)64 * 1024) /* a buffer that grew beyond four times this shrinks when empty */

bool inbox_make_room(struct inbox *inbox, size_t want) {
        uint8_t *data;
        size_t cap;

        if (inbox->len == 0)
                inbox->start = 0;
        if (inbox->len == 0 && inbox->cap > 4 * BUFFER_BYTES)
                inbox_free(inbox);
        if (inbox_room(inbox) >= want)
                return true;
        if (inbox->start >= inbox->len && inbox->start > 0) {
                memcpy(inbox->data, inbox->data + inbox->start, inbox->len);
                inbox->start = 0;
        }
        if (inbox_room(inbox) >= want)
                return true;
        cap = inbox->cap ? inbox->cap * 2 : BUFFER_BYTES;
        while (cap - inbox->start - inbox->len < want)
                cap *= 2;
        data = PyMem_Realloc(inbox->data, cap);
        if (!data) {
                PyErr_NoMemory();
                return false;
        }
        inbox->data = data;
        inbox->cap = cap;
        return true;
}

int inbox_walk(struct inbox *inbox) {
        enum walk_status status;

        if (inbox->len == 0)
                return 0;
        status = walk_on(&inbox->walk, inbox->data + inbox->start, inbox->len, inbox->limit);
        if (status == WALK_DONE || status == WALK_MORE)
                return status == WALK_DONE;
        PyErr_SetString(PyExc_ValueError, status == WALK_BAD    ? "the byte 0xc1 is not msgpack"
                                          : status == WALK_DEEP ? "a message is nested deeper than 128 levels"
                                                                : "a message is longer than the limit");
        return -1;
}

void inbox_drop(struct inbox *inbox) {
        inbox->start += inbox->walk.pos;
        inbox->len -= inbox->walk.pos;
        inbox->walk.pos = 0;
        inbox->walk.ended = false;
}

void inbox_free(struct inbox *inbox) {
        PyMem_Free(inbox->data);
        inbox->data = NULL;
        inbox->cap = 0;
}

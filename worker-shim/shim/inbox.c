/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walk for the end of a message resumes where it stopped, so a long message that trickles in costs its length once. The
 * buffer is compacted only when less than it holds would be moved away, hence each byte moves a bounded number of times.
 *
 * The memory is a bytes object, because large binaries are handed out as views of it; then what comes next is read into another one. The
 * daemon is trusted: room is made for all of a message as soon as its length is known.
 */

#include "inbox.h"

#include <string.h>

#define BUFFER_BYTES ((size_t)64 * 1024) /* a buffer that grew beyond four times this shrinks when empty */

/* Takes memory of `cap` bytes for what is held; the old one is left to who else has it. Return: false with an exception. */
static bool take_memory(struct inbox *inbox, size_t cap) {
        PyObject *memory = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)cap);
        uint8_t *data;

        if (!memory)
                return false;
        data = (uint8_t *)PyBytes_AsString(memory);
        if (inbox->len > 0)
                memcpy(data, inbox->data + inbox->start, inbox->len);
        Py_XDECREF(inbox->memory);
        inbox->memory = memory;
        inbox->data = data;
        inbox->cap = cap;
        inbox->start = 0;
        return true;
}

bool inbox_make_room(struct inbox *inbox, size_t want) {
        bool viewed = inbox->memory && Py_REFCNT(inbox->memory) > 1;
        size_t cap;

        if (inbox->walk.pos > inbox->len && inbox->walk.pos - inbox->len > want)
                want = inbox->walk.pos - inbox->len;
        if (inbox->len == 0 && inbox->cap > 4 * BUFFER_BYTES)
                inbox_free(inbox);
        else if (inbox->len == 0 && !viewed)
                inbox->start = 0;
        if (!viewed && inbox_room(inbox) >= want)
                return true;
        if (!viewed && inbox->start >= inbox->len && inbox->cap - inbox->len >= want) {
                memcpy(inbox->data, inbox->data + inbox->start, inbox->len);
                inbox->start = 0;
                return true;
        }
        cap = inbox->len + (inbox->len > want ? inbox->len : want);
        return take_memory(inbox, cap > BUFFER_BYTES ? cap : BUFFER_BYTES);
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
        Py_CLEAR(inbox->memory);
        inbox->data = NULL;
        inbox->start = inbox->cap = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The bytes of a stream of messages from when they are read to when they are decoded. Who decodes may hand out views of `memory`. Zeroed memory with a limit is an empty one.
 */

#include "codec.h"
#include "head.h"

struct inbox {
        size_t limit;           /* longest message accepted, in bytes */
        PyObject *memory;       /* a bytes object; NULL: none yet */
        uint8_t *data;          /* its content */
        size_t start, len, cap; /* the bytes not yet handed out are data[start … start + len) */
        struct walk walk;
};

/* Makes room for `want` bytes at least behind what is held, and for all of a message whose length is known. Return: false with an exception. */
bool inbox_make_room(struct inbox *inbox, size_t want);

/* Where the next byte goes, and how many have room there. */
static inline uint8_t *inbox_end(const struct inbox *inbox) {
        return inbox->data + inbox->start + inbox->len;
}

static inline size_t inbox_room(const struct inbox *inbox) {
        return inbox->cap - inbox->start - inbox->len;
}

/* Looks for the end of the first message. Return: 1 when all of it is there: inbox_message(); 0 when it is not; -1 with ValueError. */
int inbox_walk(struct inbox *inbox);

static inline const uint8_t *inbox_message(const struct inbox *inbox, size_t *ret_len) {
        *ret_len = inbox->walk.pos;
        return inbox->data + inbox->start;
}

/* Takes the message away that inbox_walk() has found. */
void inbox_drop(struct inbox *inbox);

void inbox_free(struct inbox *inbox);

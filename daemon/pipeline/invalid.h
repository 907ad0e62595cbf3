/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is wrong with data of a caller, told as pydantic's ValidationError tells it: location, type, words and the input.
 *
 * All is counted, but only the first INVALID_SHOWN_MAX complaints are written down, and fewer where they are long.
 */

#include "wire/mp.h"

#define INVALID_SHOWN_MAX 100
#define INVALID_BYTES_MAX 65536

/* One step of a location: a key of the data, else a name, else an index. */
struct place {
        const struct place *up;
        struct mp key;
        const char *name;
        uint32_t index;
};

struct invalid {
        size_t n, n_shown;
        struct buf errors; /* the entries {loc, type, msg} */
        struct buf lines;  /* the same as text */
};

void invalid_done(struct invalid *invalid);
#define CLEANUP_INVALID CLEANUP(invalid_done)

/* Notes one complaint. `message` NULL: that of the type. */
void invalid_add(struct invalid *invalid, const struct place *at, const char *type, const char *message, struct mp input);

/* Appends the pairs of an error's map (docs/protocol.md) that make it a ValidationError of the model `title`. Return: how many. */
size_t invalid_put(const struct invalid *invalid, const char *title, struct buf *buf);

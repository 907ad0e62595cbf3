/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The first bytes of a msgpack value: what it is, how long, how many. The walk that looks for the end of a message and the
 * decoder both see msgpack through this one function, so they cannot disagree about where a value ends.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEPTH_MAX 128 /* arrays and maps inside each other; as the daemon's */

#define EXT_SECRET 1 /* a secret string: the UTF-8 text */
#define EXT_BIGINT 2 /* an integer beyond 64 bits: two's complement, big endian, shortest */
#define EXT_DATE 3   /* a date, perhaps with a time: as ISO 8601 writes it */

enum head_kind {
        HEAD_BAD,
        HEAD_NIL,
        HEAD_FALSE,
        HEAD_TRUE,
        HEAD_UINT,
        HEAD_INT,
        HEAD_FLOAT32,
        HEAD_FLOAT64,
        HEAD_STR,
        HEAD_BIN,
        HEAD_EXT,
        HEAD_ARRAY,
        HEAD_MAP,
};

struct head {
        enum head_kind kind;
        uint8_t size; /* bytes of the header; a number is all header */
        int8_t ext;
        uint64_t n; /* bytes of content, elements, pairs, or the number itself (HEAD_INT: as int64_t) */
};

/* Return: false when `avail` bytes are too few to tell. */
bool head_read(const uint8_t *at, size_t avail, struct head *ret);

/* Where a walk over a value that is still arriving stands. Zeroed memory is a walk at its beginning. */
struct walk {
        size_t pos;
        bool ended; /* `pos` is the end of the value, of which the last bytes may be missing */
        unsigned depth;
        uint64_t left[DEPTH_MAX]; /* values still to come on each level */
};

enum walk_status { WALK_DONE, WALK_MORE, WALK_BAD, WALK_DEEP, WALK_BIG };

/* Walks on through `data`, the bytes from the beginning of the value: `len` of them so far, at most `limit` ever. */
enum walk_status walk_on(struct walk *walk, const uint8_t *data, size_t len, size_t limit);

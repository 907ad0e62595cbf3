/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A growable byte buffer.
 *
 * An append that fails for want of memory, or because `limit` would be passed, marks the buffer as failed; every later append
 * then does nothing. So a writer appends many parts and asks once, at the end, with buf_error(). A buffer is always a valid
 * object: zeroed memory is an empty buffer without a limit.
 *
 * A large part of a buffer may be shared with others (buf_share()), which spares the copy: nobody changes these bytes any more, whoever
 * appends to them continues on a copy, and the memory goes when the last of the buffers lets go of it.
 */

#include <stdarg.h>

#include "base/util.h"

#define BUF_SHARE_MIN ((size_t)16 * 1024) /* less than this is cheaper to copy */

struct buf_memory;

struct buf {
        uint8_t *data;
        size_t len;
        size_t cap;
        size_t limit;              /* bytes; 0: none */
        int error;                 /* 0, -ENOMEM, or -EMSGSIZE when the limit was met */
        struct buf_memory *shared; /* whose bytes these are; NULL: its own */
};

void buf_done(struct buf *buf);
#define CLEANUP_BUF CLEANUP(buf_done)

/* Empties the buffer, keeps its memory, and forgets an error. */
void buf_reset(struct buf *buf);

void buf_append(struct buf *buf, const void *data, size_t len);
void buf_append_str(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *buf, const char *format, va_list args) PRINTF_LIKE(2, 0);

/* Makes room for `len` more bytes. Return: where they go (add what was written to buf->len), NULL on failure. */
uint8_t *buf_reserve(struct buf *buf, size_t len);

/* Makes `len` bytes, which lie in `from`, the contents of `buf`: shared if they are large and most of that memory, else, and where `from` is
 * NULL, as a copy. */
void buf_share(struct buf *buf, struct buf *from, const uint8_t *data, size_t len);

/* Drops the first `len` bytes. */
void buf_consume(struct buf *buf, size_t len);

/* Return: 0, or the first error of any append since the last reset. */
static inline int buf_error(const struct buf *buf) {
        return buf->error;
}

/* Return: the contents as a NUL-terminated string that the caller frees, NULL on error; the buffer is empty afterwards. */
char *buf_take_str(struct buf *buf);

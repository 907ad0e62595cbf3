/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Growth is by doubling, so that appending n bytes one by one costs O(n). The sticky error keeps the writers of messages free
 * of a check after each of their dozens of appends, at the price that they must ask once at the end.
 */

#include "base/buf.h"

#include <stdio.h>

#define BUF_MIN 256

void buf_done(struct buf *buf) {
        free(buf->data);
        *buf = (struct buf){.limit = buf->limit};
}

void buf_reset(struct buf *buf) {
        buf->len = 0;
        buf->error = 0;
}

uint8_t *buf_reserve(struct buf *buf, size_t len) {
        size_t need, cap;
        uint8_t *data;

        if (buf->error)
                return NULL;
        if (__builtin_add_overflow(buf->len, len, &need) || (buf->limit && need > buf->limit)) {
                buf->error = -EMSGSIZE;
                return NULL;
        }
        if (need <= buf->cap && buf->data)
                return buf->data + buf->len;

        cap = MAX(buf->cap, (size_t)BUF_MIN);
        while (cap < need)
                if (__builtin_mul_overflow(cap, 2, &cap))
                        cap = need;
        data = realloc(buf->data, cap);
        if (!data) {
                buf->error = -ENOMEM;
                return NULL;
        }
        buf->data = data;
        buf->cap = cap;
        return data + buf->len;
}

void buf_append(struct buf *buf, const void *data, size_t len) {
        uint8_t *end = buf_reserve(buf, len);

        if (end && len > 0) {
                memcpy(end, data, len);
                buf->len += len;
        }
}

void buf_append_str(struct buf *buf, const char *text) {
        buf_append(buf, text, strlen(text));
}

void buf_vprintf(struct buf *buf, const char *format, va_list args) {
        va_list again;
        uint8_t *end;
        int len;

        va_copy(again, args);
        len = vsnprintf(NULL, 0, format, args);
        end = len < 0 ? NULL : buf_reserve(buf, (size_t)len + 1);
        if (end) {
                (void)vsnprintf((char *)end, (size_t)len + 1, format, again);
                buf->len += (size_t)len;
        }
        va_end(again);
}

void buf_printf(struct buf *buf, const char *format, ...) {
        va_list args;

        va_start(args, format);
        buf_vprintf(buf, format, args);
        va_end(args);
}

void buf_consume(struct buf *buf, size_t len) {
        if (len >= buf->len) {
                buf->len = 0;
                return;
        }
        memmove(buf->data, buf->data + len, buf->len - len);
        buf->len -= len;
}

char *buf_take_str(struct buf *buf) {
        char *text;

        buf_append(buf, "", 1);
        if (buf->error) {
                buf_done(buf);
                return NULL;
        }
        text = (char *)TAKE(buf->data);
        buf_done(buf);
        return text;
}

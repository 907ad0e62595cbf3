/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Growth is by doubling, so that appending n bytes one by one costs O(n). The sticky error keeps the writers of messages free
 * of a check after each of their dozens of appends, at the price that they must ask once at the end.
 */

#include "base/buf.h"

#include <stdio.h>

#define BUF_MIN 256

struct buf_memory {
        unsigned refs;
        uint8_t *data;
};

static void memory_unref(struct buf_memory *memory) {
        if (--memory->refs > 0)
                return;
        free(memory->data);
        free(memory);
}

void buf_done(struct buf *buf) {
        if (buf->shared)
                memory_unref(buf->shared);
        else
                free(buf->data);
        *buf = (struct buf){.limit = buf->limit};
}

void buf_reset(struct buf *buf) {
        if (buf->shared)
                buf_done(buf);
        buf->len = 0;
        buf->error = 0;
}

/* Return: memory of `cap` bytes, the buffer's own, with what it holds; NULL: there is none, and nothing has changed. */
static uint8_t *grow(struct buf *buf, size_t cap) {
        uint8_t *data = buf->shared ? malloc(cap) : realloc(buf->data, cap);

        if (data && buf->shared) {
                memcpy(data, buf->data, buf->len);
                memory_unref(TAKE(buf->shared));
        }
        return data;
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
        if (need <= buf->cap && buf->data && !buf->shared)
                return buf->data + buf->len;

        cap = MAX(buf->cap, (size_t)BUF_MIN);
        while (cap < need)
                if (__builtin_mul_overflow(cap, 2, &cap))
                        cap = need;
        data = grow(buf, cap);
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

void buf_share(struct buf *buf, struct buf *from, const uint8_t *data, size_t len) {
        bool worth = from && len >= BUF_SHARE_MIN && len >= from->cap / 2;

        buf_done(buf);
        if (worth && !from->shared) {
                from->shared = malloc(sizeof(*from->shared));
                if (from->shared)
                        *from->shared = (struct buf_memory){.refs = 1, .data = from->data};
        }
        if (!worth || !from->shared) {
                buf_append(buf, data, len);
                return;
        }
        from->shared->refs++;
        buf->shared = from->shared;
        buf->data = (uint8_t *)data;
        buf->len = buf->cap = len;
}

void buf_consume(struct buf *buf, size_t len) {
        if (len >= buf->len) {
                buf->len = 0;
                return;
        }
        if (buf->shared) {
                buf->data += len;
                buf->cap -= len;
                buf->len -= len;
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

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One read an event and a buffer of one line: a process that prints without end costs a bounded share of each turn of the loop
 * and a bounded amount of memory.
 */

#include "base/lines.h"

#define LINE_BYTES 2048
#define DRAIN_READS 64

struct lines {
        int fd;
        struct event *readable;
        lines_callback on_line;
        void *data;
        size_t len;
        char line[LINE_BYTES + 1];
};

static void emit(struct lines *lines) {
        lines->line[lines->len] = 0;
        lines->len = 0;
        lines->on_line(lines->data, lines->line);
}

static void feed(struct lines *lines, const char *bytes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (bytes[i] == '\n' || lines->len == LINE_BYTES)
                        emit(lines);
                if (bytes[i] != '\n')
                        lines->line[lines->len++] = bytes[i] ? bytes[i] : '?';
        }
}

/* Return: whether there may be more. */
static bool read_once(struct lines *lines) {
        char bytes[4096];
        ssize_t n = read(lines->fd, bytes, sizeof(bytes));

        if (n > 0) {
                feed(lines, bytes, (size_t)n);
                return true;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        (void)event_del(lines->readable);
        if (lines->len > 0)
                emit(lines);
        return false;
}

static void on_readable(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        (void)read_once(data);
}

int lines_new(struct lines **ret, struct event_base *base, int fd, lines_callback on_line, void *data) {
        struct lines *lines = calloc(1, sizeof(*lines));

        if (!lines) {
                (void)fd_close(fd);
                return -ENOMEM;
        }
        lines->fd = fd;
        lines->on_line = on_line;
        lines->data = data;
        lines->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, lines);
        if (!lines->readable || event_add(lines->readable, NULL) < 0) {
                (void)lines_free(lines);
                return -ENOMEM;
        }
        *ret = lines;
        return 0;
}

void lines_drain(struct lines *lines) {
        for (int i = 0; i < DRAIN_READS && read_once(lines); i++)
                ;
        if (lines->len > 0)
                emit(lines);
}

const char *lines_rest(struct lines *lines) {
        lines->line[lines->len] = 0;
        return lines->line;
}

int lines_fd(const struct lines *lines) {
        return lines->fd;
}

void lines_begin(struct lines *lines, const char *rest) {
        feed(lines, rest, strlen(rest));
}

struct lines *lines_free(struct lines *lines) {
        if (!lines)
                return NULL;
        if (lines->readable)
                event_free(lines->readable);
        (void)fd_close(lines->fd);
        free(lines);
        return NULL;
}

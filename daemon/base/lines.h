/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A pipe that somebody writes text into, handed out line by line. Bounded: a line beyond 2 KiB is handed out in pieces. The
 * last line needs no newline.
 */

#include <event2/event.h>

#include "base/util.h"

struct lines;

/* `on_line` gets a NUL-terminated line without its newline; NUL bytes inside read as '?'. */
typedef void (*lines_callback)(void *data, const char *line);

/* Takes over `fd`, which must be non-blocking, in any case. Return: 0 or -ENOMEM. */
int lines_new(struct lines **ret, struct event_base *base, int fd, lines_callback on_line, void *data);

/* Reads what is in the pipe now, up to a bound. For the last words of a process that has ended. */
void lines_drain(struct lines *lines);

/* The beginning of a line whose rest has not come; NUL-terminated. */
const char *lines_rest(struct lines *lines);
int lines_fd(const struct lines *lines); /* stays its own */

/* Goes on with a line that begins so. */
void lines_begin(struct lines *lines, const char *rest);

struct lines *lines_free(struct lines *lines);

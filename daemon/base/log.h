/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The log: one line an event, to standard error or to the journal.
 *
 * On a terminal or in a file a line begins with time and level. When standard error is connected to the journal (JOURNAL_STREAM), the
 * journal gets an entry with fields instead: PRIORITY, MESSAGE, and of the scope PLUGIN, WORKER_PID, GENERATION and REQUEST_ID. A control
 * character in a message, which may come from a plugin, is written as \xNN, and so is what is no UTF-8; so nobody forges a line, or
 * hides one from journalctl. Lines are cut at 4 KiB.
 *
 * The fields of a `log_scope` say whom a line is about; it begins with `plugin "pii" worker 4711: …`.
 */

#include <event2/event.h>
#include <sys/types.h>

#include "base/util.h"

enum log_level {
        LOG_LEVEL_ERROR,
        LOG_LEVEL_WARNING,
        LOG_LEVEL_NOTICE,
        LOG_LEVEL_INFO,
        LOG_LEVEL_DEBUG,
        LOG_LEVEL_MAX_,
};

struct log_scope {
        const char *plugin;     /* NULL: none */
        bool group;             /* `plugin` is the name of a group of them */
        pid_t worker;           /* 0: none */
        uint64_t generation;    /* 0: the one that serves */
        const char *request_id; /* of request_id_len bytes; NULL: none */
        size_t request_id_len;
};

/* Prepares the log; without it lines of level notice and above are written in the form for people. */
void log_init(enum log_level level);
void log_set_level(enum log_level level);

/* While the loop turns, lines that the journal has no room for wait for it. Return: 0 or -ENOMEM. */
int log_attach(struct event_base *base);
void log_detach(void);

/* The one that serves, from now on: GENERATION of the lines whose scope has none. */
void log_set_generation(uint64_t generation);

const char *log_level_name(enum log_level level);

void log_write(enum log_level level, const struct log_scope *scope, const char *format, ...) PRINTF_LIKE(3, 4);

/* Whoever keeps lines (NULL: nobody) gets each of level info and above, and what log_set_level() lets through beyond: the text as it was
 * given, and its scope with the generation. It may not log anything. */
typedef void (*log_tap)(void *data, enum log_level level, const struct log_scope *scope, const char *text);
void log_set_tap(log_tap tap, void *data);

/* Writes each line of a text of several lines, which need not end in NUL. */
void log_text(enum log_level level, const struct log_scope *scope, const void *text, size_t len);

#define log_error(...) log_write(LOG_LEVEL_ERROR, NULL, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, NULL, __VA_ARGS__)

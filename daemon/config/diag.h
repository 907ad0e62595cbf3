/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Complaints about a file: collected, never printed here. A place in the document is a chain of `struct at` on the stack of the
 * functions that walk it; it becomes text only when there is something to say.
 */

#include "config/load.h"

/* One step into a document: a key, a list's item (key NULL), or both: plugins[2] "pii". */
struct at {
        const struct at *up;
        const char *key;
        const char *name; /* what the item calls itself; NULL: nothing */
        size_t index;     /* of an item, counted from 1; 0: no item */
};

/* Where complaints about one file go. */
struct report {
        struct diags *diags;
        const char *file; /* as the user wrote it */
        int error;        /* -ENOMEM once memory was short, and then for good */
        /* What Jinja2 made the text of that is read; NULL: it did not. Places are then those in what it made. */
        const char *source;
        size_t source_len;
};

void report_addv(struct report *report, enum diag_severity severity, const struct at *at, struct place place, const char *format,
                 va_list args) PRINTF_LIKE(5, 0);
void report_add(struct report *report, enum diag_severity severity, const struct at *at, struct place place, const char *format,
                ...) PRINTF_LIKE(5, 6);

/* A warning of what may be the cause of what else is said of this line. */
void report_add_cause(struct report *report, struct place place, const char *format, ...) PRINTF_LIKE(3, 4);

#define DIAGS_MAX 1000 /* kept, of all files together */

/* Return: whether no more complaints are kept; then nobody need word them. */
static inline bool report_full(const struct report *report) {
        return report->diags->n >= DIAGS_MAX;
}

/* Return: `ok`, which says whether there was memory; marks the report. */
static inline bool report_check(struct report *report, bool ok) {
        if (!ok)
                report->error = -ENOMEM;
        return ok;
}

/* Return: whether a text that Jinja2 brought about may be told: it stands in the file itself, so it is no value of a variable. */
bool report_may_tell(const struct report *report, const char *text, size_t len);

/* Brings what stands from `first` on into the order of the file. */
void diags_sort(struct diags *diags, size_t first);

/* Return: the name that `word` was probably meant to be, NULL when none is close. */
const char *suggest(const char *word, const char *const *names, size_t n);

/* Appends `text` in double quotes, shortened and with control characters made visible. */
void put_quoted(struct buf *buf, const char *text, size_t len);

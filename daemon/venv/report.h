/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an installer prints: every line is passed on, and those that tell why it failed are kept. */

#include "base/util.h"

#define REPORT_LINES 4

struct report {
        const char *prefix;          /* "pip" */
        char *telling[REPORT_LINES]; /* the first that speak of an error */
        size_t n_telling;
        char *last[REPORT_LINES]; /* the last of all, as a ring */
        size_t n_last;
        bool denied; /* a line says that something is not permitted */
};
void report_done(struct report *report);
#define CLEANUP_REPORT CLEANUP(report_done)

/* `data` is a struct report. */
void report_line(void *data, const char *text);

/* Return: the telling lines, or else the last ones, as one line, with the signal that ended the program, if one did
 * (`wait_status`); NULL without memory. */
char *report_text(const struct report *report, int wait_status);

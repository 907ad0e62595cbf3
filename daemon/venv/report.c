/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pip says "ERROR:"; uv says "error:" and "cause:", or draws a tree with a cross and an arrow; compilers and the C
 * library have words of their own. Where nothing is recognized the last lines are the best there is.
 */

#include "venv/report.h"

#include <sys/wait.h>

#include "base/buf.h"
#include "venv/mask.h"
#include "venv/say.h"

static const char *const telling_starts[] = {"ERROR: ", "error: ", "× ", "╰─▶ ", "cause: ", "hint: "};
static const char *const telling_parts[] = {"No matching distribution", "Could not find", "No space left on device",
                                            "Permission denied",        ": error: ",      "Traceback ("};

void report_done(struct report *report) {
        for (size_t i = 0; i < REPORT_LINES; i++) {
                free(report->telling[i]);
                free(report->last[i]);
        }
        *report = (struct report){0};
}

static bool is_telling(const char *line) {
        for (size_t i = 0; i < ELEMENTS(telling_starts); i++)
                if (strncmp(line, telling_starts[i], strlen(telling_starts[i])) == 0)
                        return true;
        for (size_t i = 0; i < ELEMENTS(telling_parts); i++)
                if (strstr(line, telling_parts[i]))
                        return true;
        return false;
}

void report_line(void *data, const char *text) {
        struct report *report = data;
        CLEANUP_FREE char *masked = mask_credentials(text); /* now, for the lines are shortened later */
        const char *line = masked ? masked : "";
        char **slot = &report->last[report->n_last++ % REPORT_LINES];

        say("%s: %s", report->prefix, line);
        line += strspn(line, " \t");
        report->denied |= strstr(line, "Permission denied") || strstr(line, "Operation not permitted");
        free(*slot);
        *slot = strdup(line);
        if (report->n_telling < REPORT_LINES && is_telling(line))
                report->telling[report->n_telling++] = strdup(line);
}

char *report_text(const struct report *report, int wait_status) {
        size_t n = report->n_telling ? report->n_telling : MIN(report->n_last, (size_t)REPORT_LINES);
        /* run_command() reports signals as shells do. */
        int signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status) - 128;
        CLEANUP_BUF struct buf text = {.limit = 1800};

        for (size_t i = 0; i < n; i++) {
                const char *line = report->n_telling ? report->telling[i] : report->last[(report->n_last - n + i) % REPORT_LINES];

                if (i > 0)
                        buf_append_str(&text, "; ");
                if (line)
                        buf_append(&text, line, strnlen(line, 350));
        }
        if (n == 0)
                buf_append_str(&text, "it said nothing");
        if (signal > 0)
                buf_printf(&text, "; it was killed by signal %d (%s)", signal, strsignal(signal));
        return buf_take_str(&text);
}

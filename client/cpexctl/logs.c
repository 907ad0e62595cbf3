/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `cpexctl logs`: what plugins print and the daemon says of them, from the daemon's memory. Following is asking again for what comes after the
 * last line, with an answer that waits until there is something.
 */

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "json.h"
#include "report.h"
#include "text.h"

#define LINES 50

/* ---- One line ---- */

static void put_time(struct buf *out, uint64_t usec) {
        time_t when = (time_t)(usec / 1000000);
        char text[32] = "-";
        struct tm tm;

        if (localtime_r(&when, &tm))
                (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
        buf_printf(out, "%s.%03u ", text, (unsigned)(usec / 1000 % 1000));
}

static void put_level(struct buf *out, struct mp line) {
        struct mp level = map_get(line, "level");

        if (mp_eq_str(level, "error"))
                text_put_coloured(out, TEXT_RED, "error: ");
        else if (mp_eq_str(level, "warning"))
                text_put_coloured(out, TEXT_YELLOW, "warning: ");
}

/* `told`: plugin and request that the line before named; what a request has left several lines, as a traceback has, names it once. */
static void put_request(struct buf *out, struct mp plugin, struct mp request, struct buf *told) {
        CLEANUP_BUF struct buf now = {0};

        if (request.len > 0) {
                buf_append(&now, plugin.data, plugin.len);
                buf_append(&now, "", 1);
                buf_append(&now, request.data, request.len);
                if (now.len != told->len || memcmp(now.data, told->data, now.len) != 0) {
                        buf_append_str(out, " (request ");
                        text_put(out, request.data, request.len);
                        buf_append_str(out, ")");
                }
        }
        buf_done(told);
        *told = now;
        now = (struct buf){0};
}

static void put_line(struct buf *out, struct mp line, struct buf *told) {
        struct mp plugin = mp_map_text(line, "plugin"), message = mp_map_text(line, "message"),
                  request = mp_map_text(line, "request_id");
        uint64_t worker = map_uint(line, "worker");

        put_time(out, map_uint(line, "time_usec"));
        if (plugin.len > 0)
                text_put(out, plugin.data, plugin.len);
        else
                buf_append_str(out, "cpexd");
        if (worker > 0)
                buf_printf(out, "[%" PRIu64 "]", worker);
        buf_append_str(out, ": ");
        put_level(out, line);
        text_put(out, message.data, message.len);
        put_request(out, plugin, request, told);
        buf_append_str(out, "\n");
}

/* ---- An answer ---- */

static void put_answer(const struct options *options, struct buf *out, struct mp answer, struct buf *told) {
        uint64_t lost = map_uint(answer, "lost");
        struct mp line;
        uint32_t n;

        if (lost > 0 && options->json)
                buf_printf(out, "{\"lost\": %" PRIu64 "}\n", lost);
        else if (lost > 0)
                buf_printf(out, "[%" PRIu64 " line%s before this one %s lost]\n", lost, plural(lost), lost == 1 ? "was" : "were");
        for (struct mp_cur cur = array_begin(map_get(answer, "lines"), &n); n > 0 && mp_read_any(&cur, &line); n--)
                if (options->json) {
                        json_write(out, line, 0);
                        buf_append_str(out, "\n");
                } else {
                        put_line(out, line, told);
                }
}

/* Parameters of the next question. `after`: where the last answer ended; NULL: there was none. */
static void put_params(const struct options *options, const uint64_t *after, struct buf *params) {
        mp_put_map(params, (options->argument != NULL) + (after ? 2 : 1));
        if (options->argument) {
                mp_put_str(params, "plugin");
                mp_put_str(params, options->argument);
        }
        if (!after) {
                mp_put_str(params, "lines");
                mp_put_uint(params, options->count_given ? options->count : LINES);
                return;
        }
        mp_put_str(params, "after");
        mp_put_uint(params, *after);
        mp_put_str(params, "follow");
        mp_put_bool(params, true);
}

int command_logs(const struct options *options) {
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, true);
        CLEANUP_BUF struct buf told = {0};
        struct options patient = *options; /* who follows waits as long as it takes */
        uint64_t next = 0;
        int r = EXIT_OK;

        if (!client)
                return EXIT_ERROR;
        patient.timeout_usec = CPEXD_NO_TIMEOUT;
        for (bool first = true; r == EXIT_OK && (first || options->follow); first = false) {
                CLEANUP_BUF struct buf params = {0}, out = {0};
                struct mp answer;

                put_params(options, first ? NULL : &next, &params);
                if (buf_error(&params))
                        return report_error(options, "memory", "out of memory");
                if (!daemon_ask(client, first ? options : &patient, "logs", (struct mp){params.data, params.len}, &answer))
                        return EXIT_ERROR;
                if (options->json && !options->follow)
                        return report_json(options, answer, EXIT_OK);
                next = map_uint(answer, "next");
                put_answer(options, &out, answer, &told);
                if (out.len > 0)
                        r = report_output(options, &out, EXIT_OK);
        }
        return r;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `cpexctl invoke`: one call of a hook. JSON in, and out either the answer's fields with its documents taken apart, or what a
 * person wants to see first: allowed or blocked, who ran, what became of the payload.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "json.h"
#include "report.h"
#include "text.h"

/* ---- What is sent ---- */

static int read_stream(const struct options *options, FILE *file, const char *name, struct buf *buf) {
        size_t n;

        do {
                uint8_t *end = buf_reserve(buf, 65536);

                if (!end)
                        return report_error(options, "input", "%s: out of memory", name);
                n = fread(end, 1, 65536, file);
                buf->len += n;
        } while (n > 0);
        return ferror(file) ? report_error(options, "input", "%s: cannot be read: %s", name, strerror(errno)) : EXIT_OK;
}

static int read_file(const struct options *options, const char *path, struct buf *buf) {
        FILE *file = fopen(path, "re");
        int r;

        if (!file)
                return report_error(options, "input", "%s: cannot be opened: %s", path, strerror(errno));
        r = read_stream(options, file, path, buf);
        (void)fclose(file);
        return r;
}

/* An option's JSON, with - for standard input and @FILE for a file, as msgpack. Absent: nothing is appended. */
static int read_json(const struct options *options, const char *option, const char *value, const char *example, struct buf *ret) {
        CLEANUP_BUF struct buf text = {0};
        CLEANUP_FREE char *problem = NULL;
        const char *source = value && *value == '@' ? value + 1 : value && str_eq(value, "-") ? "standard input" : option;
        int r = EXIT_OK;

        if (!value)
                return EXIT_OK;
        if (*value == '@')
                r = read_file(options, value + 1, &text);
        else if (str_eq(value, "-"))
                r = read_stream(options, stdin, source, &text);
        else
                buf_append_str(&text, value);
        if (r != EXIT_OK)
                return r;
        if (json_read(ret, (const char *)text.data, text.len, source, example, &problem) < 0)
                return report_error(options, "input", "%s", problem ? problem : "out of memory");
        return EXIT_OK;
}

static int require_map(const struct options *options, const char *option, const struct buf *buf, const char *example) {
        struct mp_cur cur = mp_cur((struct mp){buf->data, buf->len});

        if (buf->len == 0 || mp_peek(&cur) == MP_MAP)
                return EXIT_OK;
        return report_error(options, "input", "%s: an object is needed, like %s", option, example);
}

/* The context with a request id, which is made up where the one given has none. */
static int complete_context(const struct options *options, const struct buf *given, struct buf *ret) {
        struct mp map = {given->data, given->len}, id;
        CLEANUP_BUF struct buf made = {0};
        uint64_t random[2];
        char text[33];

        if (map.len > 0 && mp_map_get(map, "request_id", &id)) {
                mp_put_raw(ret, map);
                return EXIT_OK;
        }
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return report_error(options, "input", "the kernel gives no random numbers for a request_id; give --context");
        (void)snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
        mp_put_map(&made, 1);
        mp_put_str(&made, "request_id");
        mp_put_str(&made, text);
        mp_put_merged(ret, (struct mp){made.data, made.len}, map, NULL);
        return EXIT_OK;
}

#define PAYLOAD_EXAMPLE "{\"name\": \"search\", \"args\": {\"query\": \"cats\"}}"
#define CONTEXT_EXAMPLE "{\"request_id\": \"r1\", \"user\": \"alice\"}"
#define EXTENSIONS_EXAMPLE "{\"security\": {\"labels\": [\"PII\"]}}"

struct inputs {
        struct buf payload, context, extensions, contexts;
};

static void inputs_done(struct inputs *inputs) {
        buf_done(&inputs->payload);
        buf_done(&inputs->context);
        buf_done(&inputs->extensions);
        buf_done(&inputs->contexts);
}

static int inputs_read(const struct options *options, struct inputs *in) {
        CLEANUP_BUF struct buf context = {0};
        int r;

        if (!options->payload)
                return report_error(options, "usage", "invoke needs --payload JSON, like '%s', or null for none",
                                    PAYLOAD_EXAMPLE);
        r = read_json(options, "--payload", options->payload, PAYLOAD_EXAMPLE, &in->payload);
        if (r == EXIT_OK)
                r = read_json(options, "--context", options->context, CONTEXT_EXAMPLE, &context);
        if (r == EXIT_OK)
                r = require_map(options, "--context", &context, CONTEXT_EXAMPLE);
        if (r == EXIT_OK)
                r = complete_context(options, &context, &in->context);
        if (r == EXIT_OK)
                r = read_json(options, "--extensions", options->extensions, EXTENSIONS_EXAMPLE, &in->extensions);
        if (r == EXIT_OK)
                r = require_map(options, "--extensions", &in->extensions, EXTENSIONS_EXAMPLE);
        if (r == EXIT_OK && options->contexts_in)
                r = read_file(options, options->contexts_in, &in->contexts);
        return r;
}

/* ---- What comes back ---- */

/* Only an answer that says so may read as "allowed". Return: EXIT_OK, or EXIT_ERROR after telling what is wrong. */
static int check_answer(const struct options *options, struct mp answer) {
        struct mp_cur cur = mp_cur(answer);
        struct mp value;

        if (mp_peek(&cur) != MP_MAP)
                return report_error(options, "protocol",
                                    "the daemon's answer is not a map, so nothing says whether the call is allowed; "
                                    "check that a cpexd of this version listens there");
        if (!mp_map_get(answer, "continue_processing", &value))
                return EXIT_OK;
        cur = mp_cur(value);
        if (mp_peek(&cur) != MP_BOOL)
                return report_error(options, "protocol",
                                    "the daemon's continue_processing is neither true nor false, so nothing says whether the "
                                    "call is allowed; check that a cpexd of this version listens there");
        return EXIT_OK;
}

/* The document in the bin under `key`, an empty slice where there is none. */
static struct mp document(struct mp answer, const char *key) {
        struct mp_cur cur = mp_cur(map_get(answer, key));
        struct mp content = {0};

        return mp_read_bin(&cur, &content) && mp_is_value(content) ? content : (struct mp){0};
}

/* `contexts` is [1, request_id, {plugin: {state, metadata}}]; people get the map. */
static struct mp contexts_map(struct mp answer) {
        struct mp_cur cur = mp_cur(document(answer, "contexts"));
        struct mp item = {0};
        uint32_t n;

        if (!mp_read_array(&cur, &n) || n != 3)
                return (struct mp){0};
        for (; n > 0 && mp_read_any(&cur, &item); n--)
                ;
        return n == 0 ? item : (struct mp){0};
}

static int print_json(const struct options *options, struct mp answer, int status) {
        CLEANUP_BUF struct buf out = {0};
        struct mp_cur cur = mp_cur(answer);
        struct mp key, value;
        uint32_t n = 0;

        buf_append_str(&out, "{");
        (void)mp_read_map(&cur, &n);
        for (uint32_t i = 0; i < n && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); i++) {
                if (mp_eq_str(key, "modified_payload"))
                        value = document(answer, "modified_payload");
                else if (mp_eq_str(key, "contexts"))
                        value = contexts_map(answer);
                if (i > 0)
                        buf_append_str(&out, ", ");
                json_write(&out, key, 0);
                buf_append_str(&out, ": ");
                json_write(&out, value, 0);
        }
        buf_append_str(&out, "}");
        return report_output(options, &out, status);
}

static void put_field(struct buf *out, const char *name, struct mp text) {
        if (text.len == 0)
                return;
        buf_printf(out, "  %-12s ", name);
        text_put(out, text.data, text.len);
        buf_append_str(out, "\n");
}

static void put_section(struct buf *out, const char *name, struct mp value) {
        struct mp_cur cur = mp_cur(value);
        uint32_t n;

        if (value.len == 0 || (mp_read_map(&cur, &n) && n == 0))
                return;
        text_put_coloured(out, TEXT_BOLD, name);
        buf_append_str(out, "\n");
        json_write(out, value, 2);
        buf_append_str(out, "\n");
}

/* What one plugin did, in a word or two. */
static void add_outcome(struct text_table *table, struct mp record) {
        struct mp status = mp_map_text(record, "status");

        if (status.len > 0 && (status.len != 9 || memcmp(status.data, "completed", 9) != 0))
                text_table_add(table, TEXT_RED, "%.*s", (int)status.len, (const char *)status.data);
        else if (!map_bool(record, "effective_allow", true))
                text_table_add(table, TEXT_RED, "blocked");
        else if (map_bool(record, "payload_modified", false))
                text_table_add(table, TEXT_YELLOW, "changed the payload");
        else if (!map_bool(record, "requested_allow", true))
                text_table_add(table, TEXT_YELLOW, "would block");
        else
                text_table_add(table, TEXT_GREEN, "allowed");
}

static int put_executions(struct buf *out, struct mp answer) {
        CLEANUP_TABLE struct text_table table = {.columns = 5};
        struct mp record;
        uint32_t n;

        for (struct mp_cur cur = array_begin(map_get(answer, "executions"), &n); n > 0 && mp_read_any(&cur, &record); n--) {
                uint64_t duration = map_uint(record, "duration_ns");
                struct mp reason = mp_map_text(record, "reason");

                text_table_add_mp(&table, TEXT_PLAIN, map_get(record, "plugin_name"));
                text_table_add_mp(&table, TEXT_PLAIN, map_get(record, "mode"));
                add_outcome(&table, record);
                if (duration > 0)
                        text_table_add(&table, TEXT_PLAIN, "%.2f ms", (double)duration / 1e6);
                else
                        text_table_add(&table, TEXT_PLAIN, "-");
                text_table_add(&table, TEXT_PLAIN, "%.*s", (int)reason.len, reason.len > 0 ? (const char *)reason.data : "");
        }
        if (table.n == 0)
                buf_append_str(out, document(answer, "contexts").len > 0 ? "  no plugin\n"
                                                                         : "  no plugin: none listens to this hook\n");
        return text_table_put(&table, out, 2);
}

static int print_for_people(const struct options *options, struct mp answer, int status) {
        CLEANUP_BUF struct buf out = {0};
        struct mp violation = map_get(answer, "violation");

        if (status == EXIT_OK)
                text_put_coloured(&out, TEXT_GREEN, "allowed");
        else
                text_put_coloured(&out, TEXT_RED, "blocked");
        buf_append_str(&out, "\n");
        put_field(&out, "by", mp_map_text(violation, "plugin_name"));
        put_field(&out, "reason", mp_map_text(violation, "reason"));
        put_field(&out, "description", mp_map_text(violation, "description"));
        put_field(&out, "code", mp_map_text(violation, "code"));
        if (map_uint(answer, "retry_delay_ms") > 0)
                buf_printf(&out, "  %-12s %" PRIu64 " ms\n", "retry after", map_uint(answer, "retry_delay_ms"));
        put_section(&out, "details", map_get(violation, "details"));
        text_put_coloured(&out, TEXT_BOLD, "ran");
        buf_append_str(&out, "\n");
        if (put_executions(&out, answer) < 0 || report_put_timing(&out, map_get(answer, "timing")) < 0)
                return report_error(options, "memory", "out of memory");
        put_section(&out, "payload", document(answer, "modified_payload"));
        put_section(&out, "metadata", map_get(answer, "metadata"));
        put_section(&out, "extensions", map_get(answer, "modified_extensions"));
        put_section(&out, "http headers", map_get(answer, "http_headers"));
        return report_output(options, &out, status);
}

/* Contexts hold what the plugins keep, secrets included, so a new file is for its owner alone. */
static int save_contexts(const struct options *options, struct mp answer) {
        struct mp contexts = document(answer, "contexts");
        CLEANUP_FD int fd = open(options->contexts_out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
        bool failed;

        if (!file)
                return report_error(options, "output", "%s: cannot be written: %s", options->contexts_out, strerror(errno));
        (void)TAKE_FD(fd);
        failed = contexts.len > 0 && fwrite(contexts.data, 1, contexts.len, file) != contexts.len;
        failed = fclose(file) != 0 || failed;
        return failed ? report_error(options, "output", "%s: cannot be written: %s", options->contexts_out, strerror(errno))
                      : EXIT_OK;
}

int command_invoke(const struct options *options) {
        CLEANUP(inputs_done) struct inputs in = {0};
        CLEANUP_DAEMON struct cpexd_client *client = NULL;
        struct cpexd_invocation call;
        struct cpexd_reply reply;
        struct mp answer;
        int r = inputs_read(options, &in), status;

        if (r != EXIT_OK)
                return r;
        client = daemon_connect(options, false);
        if (!client)
                return EXIT_ERROR;
        call = (struct cpexd_invocation){
                .hook = options->argument,
                .payload = in.payload.data,
                .payload_len = in.payload.len,
                .context = in.context.data,
                .context_len = in.context.len,
                .contexts = in.contexts.data,
                .contexts_len = in.contexts.len,
                .extensions = in.extensions.data,
                .extensions_len = in.extensions.len,
                .payload_type = options->payload_type,
                .plugin = options->plugin,
                .timeout_ms = options->timeout_ms,
                .violations_as_exceptions = options->violations_as_exceptions,
                .timing = options->timing,
        };
        r = cpexd_invoke(client, &call, options->timeout_usec, &reply);
        if (r < 0)
                return report_failure(options, client, r);
        answer = (struct mp){reply.data, reply.len};
        if (reply.failed)
                return report_daemon_error(options, answer);
        r = check_answer(options, answer);
        if (r == EXIT_OK && options->contexts_out)
                r = save_contexts(options, answer);
        if (r != EXIT_OK)
                return r;
        status = map_bool(answer, "continue_processing", true) ? EXIT_OK : EXIT_REFUSED;
        return options->json ? print_json(options, answer, status) : print_for_people(options, answer, status);
}

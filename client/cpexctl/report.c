/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Everything a daemon leaves out reads as its neutral value, so that this cpexctl still works with a newer or an older one.
 */

#include "report.h"

#include <stdio.h>

#include "json.h"
#include "text.h"

int report_output(const struct options *options, struct buf *buf, int status) {
        if (buf->len == 0 || buf->data[buf->len - 1] != '\n')
                buf_append_str(buf, "\n");
        if (buf_error(buf))
                return report_error(options, "memory", "out of memory");
        if (fwrite(buf->data, 1, buf->len, stdout) != buf->len || fflush(stdout) != 0) {
                fprintf(stderr, "cpexctl: writing to standard output failed: %s\n", strerror(errno));
                return EXIT_ERROR;
        }
        return status;
}

int report_table(const struct options *options, const struct text_table *table, int status) {
        CLEANUP_BUF struct buf out = {0};

        if (text_table_put(table, &out, 0) < 0)
                return report_error(options, "memory", "out of memory");
        return report_output(options, &out, status);
}

int report_json(const struct options *options, struct mp value, int status) {
        CLEANUP_BUF struct buf out = {0};

        json_write(&out, value, 0);
        return report_output(options, &out, status);
}

int report_error(const struct options *options, const char *code, const char *format, ...) {
        CLEANUP_BUF struct buf message = {0}, out = {0};
        va_list args;

        va_start(args, format);
        buf_vprintf(&message, format, args);
        va_end(args);
        if (options->json) {
                buf_append_str(&out, "{\"error\": {\"type\": \"ClientError\", \"code\": ");
                json_write_str(&out, code, strlen(code));
                buf_append_str(&out, ", \"message\": ");
                json_write_str(&out, message.data, message.len);
                buf_append_str(&out, "}}\n");
        } else {
                buf_append_str(&out, "cpexctl: ");
                text_put(&out, message.data, message.len);
                buf_append_str(&out, "\n");
        }
        (void)fwrite(out.data, 1, out.len, options->json ? stdout : stderr);
        return EXIT_ERROR;
}

/* A message, which may have several lines: those after the first are indented. */
static void put_lines(struct buf *out, struct mp text) {
        const char *at = (const char *)text.data, *end = at + text.len;

        while (at < end) {
                const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;

                text_put(out, at, (size_t)(stop - at));
                buf_append_str(out, newline && stop + 1 < end ? "\n  " : "\n");
                at = stop + 1;
        }
}

void report_put_texts(struct buf *out, struct mp array) {
        struct mp item;
        uint32_t n;

        for (struct mp_cur cur = array_begin(array, &n); n > 0 && mp_read_any(&cur, &item); n--) {
                struct mp_cur in = mp_cur(item);
                struct mp text;

                if (!mp_read_str(&in, &text))
                        continue;
                buf_append_str(out, "  ");
                put_lines(out, text);
        }
}

struct mp report_fellow(struct mp plugins, struct mp plugin) {
        struct mp group = map_get(plugin, "group"), other;
        uint32_t n;

        for (struct mp_cur cur = array_begin(plugins, &n); group.len > 0 && n > 0 && mp_read_any(&cur, &other); n--) {
                if (other.data == plugin.data)
                        break;
                if (mp_same_str(map_get(other, "group"), group))
                        return other;
        }
        return (struct mp){0};
}

/* Those of the group from here on. */
static void put_members(struct buf *out, struct mp_cur cur, uint32_t n, struct mp group) {
        struct mp plugin, name;
        bool any = false;

        for (; n > 0 && mp_read_any(&cur, &plugin); n--) {
                if (!mp_same_str(map_get(plugin, "group"), group))
                        continue;
                name = mp_map_text(plugin, "name");
                buf_append_str(out, any ? ", " : ": ");
                text_put(out, name.data, name.len);
                any = true;
        }
}

void report_put_groups(struct buf *out, struct mp plugins) {
        struct mp plugin, group;
        uint32_t n;
        bool any = false;

        for (struct mp_cur cur = array_begin(plugins, &n), at = cur; n > 0 && mp_read_any(&cur, &plugin); n--, at = cur) {
                group = mp_map_text(plugin, "group");
                if (group.len == 0 || report_fellow(plugins, plugin).len > 0)
                        continue;
                buf_append_str(out, any ? "" : "\n");
                buf_append_str(out, "group ");
                text_put(out, group.data, group.len);
                put_members(out, at, n, map_get(plugin, "group"));
                buf_append_str(out, "\n");
                any = true;
        }
}

int report_put_timing(struct buf *out, struct mp timing) {
        CLEANUP_TABLE struct text_table table = {.columns = 3};
        uint64_t total = map_uint(timing, "total_usec");
        struct mp plugin;
        uint32_t n;

        if (timing.len == 0)
                return 0;
        text_put_coloured(out, TEXT_BOLD, "time");
        buf_printf(out, "\n  %.2f ms in all\n", (double)total / 1000);
        for (struct mp_cur cur = array_begin(map_get(timing, "plugins"), &n); n > 0 && mp_read_any(&cur, &plugin); n--) {
                text_table_add_mp(&table, TEXT_PLAIN, map_get(plugin, "name"));
                text_table_add(&table, TEXT_PLAIN, "waited %.2f ms", (double)map_uint(plugin, "wait_usec") / 1000);
                text_table_add(&table, TEXT_PLAIN, "ran %.2f ms", (double)map_uint(plugin, "run_usec") / 1000);
        }
        return text_table_put(&table, out, 2);
}

int report_daemon_error(const struct options *options, struct mp error) {
        CLEANUP_BUF struct buf out = {0};
        struct mp type = mp_map_text(error, "type"), plugin = mp_map_text(error, "plugin_name"),
                  message = mp_map_text(error, "message");
        struct mp cause = mp_map_text(error, "cause"), hint, timing;

        if (options->json) {
                buf_append_str(&out, "{\"error\": ");
                json_write(&out, error, 0);
                buf_append_str(&out, "}");
                return report_output(options, &out, EXIT_ERROR);
        }
        buf_append_str(&out, "cpexctl: ");
        if (plugin.len > 0) {
                buf_append_str(&out, "plugin \"");
                text_put(&out, plugin.data, plugin.len);
                buf_append_str(&out, "\": ");
        }
        if (type.len > 0 && !(type.len == 13 && memcmp(type.data, "ProtocolError", 13) == 0)) {
                text_put(&out, type.data, type.len);
                if (cause.len > 0) {
                        buf_append_str(&out, " (");
                        text_put(&out, cause.data, cause.len);
                        buf_append_str(&out, ")");
                }
                buf_append_str(&out, ": ");
        }
        if (message.len > 0)
                put_lines(&out, message);
        else
                buf_append_str(&out, "it says nothing more\n");
        hint = mp_map_text(map_get(error, "details"), "sandbox");
        if (hint.len > 0) {
                buf_append_str(&out, "  ");
                put_lines(&out, hint);
        }
        report_put_texts(&out, map_get(map_get(error, "details"), "diagnostics"));
        timing = map_get(error, "timing").len > 0 ? map_get(error, "timing") : map_get(map_get(error, "details"), "timing");
        (void)report_put_timing(&out, timing);
        (void)fwrite(out.data, 1, out.len, stderr);
        return EXIT_ERROR;
}

int report_failure(const struct options *options, const struct cpexd_client *client, int error) {
        if (error == -ETIMEDOUT)
                return report_error(options, "timeout", "%s (--timeout)", cpexd_problem(client));
        return report_error(options, error == -EINVAL ? "bad_request" : "connection", "%s", cpexd_problem(client));
}

static void report_no_connection(const struct options *options, const char *path, int error, bool control) {
        const char *option = control ? "--control" : "--socket";

        if (error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR)
                report_error(options, "unreachable",
                             "no cpexd listens on %s: %s; start one with cpexd, or say with %s PATH where it listens", path,
                             error == -ECONNREFUSED ? "the socket is there but nobody answers" : "there is no such socket",
                             option);
        else if (error == -EACCES || error == -EPERM)
                report_error(options, "unreachable", "you may not use %s; ask its owner, or name another with %s PATH", path,
                             option);
        else if (error == -ENAMETOOLONG)
                report_error(options, "unreachable", "%s is too long for a socket's path, which has at most 107 bytes", path);
        else if (error == -ETIMEDOUT)
                report_error(options, "timeout", "cpexd does not take connections on %s; it may hang", path);
        else
                report_error(options, "unreachable", "cannot connect to %s: %s", path, strerror(-error));
}

struct cpexd_client *daemon_connect(const struct options *options, bool control) {
        CLEANUP_FREE char *path = control ? options_control(options) : options_socket(options);
        struct cpexd_client *client = NULL;
        int r;

        if (!path) {
                report_error(options, "memory", "out of memory");
                return NULL;
        }
        r = cpexd_connect(&client, path, options->timeout_usec);
        if (r < 0)
                report_no_connection(options, path, r, control);
        return client;
}

void daemon_disconnectp(struct cpexd_client **client) {
        cpexd_disconnect(*client);
}

bool daemon_call(struct cpexd_client *client, const struct options *options, const char *method, struct mp params,
                 struct cpexd_reply *ret) {
        int r = cpexd_call(client, method, params.data, params.len, options->timeout_usec, ret);

        if (r < 0)
                report_failure(options, client, r);
        return r >= 0;
}

bool daemon_ask(struct cpexd_client *client, const struct options *options, const char *method, struct mp params,
                struct mp *ret) {
        struct cpexd_reply reply;

        if (!daemon_call(client, options, method, params, &reply))
                return false;
        *ret = (struct mp){reply.data, reply.len};
        if (reply.failed)
                report_daemon_error(options, *ret);
        return !reply.failed;
}

struct mp map_get(struct mp map, const char *key) {
        struct mp value;

        return map.len > 0 && mp_map_get(map, key, &value) && !mp_is_nil(value) ? value : (struct mp){0};
}

uint64_t map_uint(struct mp map, const char *key) {
        struct mp_cur cur = mp_cur(map_get(map, key));
        uint64_t n = 0;

        (void)mp_read_uint(&cur, &n);
        return n;
}

bool map_bool(struct mp map, const char *key, bool otherwise) {
        struct mp_cur cur = mp_cur(map_get(map, key));

        (void)mp_read_bool(&cur, &otherwise);
        return otherwise;
}

struct mp_cur array_begin(struct mp array, uint32_t *ret_n) {
        struct mp_cur cur = mp_cur(array);

        *ret_n = 0;
        (void)mp_read_array(&cur, ret_n);
        return cur;
}

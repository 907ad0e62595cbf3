/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The commands that only look: status, plugins, hooks, ping. With --json they hand on what the daemon said.
 */

#include <inttypes.h>

#include "base/clock.h"
#include "report.h"
#include "text.h"

static enum text_colour status_colour(struct mp status) {
        struct mp_cur cur = mp_cur(status);
        struct mp text = {0};

        (void)mp_read_str(&cur, &text);
        if (text.len == 5 && memcmp(text.data, "ready", 5) == 0)
                return TEXT_GREEN;
        return text.len == 6 && memcmp(text.data, "failed", 6) == 0 ? TEXT_RED : TEXT_YELLOW;
}

static void put_text(struct buf *out, struct mp map, const char *key) {
        struct mp text = mp_map_text(map, key);

        if (text.len > 0)
                text_put(out, text.data, text.len);
        else
                buf_append_str(out, "-");
}

static void put_duration(struct buf *out, uint64_t usec) {
        uint64_t seconds = usec / USEC_PER_SEC;

        if (seconds >= 86400)
                buf_printf(out, "%" PRIu64 "d %" PRIu64 "h", seconds / 86400, seconds / 3600 % 24);
        else if (seconds >= 3600)
                buf_printf(out, "%" PRIu64 "h %" PRIu64 "m", seconds / 3600, seconds / 60 % 60);
        else if (seconds >= 60)
                buf_printf(out, "%" PRIu64 "m %" PRIu64 "s", seconds / 60, seconds % 60);
        else
                buf_printf(out, "%" PRIu64 "s", seconds);
}

static void put_daemon(struct buf *out, struct mp status) {
        struct mp calls = map_get(status, "calls");

        buf_append_str(out, "cpexd ");
        put_text(out, status, "version");
        buf_append_str(out, ": ");
        put_text(out, status, "state");
        buf_printf(out, ", pid %" PRIu64 ", up ", map_uint(status, "pid"));
        put_duration(out, map_uint(status, "uptime_usec"));
        buf_printf(out, ", generation %" PRIu64 "\nplugins   ", map_uint(status, "generation"));
        put_text(out, status, "plugins_path");
        buf_append_str(out, "\nsocket    ");
        put_text(out, status, "socket");
        buf_printf(out, "\nhosts     %" PRIu64 "\ncalls     %" PRIu64 " in flight, %" PRIu64 " in all, %" PRIu64 " failed\n\n",
                   map_uint(status, "hosts"), map_uint(calls, "active"), map_uint(calls, "total"), map_uint(calls, "failed"));
}

static void add_plugin_status(struct text_table *table, struct mp plugin) {
        struct mp workers = map_get(plugin, "workers"), worker;
        uint64_t active = 0;
        uint32_t n, n_workers;
        struct mp_cur cur = array_begin(workers, &n_workers);

        for (n = n_workers; n > 0 && mp_read_any(&cur, &worker); n--)
                active += map_uint(worker, "calls_active");
        text_table_add_mp(table, TEXT_PLAIN, map_get(plugin, "name"));
        text_table_add_mp(table, status_colour(map_get(plugin, "status")), map_get(plugin, "status"));
        text_table_add_mp(table, TEXT_PLAIN, map_get(plugin, "mode"));
        text_table_add(table, TEXT_PLAIN, "%" PRIu32, n_workers);
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, active);
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, map_uint(plugin, "queue"));
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, map_uint(plugin, "calls_total"));
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, map_uint(plugin, "errors_total"));
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, map_uint(plugin, "restarts"));
}

static void put_plugin_errors(struct buf *out, struct mp plugins) {
        struct mp plugin;
        uint32_t n;

        for (struct mp_cur cur = array_begin(plugins, &n); n > 0 && mp_read_any(&cur, &plugin); n--) {
                if (mp_map_text(plugin, "error").len == 0)
                        continue;
                buf_append_str(out, "\n");
                put_text(out, plugin, "name");
                buf_append_str(out, ": ");
                put_text(out, plugin, "error");
                buf_append_str(out, "\n");
        }
}

static void put_unboxed(struct buf *out, struct mp status) {
        struct mp plugins = map_get(status, "plugins"), plugin;
        uint32_t n;
        bool any = false;

        for (struct mp_cur cur = array_begin(plugins, &n); n > 0 && mp_read_any(&cur, &plugin); n--) {
                if (!mp_eq_str(map_get(plugin, "sandbox"), "off"))
                        continue;
                buf_append_str(out, any ? ", " : "\nwithout a sandbox: ");
                put_text(out, plugin, "name");
                any = true;
        }
        buf_append_str(out, any ? "\n" : "");
        if (!map_bool(status, "venv_sandbox", true))
                buf_append_str(out, "\npackages are installed without a sandbox (venv.sandbox)\n");
}

static void put_zygotes(struct buf *out, struct mp plugins) {
        struct mp plugin, zygote;
        uint32_t n;
        bool any = false;

        for (struct mp_cur cur = array_begin(plugins, &n); n > 0 && mp_read_any(&cur, &plugin); n--) {
                zygote = map_get(plugin, "zygote");
                if (map_uint(zygote, "pid") == 0)
                        continue;
                buf_append_str(out, any ? ", " : "\nforked by a zygote: ");
                put_text(out, plugin, "name");
                buf_printf(out, " (%" PRIu64 ")", map_uint(zygote, "pid"));
                any = true;
        }
        buf_append_str(out, any ? "\n" : "");
}

int command_status(const struct options *options) {
        static const char *const header[] = {"PLUGIN", "STATUS", "MODE",   "WORKERS", "BUSY",
                                             "QUEUE",  "CALLS",  "ERRORS", "RESTARTS"};
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, true);
        CLEANUP_TABLE struct text_table table = {.columns = ELEMENTS(header)};
        CLEANUP_BUF struct buf out = {0};
        struct mp status, plugin;
        uint32_t n;

        if (!client || !daemon_ask(client, options, "status", (struct mp){0}, &status))
                return EXIT_ERROR;
        if (options->json)
                return report_json(options, status, EXIT_OK);
        put_daemon(&out, status);
        text_table_add_header(&table, header);
        for (struct mp_cur cur = array_begin(map_get(status, "plugins"), &n); n > 0 && mp_read_any(&cur, &plugin); n--)
                add_plugin_status(&table, plugin);
        if (text_table_put(&table, &out, 0) < 0)
                return report_error(options, "memory", "out of memory");
        put_plugin_errors(&out, map_get(status, "plugins"));
        report_put_groups(&out, map_get(status, "plugins"));
        put_zygotes(&out, map_get(status, "plugins"));
        put_unboxed(&out, status);
        return report_output(options, &out, EXIT_OK);
}

static void put_explained(struct buf *out, struct mp answer, const char *key, const char *title, const char *otherwise) {
        struct mp text;
        uint32_t n;
        struct mp_cur cur = array_begin(map_get(answer, key), &n);
        const bool any = n > 0;

        buf_printf(out, "%-10s", title);
        for (; n > 0 && mp_read_any(&cur, &text); n--) {
                struct mp_cur item = mp_cur(text);

                if (mp_read_str(&item, &text))
                        text_put(out, text.data, text.len);
                buf_append_str(out, n > 1 ? "\n          " : "\n");
        }
        if (!any)
                buf_printf(out, "%s\n", otherwise);
}

static void put_explained_limit(struct buf *out, struct mp answer, const char *key) {
        uint64_t limit = map_uint(answer, key);

        buf_printf(out, "%-10s", key);
        if (limit > 0)
                buf_printf(out, "%" PRIu64 "\n", limit);
        else
                buf_append_str(out, "not limited\n");
}

static void put_box(struct buf *out, struct mp answer) {
        put_explained(out, answer, "network", "network", "none");
        put_explained(out, answer, "read", "reads", "-");
        buf_append_str(out, "          its venv, its Python and the system's libraries\n");
        put_explained(out, answer, "write", "writes", "-");
        buf_append_str(out, "          a temporary folder of its own\n");
}

static int put_settings(struct buf *out, struct mp settings) {
        static const char *const header[] = {"SETTING", "VALUE", "FROM"};
        CLEANUP_TABLE struct text_table table = {.columns = ELEMENTS(header)};
        struct mp setting;
        uint32_t n;
        struct mp_cur cur = array_begin(settings, &n);

        if (n == 0) /* a cpexd that does not tell them */
                return 0;
        buf_append_str(out, "\n");
        text_table_add_header(&table, header);
        for (; n > 0 && mp_read_any(&cur, &setting); n--) {
                struct mp from = map_get(setting, "from");

                text_table_add_mp(&table, TEXT_PLAIN, map_get(setting, "name"));
                text_table_add_mp(&table, mp_eq_str(from, "default") ? TEXT_PLAIN : TEXT_BOLD, map_get(setting, "value"));
                text_table_add_mp(&table, TEXT_PLAIN, from);
        }
        return text_table_put(&table, out, 0);
}

int command_explain(const struct options *options) {
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, true);
        CLEANUP_BUF struct buf params = {0}, out = {0};
        struct mp answer, profile;

        mp_put_map(&params, 1);
        mp_put_str(&params, "plugin");
        mp_put_str(&params, options->argument);
        if (buf_error(&params))
                return report_error(options, "memory", "out of memory");
        if (!client || !daemon_ask(client, options, "explain", (struct mp){params.data, params.len}, &answer))
                return EXIT_ERROR;
        if (options->json)
                return report_json(options, answer, EXIT_OK);
        profile = mp_map_text(answer, "profile");
        if (mp_map_text(answer, "plugin").len > 0 && !mp_eq_str(map_get(answer, "plugin"), options->argument)) {
                buf_append_str(&out, "plugin    ");
                put_text(&out, answer, "plugin");
                buf_append_str(&out, ", the first of the group\n");
        }
        buf_append_str(&out, "sandbox   ");
        put_text(&out, answer, "profile");
        buf_append_str(&out, "\n");
        if (profile.len == 0)
                buf_append_str(&out, "The plugin runs in a server of its own, which is nobody's but its owner's to limit.\n");
        else if (profile.len == 3)
                buf_append_str(&out, "It may do all that cpexd's user may.\n");
        else
                put_box(&out, answer);
        put_explained(&out, answer, "env", "variables", "the harmless ones only");
        put_explained_limit(&out, answer, "tasks");
        put_explained_limit(&out, answer, "files");
        put_explained_limit(&out, answer, "memory");
        put_explained_limit(&out, answer, "cpu");
        if (put_settings(&out, map_get(answer, "settings")) < 0)
                return report_error(options, "memory", "out of memory");
        return report_output(options, &out, EXIT_OK);
}

int command_plugins(const struct options *options) {
        static const char *const header[] = {"PLUGIN", "STATUS", "MODE", "ON ERROR", "PRIORITY", "VERSION", "HOOKS"};
        static const char *const keys[] = {"name", "status", "mode", "on_error", "priority", "version", "hooks"};
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, false);
        CLEANUP_TABLE struct text_table table = {.columns = ELEMENTS(header)};
        struct mp answer, plugin;
        uint32_t n;

        if (!client || !daemon_ask(client, options, "plugins", (struct mp){0}, &answer))
                return EXIT_ERROR;
        if (options->json)
                return report_json(options, answer, EXIT_OK);
        text_table_add_header(&table, header);
        for (struct mp_cur cur = array_begin(map_get(answer, "plugins"), &n); n > 0 && mp_read_any(&cur, &plugin); n--)
                for (size_t i = 0; i < ELEMENTS(keys); i++) {
                        struct mp value = map_get(plugin, keys[i]);

                        text_table_add_mp(&table, i == 1 ? status_colour(value) : TEXT_PLAIN, value);
                }
        return report_table(options, &table, EXIT_OK);
}

int command_hooks(const struct options *options) {
        static const char *const header[] = {"HOOK", "PLUGINS"};
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, false);
        CLEANUP_TABLE struct text_table table = {.columns = ELEMENTS(header)};
        struct mp answer, key, value;
        struct mp_cur cur;
        uint32_t n = 0;

        if (!client || !daemon_ask(client, options, "hooks", (struct mp){0}, &answer))
                return EXIT_ERROR;
        if (options->json)
                return report_json(options, answer, EXIT_OK);
        text_table_add_header(&table, header);
        cur = mp_cur(map_get(answer, "hooks"));
        (void)mp_read_map(&cur, &n);
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--) {
                text_table_add_mp(&table, TEXT_PLAIN, key);
                text_table_add_mp(&table, TEXT_PLAIN, value);
        }
        return report_table(options, &table, EXIT_OK);
}

int command_ping(const struct options *options) {
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, false);
        CLEANUP_BUF struct buf out = {0};
        usec_t start = clock_now_usec(), took;
        struct mp answer;

        if (!client || !daemon_ask(client, options, "ping", (struct mp){0}, &answer))
                return EXIT_ERROR;
        took = clock_now_usec() - start;
        if (options->json)
                buf_printf(&out, "{\"usec\": %" PRIu64 "}", took);
        else
                buf_printf(&out, "cpexd answers, in %.2f ms", (double)took / 1000);
        return report_output(options, &out, EXIT_OK);
}

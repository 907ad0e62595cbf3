/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The commands that change something, over the control socket: reload, upgrade and venv. A reload or an upgrade that was refused and a
 * venv that could not be built are answers, not accidents: status 1.
 */

#include <inttypes.h>
#include <time.h>

#include "report.h"
#include "text.h"

static const char *const changes[] = {"added", "removed", "restarted", "kept"};

/* `code`: of an error that is an answer. */
static int refused(const struct options *options, struct mp error, const char *code) {
        report_daemon_error(options, error);
        return mp_eq_str(map_get(error, "code"), code) ? EXIT_REFUSED : EXIT_ERROR;
}

int command_reload(const struct options *options) {
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, true);
        CLEANUP_TABLE struct text_table table = {.columns = 2};
        CLEANUP_BUF struct buf out = {0};
        struct cpexd_reply reply;
        struct mp answer;

        if (!client || !daemon_call(client, options, "reload", (struct mp){0}, &reply))
                return EXIT_ERROR;
        answer = (struct mp){reply.data, reply.len};
        if (reply.failed)
                return refused(options, answer, "config");
        if (options->json)
                return report_json(options, answer, EXIT_OK);
        buf_printf(&out, "generation %" PRIu64 "\n", map_uint(answer, "generation"));
        for (size_t i = 0; i < ELEMENTS(changes); i++) {
                text_table_add(&table, TEXT_PLAIN, "%s", changes[i]);
                text_table_add_mp(&table, TEXT_PLAIN, map_get(map_get(answer, "changed"), changes[i]));
        }
        if (text_table_put(&table, &out, 2) < 0)
                return report_error(options, "memory", "out of memory");
        if (map_get(answer, "warnings").len > 1) {
                buf_append_str(&out, "warnings\n");
                report_put_texts(&out, map_get(answer, "warnings"));
        }
        return report_output(options, &out, EXIT_OK);
}

static void put_count(struct buf *out, struct mp answer, const char *key, const char *thing, const char *end) {
        uint64_t n = map_uint(answer, key);

        buf_printf(out, "%" PRIu64 " %s%s%s", n, thing, plural(n), end);
}

int command_upgrade(const struct options *options) {
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, true);
        CLEANUP_BUF struct buf out = {0};
        struct cpexd_reply reply;
        struct mp answer, from, to;

        if (!client || !daemon_call(client, options, "upgrade", (struct mp){0}, &reply))
                return EXIT_ERROR;
        answer = (struct mp){reply.data, reply.len};
        if (reply.failed)
                return refused(options, answer, "upgrade");
        if (options->json)
                return report_json(options, answer, EXIT_OK);
        from = mp_map_text(answer, "from");
        to = mp_map_text(answer, "to");
        buf_printf(&out, "upgraded: cpexd %.*s → %.*s, ", (int)from.len, (const char *)from.data, (int)to.len,
                   (const char *)to.data);
        put_count(&out, answer, "workers", "worker", ", ");
        put_count(&out, answer, "hosts", "host", ", ");
        put_count(&out, answer, "calls", "call", " carried\n");
        return report_output(options, &out, EXIT_OK);
}

/* As much of it as tells venvs apart; --json has all. */
static void add_fingerprint(struct text_table *table, struct mp venv) {
        struct mp text = mp_map_text(venv, "fingerprint");

        text_table_add(table, TEXT_PLAIN, "%.*s", (int)MIN(text.len, (size_t)12), text.len > 0 ? (const char *)text.data : "");
}

/* Seconds since the epoch as local time; 0: unknown. */
static void add_time(struct text_table *table, uint64_t seconds) {
        time_t when = (time_t)seconds;
        char text[32] = "-";
        struct tm tm;

        if (seconds > 0 && localtime_r(&when, &tm))
                (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm);
        text_table_add(table, TEXT_PLAIN, "%s", text);
}

static int venv_list(const struct options *options, struct cpexd_client *client) {
        static const char *const header[] = {"FINGERPRINT", "PLUGINS", "CREATED", "PYTHON"};
        CLEANUP_TABLE struct text_table table = {.columns = ELEMENTS(header)};
        struct mp answer, venv;
        uint32_t n;

        if (!daemon_ask(client, options, "venv.list", (struct mp){0}, &answer))
                return EXIT_ERROR;
        if (options->json)
                return report_json(options, answer, EXIT_OK);
        text_table_add_header(&table, header);
        for (struct mp_cur cur = array_begin(map_get(answer, "venvs"), &n); n > 0 && mp_read_any(&cur, &venv); n--) {
                add_fingerprint(&table, venv);
                text_table_add_mp(&table, TEXT_PLAIN, map_get(venv, "plugins"));
                add_time(&table, map_uint(venv, "created"));
                text_table_add_mp(&table, TEXT_PLAIN, map_get(venv, "python"));
        }
        return report_table(options, &table, EXIT_OK);
}

/* The answer of a command that may be for one plugin only. */
static bool ask_venvs(const struct options *options, struct cpexd_client *client, const char *method, struct mp *ret) {
        CLEANUP_BUF struct buf params = {0};

        mp_put_map(&params, options->plugin ? 1 : 0);
        if (options->plugin) {
                mp_put_str(&params, "plugin");
                mp_put_str(&params, options->plugin);
        }
        if (buf_error(&params)) {
                (void)report_error(options, "memory", "out of memory");
                return false;
        }
        return daemon_ask(client, options, method, (struct mp){params.data, params.len}, ret);
}

static int venv_build(const struct options *options, struct cpexd_client *client) {
        CLEANUP_TABLE struct text_table table = {.columns = 3};
        int status = EXIT_OK;
        struct mp answer, venv;
        uint32_t n;

        if (!ask_venvs(options, client, "venv.build", &answer))
                return EXIT_ERROR;
        for (struct mp_cur cur = array_begin(map_get(answer, "venvs"), &n); n > 0 && mp_read_any(&cur, &venv); n--) {
                struct mp error = map_get(venv, "error");

                if (error.len > 0)
                        status = EXIT_REFUSED;
                text_table_add_mp(&table, TEXT_PLAIN, map_get(venv, "plugin"));
                add_fingerprint(&table, venv);
                if (error.len > 0)
                        text_table_add_mp(&table, TEXT_RED, error);
                else
                        text_table_add(&table, TEXT_GREEN, "%s", map_bool(venv, "built", false) ? "built" : "was there");
        }
        if (options->json)
                return report_json(options, answer, status);
        return report_table(options, &table, status);
}

/* A line for each venv that is as it was built, and one for each difference. */
static int venv_verify(const struct options *options, struct cpexd_client *client) {
        CLEANUP_TABLE struct text_table table = {.columns = 3};
        int status = EXIT_OK;
        struct mp answer, venv;
        uint32_t n;

        if (!ask_venvs(options, client, "venv.verify", &answer))
                return EXIT_ERROR;
        for (struct mp_cur cur = array_begin(map_get(answer, "venvs"), &n); n > 0 && mp_read_any(&cur, &venv); n--) {
                struct mp error = map_get(venv, "error"), difference;
                uint32_t left;
                struct mp_cur differences = array_begin(map_get(venv, "differences"), &left);
                bool good = error.len == 0 && left == 0;

                if (!good)
                        status = EXIT_REFUSED;
                do {
                        text_table_add_mp(&table, TEXT_PLAIN, map_get(venv, "plugin"));
                        add_fingerprint(&table, venv);
                        if (good)
                                text_table_add(&table, TEXT_GREEN, "as it was built");
                        else
                                text_table_add_mp(&table, TEXT_RED,
                                                  left > 0 && mp_read_any(&differences, &difference) ? difference : error);
                } while (left > 0 && --left > 0);
        }
        if (options->json)
                return report_json(options, answer, status);
        return report_table(options, &table, status);
}

int command_venv(const struct options *options) {
        static const struct {
                const char *name;
                int (*run)(const struct options *options, struct cpexd_client *client);
        } commands[] = {{"list", venv_list}, {"build", venv_build}, {"verify", venv_verify}};
        CLEANUP_DAEMON struct cpexd_client *client = NULL;
        size_t i = 0;

        while (i < ELEMENTS(commands) && !str_eq(options->argument, commands[i].name))
                i++;
        if (i == ELEMENTS(commands))
                return report_error(options, "usage", "venv \"%s\" was given; it is list, build or verify", options->argument);
        client = daemon_connect(options, true);
        return client ? commands[i].run(options, client) : EXIT_ERROR;
}

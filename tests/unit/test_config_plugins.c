/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <stdio.h>
#include <sys/stat.h>

#include "config/load.h"
#include "config/paths.h"
#include "wire/mp.h"

/* A project in a temporary folder, and what a plugins.yaml in it means. */
struct fixture {
        char root[64];
        struct diags diags;
        struct daemon_config *daemon;
        struct plugins_config *config;
        int result;
};

static void fixture_done(struct fixture *fixture) {
        plugins_config_free(fixture->config);
        daemon_config_free(fixture->daemon);
        diags_done(&fixture->diags);
}

static char root[] = "/tmp/cpexd-test-XXXXXX";

static void make(const char *path, bool folder) {
        CLEANUP_FREE char *full = path_join(root, path);
        FILE *file;

        if (folder) {
                assert_int_equal(mkdir(full, 0700), 0);
                return;
        }
        file = fopen(full, "w");
        assert_non_null(file);
        (void)fclose(file);
}

static int set_up(void **state) {
        static const char *const folders[] = {"plugins",      "plugins/seed", "plugins/seed/seed",
                                              "plugins/flat", "plugins/both", "plugins/file"};
        static const char *const files[] = {"plugins/seed/requirements.txt", "plugins/seed/seed/plugin.py",
                                            "plugins/flat/plugin.py",        "plugins/both/plugin.py",
                                            "plugins/both/both.py",          "plugins/file/single.py"};

        (void)state;
        if (!mkdtemp(root))
                return -1;
        for (size_t i = 0; i < ELEMENTS(folders); i++)
                make(folders[i], true);
        for (size_t i = 0; i < ELEMENTS(files); i++)
                make(files[i], false);
        return 0;
}

static int tear_down(void **state) {
        char command[64];

        (void)state;
        (void)snprintf(command, sizeof(command), "rm -rf %s", root);
        return system(command);
}

/* `rendered`: what Jinja2 made of `text`, NULL where it is not needed. */
static struct fixture parse_rendered(const char *cpexd_yaml, const char *text, const char *rendered) {
        const struct config_text source = {text, strlen(text)};
        struct fixture fixture = {0};
        struct place beyond;
        CLEANUP_FREE char *path = path_join(root, "plugins.yaml");
        struct config_overrides overrides = {.plugins = path, .socket = "/run/a", .control = "/run/b"};

        setenv("HOME", "/home/test", 1);
        assert_int_equal(daemon_config_parse(&fixture.daemon, NULL, cpexd_yaml, strlen(cpexd_yaml), &overrides, &fixture.diags),
                         0);
        free(fixture.daemon->plugins_name);
        fixture.daemon->plugins_name = strdup("p.yaml");
        if (rendered)
                fixture.result =
                        plugins_config_parse_rendered(&fixture.config, fixture.daemon,
                                                      (struct config_text){rendered, strlen(rendered)}, source, &fixture.diags);
        else
                fixture.result = plugins_config_parse(&fixture.config, fixture.daemon, source, &beyond, &fixture.diags);
        return fixture;
}

static struct fixture parse_with(const char *cpexd_yaml, const char *text) {
        return parse_rendered(cpexd_yaml, text, NULL);
}

#define PARSE(name, text) CLEANUP(fixture_done) struct fixture name = parse_with("", text)
#define PARSE_RENDERED(name, text, rendered) CLEANUP(fixture_done) struct fixture name = parse_rendered("", text, rendered)

static void assert_diags(const struct fixture *fixture, const char *const *expected, size_t n) {
        for (size_t i = 0; i < MIN(n, fixture->diags.n); i++)
                assert_string_equal(fixture->diags.items[i].text, expected[i]);
        assert_int_equal(fixture->diags.n, n);
}

#define ASSERT_DIAGS(fixture, ...) \
        assert_diags(fixture, (const char *const[]){__VA_ARGS__}, ELEMENTS(((const char *const[]){__VA_ARGS__})))

#define SEED "config: {class_name: seed.plugin.Seed, script_path: plugins/seed, requirements_file: requirements.txt}"

static void assert_path(const char *path, const char *expected) {
        CLEANUP_FREE char *full = path_join(root, expected);

        assert_string_equal(path, full);
}

static void test_a_plain_entry(void **state) {
        const struct plugin_entry *plugin;
        struct mp value;
        PARSE(f, "plugins:\n  - name: a\n    kind: isolated_venv\n    hooks: [tool_pre_invoke]\n    " SEED "\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.n, 0);
        assert_int_equal(f.config->n_plugins, 1);
        plugin = &f.config->plugins[0];
        assert_string_equal(plugin->name, "a");
        assert_int_equal(plugin->mode, PLUGIN_SEQUENTIAL);
        assert_int_equal(plugin->on_error, ON_ERROR_FAIL);
        assert_int_equal(plugin->priority, 100);
        assert_string_equal(plugin->class_name, "seed.plugin.Seed");
        assert_path(plugin->script_path, "plugins/seed");
        assert_path(plugin->requirements_file, "plugins/seed/requirements.txt");
        assert_string_equal(plugin->isolation.python, "python3");
        assert_int_equal(plugin->isolation.timeout_usec, 30 * USEC_PER_SEC);
        assert_int_equal(plugin->config_keys.n, 3);
        assert_string_equal(plugin->config_keys.items[2], "requirements_file");
        assert_int_equal(plugin->line, 2);
        assert_int_equal(plugin->column, 5);
        assert_true(mp_map_get((struct mp){plugin->entry.data, plugin->entry.len}, "hooks", &value));
        assert_string_equal(f.config->project_root, root);
        assert_int_equal(f.config->execution_pool, 10);
}

static void test_nothing_to_serve(void **state) {
        static const char *const texts[] = {"", "# nothing\n", "{}", "plugins:\n", "plugins: []\nplugin_dirs: []\n"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                PARSE(f, texts[i]);

                assert_int_equal(f.result, 0);
                assert_int_equal(f.config->n_plugins, 0);
        }
}

static void assert_priority(const char *text, int64_t expected) {
        char yaml[512];

        (void)snprintf(yaml, sizeof(yaml), "plugins: [{name: a, kind: isolated_venv, priority: %s, " SEED "}]", text);
        PARSE(f, yaml);
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->plugins[0].priority, expected);
}

static void test_priorities_that_pydantic_takes(void **state) {
        (void)state;
        assert_priority("7", 7);
        assert_priority("\"7\"", 7);
        assert_priority("\" -7 \"", -7);
        assert_priority("\"1_000\"", 1000);
        assert_priority("\"7.0\"", 7);
        assert_priority("9.0", 9);
        assert_priority("010", 8);
        assert_priority("true", 1);
        assert_priority("-9223372036854775808", INT64_MIN);
}

static void test_every_mistake_in_one_run(void **state) {
        PARSE(f, "plugins:\n"
                 "  - name: 5\n"
                 "    kind: isolated_venv\n"
                 "    mode: transfrom\n"
                 "    hoks: [a]\n"
                 "    priority: 1.5\n"
                 "    hooks: tool\n"
                 "    conditions: [{tools: [x, 3]}, 7]\n"
                 "    capabilities: [read_header]\n"
                 "    isolation: {workers: {min: 5, max: 2}, timeout: 5 minutes, memory: 1M}\n"
                 "    config: {class_name: a..b}\n"
                 "  - {name: pii, kind: external, on_error: retry}\n"
                 "  - {name: off, kind: my.plugin.Class, mode: disabled}\n"
                 "plugin_dirs: plugins\n"
                 "plugin_settings: {plugin_timeout: 0}\n");

        (void)state;
        assert_int_equal(f.result, -EINVAL);
        assert_null(f.config);
        ASSERT_DIAGS(
                &f, "p.yaml:2:11: plugins[0].name: expected a text (put it in quotes), found 5",
                "p.yaml:4:11: plugins[0].mode: unknown value \"transfrom\"; did you mean \"transform\"? allowed: sequential, "
                "transform, "
                "audit, concurrent, fire_and_forget, disabled",
                "p.yaml:5:5: plugins[0]: unknown key \"hoks\"; did you mean \"hooks\"?",
                "p.yaml:6:15: plugins[0].priority: expected a whole number, found 1.5",
                "p.yaml:7:12: plugins[0].hooks: expected a list of texts, found \"tool\"",
                "p.yaml:8:30: plugins[0].conditions[0].tools[1]: expected a text (put it in quotes), found 3",
                "p.yaml:8:35: plugins[0].conditions[1]: expected a map, found 7",
                "p.yaml:9:20: plugins[0].capabilities[0]: unknown value \"read_header\"; did you mean \"read_headers\"? allowed: "
                "append_delegation, append_labels, read_agent, read_claims, read_delegation, read_headers, read_labels, "
                "read_permissions, read_roles, read_subject, read_teams, write_headers",
                "p.yaml:10:32: plugins[0].isolation.workers: min (5) is more than max (2)",
                "p.yaml:10:53: plugins[0].isolation.timeout: expected a time such as 30 (seconds), 0.5, 500ms, 5s or 2m, found "
                "\"5 "
                "minutes\"",
                "p.yaml:10:72: plugins[0].isolation.memory: expected 16M to 1048576G, found \"1M\"",
                "p.yaml:11:26: plugins[0].config.class_name: \"a..b\" is not of the form package.module.Class",
                "p.yaml:12:23: plugins[1] \"pii\": how the server of an external plugin is reached is missing: mcp, grpc, "
                "unix_socket "
                "or isolation.socket",
                "p.yaml:12:43: plugins[1] \"pii\": on_error: unknown value \"retry\"; allowed: fail, ignore, disable",
                "p.yaml:13:12: plugins[2].name: expected a text (put it in quotes), found off",
                "p.yaml:14:14: plugin_dirs: expected a list of texts, found \"plugins\"",
                "p.yaml:15:35: plugin_settings.plugin_timeout: expected 1ms to 24h, found 0");
}

static void test_legacy_modes(void **state) {
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, mode: enforce, " SEED "}\n"
                 "  - {name: b, kind: isolated_venv, mode: permissive, " SEED "}\n"
                 "  - {name: c, kind: isolated_venv, mode: enforce_ignore_error, " SEED "}\n"
                 "  - {name: d, kind: isolated_venv, mode: enforce_ignore_error, on_error: disable, " SEED "}\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->plugins[0].mode, PLUGIN_SEQUENTIAL);
        assert_int_equal(f.config->plugins[0].on_error, ON_ERROR_FAIL);
        assert_int_equal(f.config->plugins[1].mode, PLUGIN_TRANSFORM);
        assert_int_equal(f.config->plugins[2].mode, PLUGIN_SEQUENTIAL);
        assert_int_equal(f.config->plugins[2].on_error, ON_ERROR_IGNORE);
        assert_int_equal(f.config->plugins[3].on_error, ON_ERROR_DISABLE);
}

static void test_conditions(void **state) {
        const struct plugin_condition *condition;
        PARSE(f, "plugins:\n  - name: a\n    kind: isolated_venv\n    conditions:\n"
                 "      - {tools: [x, y, x], user_patterns: [u, u], content_types: [' Text/HTML ; q=1'], prompts: null}\n"
                 "      - {}\n    " SEED "\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->plugins[0].n_conditions, 2);
        condition = &f.config->plugins[0].conditions[0];
        assert_int_equal(condition->tools.n, 2);
        assert_int_equal(condition->user_patterns.n, 2);
        assert_int_equal(condition->prompts.n, 0);
        assert_string_equal(condition->content_types.items[0], "text/html");
}

static void test_names_that_stand_twice(void **state) {
        static const char text[] = "plugins:\n"
                                   "  - {name: a, kind: isolated_venv, mode: disabled}\n"
                                   "  - {name: a, kind: isolated_venv, priority: 1, " SEED "}\n"
                                   "  - {name: a, kind: isolated_venv, priority: 2, " SEED "}\n";
        PARSE(f, text);
        CLEANUP(fixture_done)
        struct fixture strict = parse_with("plugin_settings: {fail_on_plugin_error: true}", text);

        (void)state;
        assert_int_equal(f.result, 0);
        ASSERT_DIAGS(&f, "p.yaml:4:5: plugins[2] \"a\": a plugin of this name stands in line 3 already; this one is left out");
        assert_int_equal(f.config->n_plugins, 2);
        assert_int_equal(f.config->plugins[0].mode, PLUGIN_DISABLED);
        assert_int_equal(f.config->plugins[1].priority, 1);
        assert_int_equal(strict.result, -EINVAL);
}

static void assert_layout(const char *config, const char *script_path) {
        char yaml[512];

        (void)snprintf(yaml, sizeof(yaml), "plugin_dirs: [plugins]\nplugins: [{name: a, kind: isolated_venv, config: %s}]",
                       config);
        PARSE(f, yaml);
        assert_int_equal(f.result, 0);
        assert_path(f.config->plugins[0].script_path, script_path);
}

static void test_layouts(void **state) {
        (void)state;
        /* the package inside the plugin's folder, the package being it, a plain module, and code that the requirements bring */
        assert_layout("{class_name: seed.plugin.A, script_path: plugins/seed/}", "plugins/seed");
        assert_layout("{class_name: flat.plugin.A, script_path: ./plugins/flat}", "plugins");
        assert_layout("{class_name: both.plugin.A, script_path: plugins/both}", "plugins");
        assert_layout("{class_name: single.A, script_path: plugins/file}", "plugins/file");
        assert_layout("{class_name: elsewhere.plugin.A, script_path: plugins/file}", "plugins/file");
        /* upstream's */
        assert_layout("{class_name: flat.plugin.A}", "plugins");
        assert_layout("{class_name: seed.plugin.A, script_path: cpex/framework/isolated/worker.py}", "plugins/seed");
}

static void test_layouts_that_are_none(void **state) {
        PARSE(f,
              "plugins:\n"
              "  - {name: a, kind: isolated_venv, config: {class_name: a.B}}\n"
              "  - {name: b, kind: isolated_venv, config: {class_name: a.B, script_path: plugins/../../x}}\n"
              "  - {name: c, kind: isolated_venv, config: {class_name: 1.B, script_path: plugins}}\n"
              "  - {name: d, kind: isolated_venv}\n"
              "  - {name: e, kind: isolated_venv, config: {class_name: a.B, script_path: plugins, requirements_file: no.txt}}\n");
        char message[256];

        (void)state;
        (void)snprintf(message, sizeof(message),
                       "p.yaml:6:103: plugins[4] \"e\": config.requirements_file: there is no file %s/plugins/no.txt; the plugin "
                       "gets no "
                       "requirements",
                       root);
        ASSERT_DIAGS(
                &f,
                "p.yaml:2:44: plugins[0] \"a\": config: script_path is missing; give the plugin's folder, or the folder of all "
                "plugins as plugin_dirs",
                "p.yaml:3:75: plugins[1] \"b\": config.script_path: \"plugins/../../x\" leaves the project root; plugins lie "
                "inside it",
                "p.yaml:4:57: plugins[2] \"c\": config.class_name: \"1.B\" is not of the form package.module.Class",
                "p.yaml:5:5: plugins[3] \"d\": config.class_name is missing; give the plugin's class as package.module.Class",
                message);
}

static void test_isolation_of_an_entry(void **state) {
        CLEANUP(fixture_done)
        struct fixture f = parse_with(
                "isolation: {workers: {min: 2, max: 3}, memory: 1G, queue: 5}",
                "plugins:\n"
                "  - {name: a, kind: isolated_venv, isolation: {workers: {max: 1}, memory: null, timeout: 500ms}, " SEED "}\n"
                "  - {name: b, kind: isolated_venv, isolation: {workers: {min: 9}, python: venv/bin/python}, " SEED "}\n");
        const struct isolation *a, *b;
        struct mp ignored;

        (void)state;
        assert_int_equal(f.result, 0);
        a = &f.config->plugins[0].isolation;
        b = &f.config->plugins[1].isolation;
        assert_int_equal(a->workers_min, 1);
        assert_int_equal(a->workers_max, 1);
        assert_int_equal(a->memory_bytes, 0);
        assert_int_equal(a->timeout_usec, 500 * USEC_PER_MSEC);
        assert_int_equal(b->workers_min, 9);
        assert_int_equal(b->workers_max, 9);
        assert_int_equal(b->memory_bytes, 1 << 30);
        assert_int_equal(b->queue, 5);
        assert_path(b->python, "venv/bin/python");
        assert_false(
                mp_map_get((struct mp){f.config->plugins[0].entry.data, f.config->plugins[0].entry.len}, "isolation", &ignored));
}

static void test_native_plugins(void **state) {
        CLEANUP(fixture_done)
        struct fixture f =
                parse_with("isolation: {requirements: /nonexistent/shared.txt}",
                           "plugin_dirs: [plugins, /tmp, plugins/none, ./plugins/, plugins/flat]\n"
                           "plugins:\n"
                           "  - {name: a, kind: plugins.seed.seed.plugin.A, isolation: {requirements: null}}\n"
                           "  - {name: b, kind: elsewhere.B, isolation: {requirements: plugins/seed/requirements.txt}}\n"
                           "  - {name: c, kind: single.C, mode: disabled}\n");
        const struct plugin_entry *a, *b;

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.n, 0);
        a = &f.config->plugins[0];
        b = &f.config->plugins[1];
        assert_string_equal(a->kind, "plugins.seed.seed.plugin.A");
        assert_string_equal(a->class_name, a->kind);
        assert_string_equal(a->script_path, root);
        assert_int_equal(a->more_paths.n, 2);
        assert_path(a->more_paths.items[0], "plugins");
        assert_path(a->more_paths.items[1], "plugins/flat");
        assert_path(a->code, "plugins");
        assert_null(b->code);
        assert_null(a->requirements_file);
        assert_path(b->requirements_file, "plugins/seed/requirements.txt");
}

static void test_native_plugins_that_are_none(void **state) {
        CLEANUP(fixture_done)
        struct fixture f = parse_with("isolation: {requirements: /nonexistent/shared.txt}",
                                      "plugins:\n"
                                      "  - {name: a, kind: isolated_env}\n"
                                      "  - {name: b, kind: isolated.1env}\n"
                                      "  - {name: c, kind: seed.plugin.A, isolation: {requirements: no.txt}}\n"
                                      "  - {name: d, kind: plugins.seed.A}\n"
                                      "  - {name: e, kind: seed.plugin.A, isolation: {requirements: null}}\n"
                                      "  - {name: f, kind: cpex.framework.Plugin, isolation: {requirements: null}}\n");
        char no_module[256];

        (void)state;
        (void)snprintf(no_module, sizeof(no_module),
                       "p.yaml:6:21: plugins[4] \"e\": kind: there is no module seed in %s, nor in plugin_dirs below it; set "
                       "project_root in cpexd.yaml, or let isolation.requirements bring it",
                       root);
        assert_int_equal(f.result, -EINVAL);
        ASSERT_DIAGS(
                &f,
                "p.yaml:2:21: plugins[0] \"a\": kind: \"isolated_env\" is neither isolated_venv nor external, nor a class of the "
                "form package.module.Class",
                "p.yaml:3:21: plugins[1] \"b\": kind: \"isolated.1env\" is neither isolated_venv nor external, nor a class of "
                "the "
                "form package.module.Class",
                "p.yaml:4:62: plugins[2] \"c\": isolation.requirements: there is no file no.txt",
                "p.yaml:5:21: plugins[3] \"d\": there is no file where isolation.requirements in cpexd.yaml says", no_module);
}

static void test_values_of_variables_are_not_told_of_any_kind(void **state) {
        setenv("CPEXD_TEST_SECRET", "s3cret", 1);
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: \"{{ env.CPEXD_TEST_SECRET }}\"}\n"
                 "  - {name: b, kind: \"x{{ env.CPEXD_TEST_SECRET }}.B\"}\n"
                 "  - {name: c, kind: seed.A, isolation: {requirements: \"{{ env.CPEXD_TEST_SECRET }}\"}}\n"
                 "  - {name: d, kind: external, mcp: {proto: STDIO, script: \"{{ env.CPEXD_TEST_SECRET }}/x\", cwd: plugins}}\n"
                 "  - {name: e, kind: external, mcp: {proto: STDIO, script: x, cwd: \"/{{ env.CPEXD_TEST_SECRET }}\"}}\n"
                 "  - {name: f, kind: external, grpc: {uds: \"{{ env.CPEXD_TEST_SECRET }}/x/y\"}}\n"
                 "  - {name: g, kind: external, grpc: {target: \"{{ env.CPEXD_TEST_SECRET }}\", tls: {certfile: \"{{ "
                 "env.CPEXD_TEST_SECRET }}\"}}}\n"
                 "  - {name: h, kind: external, hooks: [h], unix_socket: {path: \"{{ env.CPEXD_TEST_SECRET }}\"}}\n"
                 "  - {name: i, kind: external, grpc: {target: 'a:1'}, isolation: {requirements: \"{{ env.CPEXD_TEST_SECRET "
                 "}}\"}}\n");

        (void)state;
        assert_int_equal(f.diags.n, 11);
        for (size_t i = 0; i < f.diags.n; i++)
                assert_null(strstr(f.diags.items[i].text, "s3cret"));
        unsetenv("CPEXD_TEST_SECRET");
}

static void test_servers_of_upstream(void **state) {
        CLEANUP(fixture_done)
        struct fixture f = parse_with(
                "isolation: {requirements: /nonexistent/shared.txt}",
                "plugins:\n"
                "  - {name: a, kind: external, mcp: {proto: STREAMABLEHTTP, url: 'HTTP://a/mcp', tls: {}}, config: {}}\n"
                "  - {name: b, kind: external, mcp: {proto: STDIO, script: seed/plugin.py, cwd: plugins/seed, env: {A: ''}}}\n"
                "  - {name: c, kind: external, mcp: {proto: STDIO, cmd: [python, -m, x]}, grpc: null}\n"
                "  - {name: d, kind: external, grpc: {uds: plugins/s}}\n"
                "  - {name: e, kind: external, grpc: {target: 'a:1'}, isolation: {requirements: plugins/seed/requirements.txt}}\n"
                "  - {name: f, kind: external, unix_socket: {path: /nonexistent/s}, hooks: [tool_pre_invoke]}\n"
                "  - {name: g, kind: external, mode: disabled, mcp: {proto: STREAMABLEHTTP, uds: ~/s, url: 'http://x/'}}\n");
        static const char *const classes[] = {"mcp", "mcp", "mcp", "grpc", "grpc", "unix"};

        (void)state;
        assert_int_equal(f.diags.n, 0);
        assert_int_equal(f.result, 0);
        for (size_t i = 0; i < ELEMENTS(classes); i++) {
                const struct plugin_entry *plugin = &f.config->plugins[i];
                char class_name[64];

                (void)snprintf(class_name, sizeof(class_name), "cpexd_worker.external.%s.Client", classes[i]);
                assert_string_equal(plugin->class_name, class_name);
                assert_null(plugin->script_path);
                assert_true(strlist_has(&plugin->isolation.env, "PLUGINS_CLIENT_MTLS_*"));
                if (i == 4)
                        assert_path(plugin->requirements_file, "plugins/seed/requirements.txt");
                else
                        assert_string_equal(plugin->requirements_file, "external.txt");
        }
        assert_null(f.config->plugins[6].class_name);
}

/* Of an entry of kind external with these further keys, the complaints, each without its place but for the column. */
static void assert_complaints(const char *keys, const char *expected) {
        CLEANUP_BUF struct buf found = {0};
        CLEANUP_FREE char *yaml = NULL, *text = NULL;
        static const char entry[] = "plugins: [{name: a, kind: external, hooks: [h], ";

        assert_true(asprintf(&yaml, "%s%s}]", entry, keys) > 0);
        PARSE(f, yaml);
        for (size_t i = 0; i < f.diags.n; i++) {
                const char *message = strstr(f.diags.items[i].text, "plugins[0] \"a\": ");
                unsigned column = f.diags.items[i].column;

                assert_non_null(message);
                buf_printf(&found, "%s%.*s: %s", i > 0 ? "\n" : "", (int)strcspn(yaml + column - 1, ":,}"), yaml + column - 1,
                           message + strlen("plugins[0] \"a\": "));
        }
        text = buf_take_str(&found);
        assert_string_equal(text, expected);
}

static void test_servers_that_cannot_be_reached(void **state) {
        (void)state;
        assert_complaints("grpc: {target: 'a:1'}, mcp: {proto: STDIO, cmd: [x]}",
                          "{target: the server is reached in 2 ways; give one of mcp, grpc and unix_socket");
        assert_complaints("grpc: {target: 'a:1'}, config: {a: 1}",
                          "{a: config: an external plugin is configured where its server is; here this has no effect");
        assert_complaints(
                "mcp: {proto: stdio}",
                "stdio: mcp.proto: unknown value \"stdio\"; did you mean \"STDIO\"? allowed: STREAMABLEHTTP, STDIO, SSE");
        assert_complaints("mcp: {proto: STDIO}", "{proto: mcp: proto STDIO needs the server's command: script or cmd");
        assert_complaints(
                "mcp: {proto: STDIO, script: plugins/seed/seed/plugin.py, cmd: [x], url: 'http://a', uds: plugins/s, tls: {}}",
                "plugins/seed/seed/plugin.py: mcp.script: give either script or cmd\n"
                "'http: mcp.url: this belongs to proto STREAMABLEHTTP\n"
                "plugins/s: mcp.uds: this belongs to proto STREAMABLEHTTP\n"
                "{: mcp.tls: there is no TLS on a Unix socket (uds)\n"
                "{: mcp.tls: this belongs to proto STREAMABLEHTTP");
        assert_complaints("mcp: {proto: STREAMABLEHTTP, cmd: [' '], env: {}, cwd: none}",
                          "{proto: mcp: the url of the server is missing\n"
                          "[' ']: mcp.cmd: there is an empty text in it\n"
                          "[' ']: mcp.cmd: this belongs to proto STDIO\n"
                          "{: mcp.env: expected variables, found an empty map\n"
                          "{: mcp.env: this belongs to proto STDIO\n"
                          "none: mcp.cwd: there is no folder none\n"
                          "none: mcp.cwd: this belongs to proto STDIO");
        assert_complaints("mcp: {proto: STREAMABLEHTTP, url: 'ftp://a', uds: ' '}",
                          "'ftp: mcp.url: a URL begins with http:// or https://\n"
                          "' ': mcp.uds: expected the path of a socket, found \" \"");
        assert_complaints("mcp: {proto: SSE, url: 'http://a'}",
                          "SSE: mcp.proto: CPEX has no client for SSE, the plugin cannot start; use STREAMABLEHTTP");
        assert_complaints("mcp: {proto: STDIO, script: /none.py}", "/none.py: mcp.script: there is no file /none.py");
        assert_complaints("mcp: {proto: STDIO, script: /etc/passwd}",
                          "/etc/passwd: mcp.script: /etc/passwd cannot be executed; only .py and .sh need not be");
        assert_complaints("mcp: {proto: STDIO, cmd: []}",
                          "[]: mcp.cmd: expected a command and its arguments, found an empty list");
        assert_complaints("mcp: {proto: STDIO, cmd: [x], env: {'': a}}",
                          "{'': mcp.env: there is a variable without a name in it");
        assert_complaints("grpc: {}", "{: grpc: where the server is, is missing: target or uds");
        assert_complaints("grpc: {target: '', uds: plugins/s}",
                          "'': grpc.target: expected host:port, found \"\"\n'': grpc.target: give either target or uds");
        assert_complaints("grpc: {target: 'a:1', tls: {keyfile: none.pem}}",
                          "none.pem: grpc.tls.keyfile: there is no file none.pem\n"
                          "none.pem: grpc.tls.keyfile: a key needs the certificate it belongs to; give certfile too");
        assert_complaints("grpc: {target: 'a:1'}, isolation: {requirements: /none.txt}",
                          "/none.txt: isolation.requirements: there is no file /none.txt");
        assert_complaints("unix_socket: {path: s}", "s: unix_socket.path: expected an absolute path, found \"s\"");
        PARSE(no_hooks, "plugins: [{name: a, kind: external, unix_socket: {path: /s}}]");
        assert_int_equal(no_hooks.result, 0);
        ASSERT_DIAGS(&no_hooks, "p.yaml:1:27: plugins[0] \"a\": the plugin has no hooks; over a unix_socket CPEX does not ask "
                                "the server for them");
}

static void test_a_server_that_speaks_our_protocol(void **state) {
        PARSE(f, "plugins:\n  - {name: a, kind: external, hooks: [h], isolation: {socket: run/a.sock, timeout: 2}}\n"
                 "  - {name: b, kind: external, isolation: {socket: /run/b.sock}}\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.n, 0);
        assert_path(f.config->plugins[0].isolation.socket, "run/a.sock");
        assert_int_equal(f.config->plugins[0].isolation.timeout_usec, 2 * USEC_PER_SEC);
        assert_null(f.config->plugins[0].class_name);
        assert_string_equal(f.config->plugins[1].isolation.socket, "/run/b.sock");
}

static void test_a_socket_is_the_only_way_to_a_server(void **state) {
        char longest[64 + 128] = "", text[512], message[512];
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: external, isolation: {socket: /a}, grpc: {target: 'a:1'}, mcp: null}\n"
                 "  - {name: b, kind: isolated_venv, isolation: {socket: /b}, " SEED "}\n");

        (void)state;
        ASSERT_DIAGS(
                &f, "p.yaml:2:51: plugins[0] \"a\": isolation.socket: the server is reached by grpc already; give one of them",
                "p.yaml:3:56: plugins[1] \"b\": isolation.socket: only a plugin of kind external has a server of its own; this "
                "one is of kind isolated_venv");

        memset(longest, 'x', 107);
        longest[0] = '/';
        (void)snprintf(text, sizeof(text), "plugins: [{name: a, kind: external, isolation: {socket: %s}}]", longest);
        PARSE(fits, text);
        assert_int_equal(fits.result, 0);
        longest[107] = 'x';
        (void)snprintf(text, sizeof(text), "plugins: [{name: a, kind: external, isolation: {socket: %s}}]", longest);
        PARSE(too_long, text);
        (void)snprintf(message, sizeof(message),
                       "p.yaml:1:57: plugins[0] \"a\": isolation.socket: the path of a socket has at most 107 bytes, %s has 108",
                       longest);
        ASSERT_DIAGS(&too_long, message);
}

#define SETTINGS \
        "plugin_settings: {plugin_timeout: 5, default_hook_policy: deny, hook_policies: {a: [x], b: {writable_fields: [y]}}}\n"
#define ONE "plugins: [{name: a, kind: isolated_venv, " SEED "}]\n"

static void test_settings_by_weight(void **state) {
        CLEANUP(fixture_done)
        struct fixture ours = parse_with(
                "plugin_settings: {plugin_timeout: 7, default_hook_policy: allow, hook_policies: {a: [z]}}", SETTINGS ONE);
        CLEANUP(fixture_done)
        struct fixture direct = parse_with("isolation: {timeout: 9}", SETTINGS ONE);

        (void)state;
        assert_int_equal(ours.config->plugins[0].isolation.timeout_usec, 7 * USEC_PER_SEC);
        assert_false(ours.config->default_deny);
        assert_int_equal(ours.config->n_policies, 2);
        assert_string_equal(ours.config->policies[0].writable_fields.items[0], "z");
        assert_string_equal(ours.config->policies[1].writable_fields.items[0], "y");
        assert_int_equal(direct.config->plugins[0].isolation.timeout_usec, 9 * USEC_PER_SEC);
        setenv("PLUGINS_PLUGIN_TIMEOUT", "3", 1);
        setenv("PLUGINS_FAIL_ON_PLUGIN_ERROR", "true", 1);
        PARSE(file, SETTINGS ONE);
        PARSE(environment, ONE);
        setenv("PLUGINS_PLUGIN_TIMEOUT", "soon", 1);
        PARSE(bad, ONE);
        unsetenv("PLUGINS_PLUGIN_TIMEOUT");
        unsetenv("PLUGINS_FAIL_ON_PLUGIN_ERROR");
        assert_int_equal(file.config->plugins[0].isolation.timeout_usec, 5 * USEC_PER_SEC);
        assert_true(file.config->default_deny);
        assert_true(file.config->fail_on_plugin_error);
        assert_int_equal(environment.config->plugins[0].isolation.timeout_usec, 3 * USEC_PER_SEC);
        ASSERT_DIAGS(&bad, "environment: PLUGINS_PLUGIN_TIMEOUT: expected a time such as 30 (seconds), 0.5, 500ms, 5s or 2m, "
                           "found \"soon\"");
}

static void test_blocks_for_others(void **state) {
        PARSE(f, "server_settings: {port: '8000', tls: null}\n"
                 "plugins:\n"
                 "  - name: a\n"
                 "    kind: isolated_venv\n"
                 "    capabilities: read_headers\n"
                 "    applied_to: {tools: [{tool_name: t, result: 'yes'}], prompts: null}\n"
                 "    mcp: {proto: STDIO, cmd: [python, x.py], env: {A: b}}\n"
                 "    unix_socket: {path: /x, timeout: 1}\n"
                 "    " SEED "\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->plugins[0].capabilities.n, 0);
        ASSERT_DIAGS(&f, "p.yaml:5:19: plugins[0] \"a\": capabilities: CPEX ignores capabilities that are no list, so the plugin "
                         "has none; write "
                         "them in brackets: [read_headers]");
}

/* ---- Values that must not be told ---- */

/* Every place that quotes what the file says. */
static const char secrets[] =
        "plugins:\n"
        "  - name: {{ env.TOKEN }}\n"
        "    kind: {{ env.TOKEN }}\n"
        "    mode: {{ env.TOKEN }}\n"
        "    on_error: {{ env['TOKEN'] | safe }}\n"
        "    priority: {{ env.TOKEN }}\n"
        "    hooks: {{ env.TOKEN }}\n"
        "    conditions: [{tools: {{ env.TOKEN }}, {{ env.TOKEN }}: x}]\n"
        "    capabilities: [{{ env.TOKEN }}]\n"
        "    {{ env.TOKEN }}: 1\n"
        "    {{ env.TOKEN }}: 2\n"
        "    isolation: {socket: 'x{{ env.TOKEN }}', timeout: {{ env.TOKEN }}, memory: {{ env.TOKEN }}, {{ env.TOKEN }}: 1}\n"
        "    mcp: {proto: x, env: {{'{'}}{{ env.TOKEN }}: 1}}\n"
        "    applied_to: !{{ env.TOKEN }} {tools: &{{ env.TOKEN }} x}\n"
        "  - {name: b, kind: isolated_venv, config: {class_name: '{{ env.TOKEN }}'}}\n"
        "  - {name: c, kind: isolated_venv, config: {class_name: a.B, script_path: ../{{ env.TOKEN }}}}\n"
        "  - {name: d, kind: isolated_venv, config: {class_name: a.B, script_path: plugins/{{ env.TOKEN }}}}\n"
        "  - {name: e, kind: isolated_venv, config: {class_name: x{{ env.TOKEN }}.B}}\n"
        "  - name: f\n"
        "    kind: isolated_venv\n"
        "    config: {class_name: a.B, script_path: plugins, requirements_file: '{{ env.TOKEN }}'}\n"
        "  - {name: '{{ env.TOKEN }}', kind: isolated_venv, " SEED "}\n"
        "  - {name: '{{ env.TOKEN }}', kind: isolated_venv, " SEED "}\n"
        "plugin_dirs: ['{{ env.TOKEN }}']\n"
        "plugin_settings: {hook_policies: {{'{'}}{{ env.TOKEN }}: 1}, default_hook_policy: {{ env.TOKEN }}}\n"
        "server_settings: {port: {{ env.TOKEN }}, tls: {verify: {{ env.TOKEN }}}}\n"
        "unix_socket_server_settings: *{{ env.TOKEN }}\n";

static void assert_untold(const struct fixture *fixture, const char *token, size_t at_least) {
        assert_int_equal(fixture->result, -EINVAL);
        assert_true(fixture->diags.n >= at_least);
        for (size_t i = 0; i < fixture->diags.n; i++)
                if (strstr(fixture->diags.items[i].text, token) || strstr(fixture->diags.items[i].text, "did you mean"))
                        fail_msg("tells a value: %s", fixture->diags.items[i].text);
}

static void test_values_of_variables_are_not_told(void **state) {
        static const char *const tokens[] = {"transfrom", "tool_pre_invok", "70775", "0x70775", "hunter2 # x", "off\r"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(tokens); i++) {
                setenv("TOKEN", tokens[i], 1);
                PARSE(f, secrets);
                assert_untold(&f, i == 4 ? "hunter2" : tokens[i], i < 4 ? 20 : 1);
        }
        setenv("TOKEN", "transfrom", 1);
        PARSE(f, "plugins:\n  - {name: a, kind: isolated_venv, mode: '{{ env.TOKEN }}', on_error: retry, " SEED "}");
        ASSERT_DIAGS(&f,
                     "p.yaml:2:42: plugins[0] \"a\": mode: unknown value that may come from the environment and is not shown; "
                     "allowed: sequential, transform, audit, concurrent, fire_and_forget, disabled",
                     "p.yaml:2:71: plugins[0] \"a\": on_error: unknown value \"retry\"; allowed: fail, ignore, disable");
        PARSE(g, "plugins:\n  - {name: a, kind: isolated_venv, priority: 1{{ env.TOKEN }}, mode: {{ env.X | default('y') }}}");
        assert_string_equal(g.diags.items[1].text,
                            "p.yaml:2:46: plugins[0] \"a\": priority: expected a whole number, found a value "
                            "that may come from the environment and is not shown");
        assert_non_null(strstr(g.diags.items[2].text, "unknown value \"y\"; allowed: "));
}

/* A value that ends in half a line end must not shift what is told. */
static void test_places_after_values_with_line_ends(void **state) {
        (void)state;
        setenv("TOKEN", "hunter2\r", 1);
        setenv("END", "x\r", 1);
        PARSE(f, "plugins:\n  - name: {{ env.END }}\n    mode: {{ env.TOKEN }}\n    on_error: {{ env.TOKEN }}\n    kind: what\n");
        assert_int_equal(f.diags.n, 3);
        for (size_t i = 0; i < f.diags.n; i++)
                assert_null(strstr(f.diags.items[i].text, "hunter2"));
        assert_non_null(strstr(f.diags.items[2].text, "p.yaml:5:11: "));
        assert_non_null(strstr(f.diags.items[2].text, "what"));
}

static void test_what_jinja_rendered_is_told_only_if_the_file_says_it(void **state) {
        PARSE_RENDERED(f, "{% set x = env.TOKEN %}\nplugins: [{name: ann, mode: {{ x }}, on_error: retry, kind: what}]",
                       "\nplugins: [{name: ann, mode: retr, on_error: retry, kind: what, hunter2: hunter2}]");

        (void)state;
        ASSERT_DIAGS(
                &f,
                "p.yaml: line 2 of the rendered file: plugins[0] \"ann\": mode: unknown value that may come from the "
                "environment and is not shown; allowed: sequential, transform, audit, concurrent, fire_and_forget, disabled",
                "p.yaml: line 2 of the rendered file: plugins[0] \"ann\": on_error: unknown value \"retry\"; allowed: fail, "
                "ignore, disable",
                "p.yaml: line 2 of the rendered file: plugins[0] \"ann\": kind: \"what\" is neither isolated_venv nor "
                "external, nor a class of the form package.module.Class",
                "p.yaml: line 2 of the rendered file: plugins[0] \"ann\": unknown key that may come from the environment and "
                "is not shown; it is ignored");
        PARSE_RENDERED(g, "{{ env.TOKEN }}", "plugins: [{name: hunter2, hunter2: &hunter2 x}]\n*hunter2: 1");
        assert_untold(&g, "hunter2", 1);
}

static void test_paths_of_cpexd_yaml_are_not_told(void **state) {
        setenv("TOKEN", "/hunter2", 1);
        CLEANUP(fixture_done)
        struct fixture f = parse_with("project_root: {{ env.TOKEN }}",
                                      "plugins: [{name: a, kind: isolated_venv, config: {class_name: a.B, script_path: x}}]");

        (void)state;
        ASSERT_DIAGS(&f, "p.yaml:1:81: plugins[0] \"a\": config.script_path: there is no folder of that name");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_plain_entry),
                cmocka_unit_test(test_nothing_to_serve),
                cmocka_unit_test(test_priorities_that_pydantic_takes),
                cmocka_unit_test(test_every_mistake_in_one_run),
                cmocka_unit_test(test_legacy_modes),
                cmocka_unit_test(test_conditions),
                cmocka_unit_test(test_names_that_stand_twice),
                cmocka_unit_test(test_layouts),
                cmocka_unit_test(test_layouts_that_are_none),
                cmocka_unit_test(test_isolation_of_an_entry),
                cmocka_unit_test(test_native_plugins),
                cmocka_unit_test(test_native_plugins_that_are_none),
                cmocka_unit_test(test_values_of_variables_are_not_told_of_any_kind),
                cmocka_unit_test(test_servers_of_upstream),
                cmocka_unit_test(test_servers_that_cannot_be_reached),
                cmocka_unit_test(test_a_server_that_speaks_our_protocol),
                cmocka_unit_test(test_a_socket_is_the_only_way_to_a_server),
                cmocka_unit_test(test_settings_by_weight),
                cmocka_unit_test(test_blocks_for_others),
                cmocka_unit_test(test_values_of_variables_are_not_told),
                cmocka_unit_test(test_places_after_values_with_line_ends),
                cmocka_unit_test(test_what_jinja_rendered_is_told_only_if_the_file_says_it),
                cmocka_unit_test(test_paths_of_cpexd_yaml_are_not_told),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: Apache-2.0 */

#include "plugins_yaml.h"

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
                "p.yaml:7:12: plugins[0].hooks: expected a list of texts such as [tool], found \"tool\"",
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
                "p.yaml:14:14: plugin_dirs: expected a list of texts such as [plugins], found \"plugins\"",
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

/* The file in `buf` is right with that many plugins, and wrong with one more. */
static void check_bound(struct buf *buf, size_t n_plugins, const char *one_more, const char *complaint) {
        CLEANUP_FREE char *text = buf_take_str(buf), *longer = NULL;
        PARSE(f, text);

        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->n_plugins, n_plugins);
        buf_append_str(buf, text);
        buf_append_str(buf, one_more);
        longer = buf_take_str(buf);
        PARSE(g, longer);
        assert_int_equal(g.result, -EINVAL);
        ASSERT_DIAGS(&g, complaint);
}

/* 20 plugins with as many hooks as one may have, and one with one more. */
static void test_isolation_in_config(void **state) {
        PARSE(f, "plugins:\n"
                 "- {name: a, kind: x.Y, mode: disabled, config: {isolation: {workers: {min: 2}}}}\n"
                 "- {name: b, kind: x.Y, mode: disabled, config: {isolation: {its: own}}, isolation: {files: 100}}\n");

        (void)state;
        assert_int_equal(f.result, 0);
        ASSERT_DIAGS(&f, "p.yaml:2:49: plugins[0] \"a\": config.isolation: it stands in config, where only the plugin reads it; "
                         "for cpexd it belongs beside config");
}

static void test_pythons_that_are_none(void **state) {
        PARSE(f, "plugins:\n"
                 "- {name: a, kind: x.Y, mode: disabled, isolation: {python: python0.1}}\n"
                 "- {name: b, kind: x.Y, mode: disabled, isolation: {python: plugins/seed/requirements.txt}}\n"
                 "- {name: c, kind: x.Y, mode: disabled, isolation: {python: plugins/seed}}\n"
                 "- {name: d, kind: x.Y, mode: disabled, isolation: {python: /bin/sh}}\n"
                 "- {name: e, kind: x.Y, mode: disabled, isolation: {python: sh}}\n");

        (void)state;
        assert_int_equal(f.result, 0);
        ASSERT_DIAGS(
                &f,
                "p.yaml:2:60: plugins[0] \"a\": isolation.python: expected the name of a program in PATH, found \"python0.1\"",
                "p.yaml:3:60: plugins[1] \"b\": isolation.python: expected a program that is there and may be executed, found "
                "\"plugins/seed/requirements.txt\"",
                "p.yaml:4:60: plugins[2] \"c\": isolation.python: expected a program that is there and may be executed, found "
                "\"plugins/seed\"");
        for (size_t i = 0; i < f.diags.n; i++)
                assert_int_equal(f.diags.items[i].severity, DIAG_WARNING); /* who is disabled need not start */
}

static void test_keys_of_config_beside_it(void **state) {
        PARSE(f, "plugins:\n- name: a\n  kind: x.Y\n  mode: disabled\n  class_name: x.Y\n");

        (void)state;
        ASSERT_DIAGS(&f, "p.yaml:5:3: plugins[0] \"a\": \"class_name\" is ignored here; it belongs into config");
}

static void test_hooks_are_counted(void **state) {
        CLEANUP_BUF struct buf buf = {0};

        (void)state;
        buf_append_str(&buf, "plugins:\n");
        for (int i = 0; i < 20; i++) {
                buf_printf(&buf, "- {name: p%d, kind: x.Y, mode: disabled, hooks: [", i);
                for (int j = 0; j < 1000; j++)
                        buf_printf(&buf, "h%d,", j);
                buf_append_str(&buf, "]}\n");
        }
        check_bound(&buf, 20, "- {name: x, kind: x.Y, mode: disabled, hooks: [h]}\n",
                    "p.yaml:22:3: plugins: the plugins down to this one listen to more than 20000 hooks, all taken together");
}

static void test_plugins_are_counted(void **state) {
        CLEANUP_BUF struct buf buf = {0};

        (void)state;
        buf_append_str(&buf, "plugins:\n");
        for (int i = 0; i < 5000; i++)
                buf_printf(&buf, "- {name: p%d, kind: external, isolation: {socket: /x}}\n", i);
        buf_append_str(&buf, "- {name: a, kind: x.Y, mode: disabled}\n");
        check_bound(&buf, 5001, "- {name: b, kind: external, isolation: {socket: /x}}\n",
                    "p.yaml:5003:3: plugins: more than 5000 plugins that are not disabled");
}

static void test_names_that_stand_twice(void **state) {
        static const char text[] = "plugins:\n"
                                   "  - {name: a, kind: isolated_venv, mode: disabled, hooks: [h]}\n"
                                   "  - {name: a, kind: isolated_venv, priority: 1, " SEED ", hooks: [h]}\n"
                                   "  - {name: a, kind: isolated_venv, priority: 2, " SEED ", hooks: [h]}\n";
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

#define SETTINGS \
        "plugin_settings: {plugin_timeout: 5, default_hook_policy: deny, hook_policies: {a: [x], b: {writable_fields: [y]}}}\n"
#define ONE "plugins: [{name: a, kind: isolated_venv, " SEED ", hooks: [h]}]\n"

/* An external plugin may get them from its server, and one that says [] means it. */
static void test_plugins_that_are_never_called(void **state) {
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, " SEED "}\n"
                 "  - {name: b, kind: isolated_venv, hoks: [h], " SEED "}\n"
                 "  - {name: c, kind: isolated_venv, hooks: [], " SEED "}\n"
                 "  - {name: d, kind: isolated_venv, mode: disabled, " SEED "}\n"
                 "  - {name: e, kind: external, isolation: {socket: /e}}\n");

        (void)state;
        assert_int_equal(f.result, 0);
        ASSERT_DIAGS(&f, "p.yaml:2:5: plugins[0] \"a\": the key \"hooks\" is missing, so the plugin is never called",
                     "p.yaml:3:36: plugins[1] \"b\": unknown key \"hoks\"; did you mean \"hooks\"?");
}

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
                 "    hooks: [h]\n"
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
        PARSE(f, "plugins:\n  - {name: a, kind: isolated_venv, mode: '{{ env.TOKEN }}', on_error: retry, " SEED ", hooks: [h]}");
        ASSERT_DIAGS(&f,
                     "p.yaml:2:42: plugins[0] \"a\": mode: unknown value that may come from the environment and is not shown; "
                     "allowed: sequential, transform, audit, concurrent, fire_and_forget, disabled",
                     "p.yaml:2:71: plugins[0] \"a\": on_error: unknown value \"retry\"; allowed: fail, ignore, disable");
        PARSE(g, "plugins:\n  - {name: a, kind: isolated_venv, priority: 1{{ env.TOKEN }}, mode: {{ env.X | default('y') }}, "
                 "hooks: [h]}");
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
        PARSE(f, "plugins:\n  - name: {{ env.END }}\n    mode: {{ env.TOKEN }}\n    on_error: {{ env.TOKEN }}\n    kind: what\n  "
                 "  hooks: []\n");
        assert_int_equal(f.diags.n, 3);
        for (size_t i = 0; i < f.diags.n; i++)
                assert_null(strstr(f.diags.items[i].text, "hunter2"));
        assert_non_null(strstr(f.diags.items[2].text, "p.yaml:5:11: "));
        assert_non_null(strstr(f.diags.items[2].text, "what"));
}

static void test_what_jinja_rendered_is_told_only_if_the_file_says_it(void **state) {
        PARSE_RENDERED(f,
                       "{% set x = env.TOKEN %}\nplugins: [{name: ann, mode: {{ x }}, on_error: retry, kind: what, hooks: [h]}]",
                       "\nplugins: [{name: ann, mode: retr, on_error: retry, kind: what, hunter2: hunter2, hooks: [h]}]");

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
        struct fixture f =
                parse_with("project_root: {{ env.TOKEN }}",
                           "plugins: [{name: a, kind: isolated_venv, config: {class_name: a.B, script_path: x}, hooks: [h]}]");

        (void)state;
        ASSERT_DIAGS(&f, "p.yaml:1:81: plugins[0] \"a\": config.script_path: there is no folder of that name");
}

static void test_members_of_a_group_agree(void **state) {
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, isolation: {group: g, timeout: 1, queue: 5}, " SEED ", hooks: [h]}\n"
                 "  - {name: b, kind: isolated_venv, isolation: {group: g, timeout: 2, queue_timeout: 1}, " SEED ", hooks: [h]}\n"
                 "  - {name: c, kind: isolated_venv, mode: disabled, isolation: {group: g, cpu: 7}, " SEED ", hooks: [h]}\n"
                 "  - {name: d, kind: isolated_venv, isolation: {group: h, cpu: 7}, " SEED ", hooks: [h]}\n");

        (void)state;
        assert_int_equal(f.diags.n, 0);
        assert_string_equal(f.config->plugins[1].isolation.group, "g");
}

#define ONE_WORKER "; plugins of a group have their workers in common, so it must be the same"

static void test_members_of_a_group_differ(void **state) {
        setenv("TOKEN", "64M", 1);
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, isolation: {group: g, sandbox: {network: all}}, " SEED ", hooks: [h]}\n"
                 "  - {name: b, kind: isolated_venv, isolation: {group: g, sandbox: {network: unix}, env: [X]}, " SEED
                 ", hooks: [h]}\n"
                 "  - {name: c, kind: isolated_venv, isolation: {group: g}, " SEED ", hooks: [h]}\n"
                 "  - {name: d, kind: isolated_venv, isolation: {group: h, memory: '{{ env.TOKEN }}'}, " SEED ", hooks: [h]}\n"
                 "  - {name: e, kind: isolated_venv, isolation: {group: h, memory: 32M}, config: {class_name: seed.plugin.Seed, "
                 "script_path: plugins/seed}, hooks: [h]}\n"
                 "  - {name: f, kind: cpex.a.B, isolation: {group: i}, hooks: [h]}\n"
                 "  - {name: g, kind: isolated_venv, isolation: {group: ''}, " SEED ", hooks: [h]}\n");

        (void)state;
        assert_int_equal(f.result, -EINVAL);
        ASSERT_DIAGS(
                &f,
                "p.yaml:3:77: plugins[1] \"b\": isolation.sandbox.network is [unix] here and [all] for the plugin in line 2, the "
                "first of its group" ONE_WORKER,
                "p.yaml:3:89: plugins[1] \"b\": isolation.env is [X] here and [] for the plugin in line 2, the first of its "
                "group" ONE_WORKER,
                "p.yaml:4:55: plugins[2] \"c\": isolation.sandbox.network is none here and [all] for the plugin in line 2, the "
                "first of its group" ONE_WORKER,
                "p.yaml:6:55: plugins[4] \"e\": isolation.group: the requirements are others than those of the plugin in line 5, "
                "the first of the group; plugins of a group have one venv, so requirements_file must name the same file or one "
                "with the same content",
                "p.yaml:6:66: plugins[4] \"e\": isolation.memory is another than that of the plugin in line 5, the first of its "
                "group" ONE_WORKER,
                "p.yaml:7:50: plugins[5] \"f\": isolation.group: only plugins of kind isolated_venv can have their workers in "
                "common",
                "p.yaml:8:55: plugins[6] \"g\": isolation.group: expected a name, found \"\"");
}

/* min and max are one mistake, and it stands where the entry can be mended. */
static void test_workers_of_a_group_differ(void **state) {
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, hooks: [h], isolation: {group: g, workers: {min: 6}}, " SEED "}\n"
                 "  - {name: b, kind: isolated_venv, hooks: [h], isolation: {group: g}, " SEED "}\n"
                 "  - {name: c, kind: isolated_venv, hooks: [h], isolation: {group: g, workers: {min: 2, max: 6}}, " SEED "}\n"
                 "  - {name: d, kind: isolated_venv, hooks: [h], isolation: {group: g, workers: {idle: 1, max: 3}}, " SEED "}\n");

        (void)state;
        ASSERT_DIAGS(
                &f,
                "p.yaml:3:67: plugins[1] \"b\": isolation.workers is {min: 1, max: 4} here and {min: 6, max: 6} for the plugin "
                "in line 2, the first of its group" ONE_WORKER,
                "p.yaml:4:85: plugins[2] \"c\": isolation.workers.min is 2 here and 6 for the plugin in line 2, the first of "
                "its group" ONE_WORKER,
                "p.yaml:5:94: plugins[3] \"d\": isolation.workers is {min: 1, max: 3, idle: 1s} here and {min: 6, max: 6, "
                "idle: 10s} for the plugin in line 2, the first of its group" ONE_WORKER);
}

static void test_a_group_is_not_forked(void **state) {
        static const char text[] =
                "plugins:\n"
                "  - {name: a, kind: isolated_venv, hooks: [h], isolation: {group: g, zygote: true}, " SEED "}\n"
                "  - {name: b, kind: isolated_venv, hooks: [h], isolation: {group: h, zygote: true}, " SEED "}\n"
                "  - {name: c, kind: isolated_venv, hooks: [h], isolation: {group: h, zygote: true}, " SEED "}\n"
                "  - {name: d, kind: isolated_venv, hooks: [h], isolation: {group: h, zygote: true}, " SEED "}\n";
        PARSE(f, text);
        CLEANUP(fixture_done)
        struct fixture by_default = parse_with(
                "isolation: {zygote: true}", "plugins:\n"
                                             "  - {name: a, kind: isolated_venv, hooks: [h], isolation: {group: g}, " SEED "}\n"
                                             "  - {name: b, kind: isolated_venv, hooks: [h], isolation: {group: g}, " SEED "}\n");

        (void)state;
        assert_int_equal(f.result, 0);
        ASSERT_DIAGS(&f, "p.yaml:4:78: plugins[2] \"c\": isolation.zygote has no effect on a group of several plugins: their "
                         "workers are started, not forked");
        assert_int_equal(by_default.diags.n, 0);
}

static void test_members_of_a_group_are_counted(void **state) {
        CLEANUP_BUF struct buf text = {0};
        CLEANUP_FREE char *yaml = NULL;

        (void)state;
        buf_append_str(&text, "plugins:\n");
        for (int i = 0; i < 66; i++)
                buf_printf(&text, "  - {name: p%d, kind: isolated_venv, isolation: {group: g}, " SEED ", hooks: [h]}\n", i);
        yaml = buf_take_str(&text);
        PARSE(f, yaml);
        ASSERT_DIAGS(&f, "p.yaml:66:57: plugins[64] \"p64\": isolation.group: more than 64 plugins in one group");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_plain_entry),
                cmocka_unit_test(test_keys_of_config_beside_it),
                cmocka_unit_test(test_pythons_that_are_none),
                cmocka_unit_test(test_isolation_in_config),
                cmocka_unit_test(test_nothing_to_serve),
                cmocka_unit_test(test_priorities_that_pydantic_takes),
                cmocka_unit_test(test_every_mistake_in_one_run),
                cmocka_unit_test(test_legacy_modes),
                cmocka_unit_test(test_conditions),
                cmocka_unit_test(test_names_that_stand_twice),
                cmocka_unit_test(test_hooks_are_counted),
                cmocka_unit_test(test_plugins_are_counted),
                cmocka_unit_test(test_plugins_that_are_never_called),
                cmocka_unit_test(test_settings_by_weight),
                cmocka_unit_test(test_blocks_for_others),
                cmocka_unit_test(test_values_of_variables_are_not_told),
                cmocka_unit_test(test_places_after_values_with_line_ends),
                cmocka_unit_test(test_what_jinja_rendered_is_told_only_if_the_file_says_it),
                cmocka_unit_test(test_paths_of_cpexd_yaml_are_not_told),
                cmocka_unit_test(test_members_of_a_group_agree),
                cmocka_unit_test(test_members_of_a_group_differ),
                cmocka_unit_test(test_workers_of_a_group_differ),
                cmocka_unit_test(test_a_group_is_not_forked),
                cmocka_unit_test(test_members_of_a_group_are_counted),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}

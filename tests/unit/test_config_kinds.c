/* SPDX-License-Identifier: Apache-2.0 */

/* Where a plugin of each kind lies, and how it is reached. */

#include "plugins_yaml.h"

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
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, config: {class_name: a.B}, hooks: [h]}\n"
                 "  - {name: b, kind: isolated_venv, config: {class_name: a.B, script_path: plugins/../../x}, hooks: [h]}\n"
                 "  - {name: c, kind: isolated_venv, config: {class_name: 1.B, script_path: plugins}, hooks: [h]}\n"
                 "  - {name: d, kind: isolated_venv, hooks: [h]}\n"
                 "  - {name: e, kind: isolated_venv, config: {class_name: a.B, script_path: plugins, requirements_file: no.txt}, "
                 "hooks: [h]}\n");
        char message[256], no_module[256];

        (void)state;
        (void)snprintf(no_module, sizeof(no_module),
                       "p.yaml:6:57: plugins[4] \"e\": config.class_name: there is no module a in %s/plugins", root);
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
                no_module, message);
}

/* What is looked for by a name that lacks a variable is not said to be missing as well. */
static void test_followers_of_a_variable_that_is_not_set(void **state) {
        static const char unset[] = "{{ env.CPEXD_TEST_UNSET }}: this variable is not set, so nothing is put in; "
                                    "default('…') would say what to put in instead";
        char first[256], second[256], third[256];

        (void)state;
        unsetenv("CPEXD_TEST_UNSET");
        PARSE(f, "plugins:\n"
                 "  - {name: a, kind: isolated_venv, hooks: [h], config: {class_name: none.x.A, requirements_file: none.txt, "
                 "script_path: 'plugins/{{ env.CPEXD_TEST_UNSET }}'}}\n"
                 "  - {name: b, kind: isolated_venv, hooks: [h], config: {class_name: none.x.A, requirements_file: none.txt, "
                 "script_path: {{ env.CPEXD_TEST_UNSET }}plugins}}\n"
                 "  - {name: c, kind: isolated_venv, hooks: [h], config: {class_name: none.x.A, requirements_file: none.txt, "
                 "script_path: plugins/seed}}\n"
                 "  - {name: d, kind: isolated_venv, hooks: [h], config: {class_name: seed.plugin.A, script_path: plugins/seed, "
                 "requirements_file: none{{ env.CPEXD_TEST_UNSET }}}}\n"
                 "  - {name: e, kind: 'none{{ env.CPEXD_TEST_UNSET }}.x.A', hooks: [h]}\n");
        assert_int_equal(f.result, 0);
        (void)snprintf(first, sizeof(first), "p.yaml:2:130: %s", unset);
        (void)snprintf(second, sizeof(second),
                       "p.yaml:4:69: plugins[2] \"c\": config.class_name: there is no module none.x in "
                       "%s/plugins/seed",
                       root);
        (void)snprintf(third, sizeof(third),
                       "p.yaml:4:98: plugins[2] \"c\": config.requirements_file: there is no file "
                       "%s/plugins/seed/none.txt; the plugin gets no requirements",
                       root);
        ASSERT_DIAGS(&f, first, second, third);
        PARSE(g, "plugins: [{name: a, kind: isolated_venv, hooks: [h], config: {script_path: '{{ env.CPEXD_TEST_UNSET }}', "
                 "class_name: a.B}}]\n");
        (void)snprintf(first, sizeof(first), "p.yaml:1:77: %s", unset);
        ASSERT_DIAGS(&g, first, "p.yaml:1:76: plugins[0] \"a\": config.script_path: expected a path, found \"\"");
}

/* What is nowhere may come with the requirements, but not a part of a package that is here. */
static void test_modules_that_are_not_there(void **state) {
        PARSE(f,
              "plugins:\n"
              "  - {name: a, kind: isolated_venv, config: {class_name: seed.plugn.A, script_path: plugins/seed, "
              "requirements_file: "
              "requirements.txt}, hooks: [h]}\n"
              "  - {name: b, kind: isolated_venv, config: {class_name: sed.plugin.A, script_path: plugins/seed, "
              "requirements_file: "
              "requirements.txt}, hooks: [h]}\n"
              "  - {name: c, kind: isolated_venv, config: {class_name: sed.plugin.A, script_path: plugins/seed}, hooks: [h]}\n"
              "  - {name: d, kind: isolated_venv, config: {class_name: seed.plugin.A, script_path: plugins/seed}, hooks: [h]}\n");
        char part[256], nowhere[256];

        (void)state;
        (void)snprintf(part, sizeof(part),
                       "p.yaml:2:57: plugins[0] \"a\": config.class_name: there is no module seed.plugn in %s/plugins/seed",
                       root);
        (void)snprintf(nowhere, sizeof(nowhere),
                       "p.yaml:4:57: plugins[2] \"c\": config.class_name: there is no module sed.plugin in %s/plugins/seed",
                       root);
        assert_int_equal(f.result, 0);
        ASSERT_DIAGS(&f, part, nowhere);
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
        struct fixture f = parse_with(
                "isolation: {requirements: /nonexistent/shared.txt}",
                "plugin_dirs: [plugins, /tmp, plugins/none, ./plugins/, plugins/flat]\n"
                "plugins:\n"
                "  - {name: a, kind: plugins.seed.seed.plugin.A, isolation: {requirements: null}, hooks: [h]}\n"
                "  - {name: b, kind: elsewhere.B, isolation: {requirements: plugins/seed/requirements.txt}, hooks: [h]}\n"
                "  - {name: c, kind: single.C, mode: disabled, hooks: [h]}\n");
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
        struct fixture f =
                parse_with("isolation: {requirements: /nonexistent/shared.txt}",
                           "plugins:\n"
                           "  - {name: a, kind: isolated_env, hooks: [h]}\n"
                           "  - {name: b, kind: isolated.1env, hooks: [h]}\n"
                           "  - {name: c, kind: seed.plugin.A, isolation: {requirements: no.txt}, hooks: [h]}\n"
                           "  - {name: d, kind: plugins.seed.A, hooks: [h]}\n"
                           "  - {name: e, kind: seed.plugin.A, isolation: {requirements: null}, hooks: [h]}\n"
                           "  - {name: f, kind: cpex.framework.Plugin, isolation: {requirements: null}, hooks: [h]}\n");
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
                "form package.module.Class; did you mean \"isolated_venv\"?",
                "p.yaml:3:21: plugins[1] \"b\": kind: \"isolated.1env\" is neither isolated_venv nor external, nor a class of "
                "the "
                "form package.module.Class; did you mean \"isolated_venv\"?",
                "p.yaml:4:62: plugins[2] \"c\": isolation.requirements: there is no file no.txt",
                "p.yaml:5:21: plugins[3] \"d\": there is no file where isolation.requirements in cpexd.yaml says", no_module);
}

static void test_values_of_variables_are_not_told_of_any_kind(void **state) {
        setenv("CPEXD_TEST_SECRET", "s3cret", 1);
        PARSE(f,
              "plugins:\n"
              "  - {name: a, kind: \"{{ env.CPEXD_TEST_SECRET }}\", hooks: [h]}\n"
              "  - {name: b, kind: \"x{{ env.CPEXD_TEST_SECRET }}.B\", hooks: [h]}\n"
              "  - {name: c, kind: seed.A, isolation: {requirements: \"{{ env.CPEXD_TEST_SECRET }}\"}, hooks: [h]}\n"
              "  - {name: d, kind: external, mcp: {proto: STDIO, script: \"{{ env.CPEXD_TEST_SECRET }}/x\", cwd: plugins}, "
              "hooks: [h]}\n"
              "  - {name: e, kind: external, mcp: {proto: STDIO, script: x, cwd: \"/{{ env.CPEXD_TEST_SECRET }}\"}, hooks: [h]}\n"
              "  - {name: f, kind: external, grpc: {uds: \"{{ env.CPEXD_TEST_SECRET }}/x/y\"}, hooks: [h]}\n"
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
                 "  - {name: a, kind: external, isolation: {socket: /a}, grpc: {target: 'a:1'}, mcp: null, hooks: [h]}\n"
                 "  - {name: b, kind: isolated_venv, isolation: {socket: /b}, " SEED ", hooks: [h]}\n");

        (void)state;
        ASSERT_DIAGS(
                &f, "p.yaml:2:51: plugins[0] \"a\": isolation.socket: the server is reached by grpc already; give one of them",
                "p.yaml:3:56: plugins[1] \"b\": isolation.socket: only a plugin of kind external has a server of its own; this "
                "one is of kind isolated_venv");

        memset(longest, 'x', 107);
        longest[0] = '/';
        (void)snprintf(text, sizeof(text), "plugins: [{name: a, kind: external, isolation: {socket: %s}, hooks: [h]}]", longest);
        PARSE(fits, text);
        assert_int_equal(fits.result, 0);
        longest[107] = 'x';
        (void)snprintf(text, sizeof(text), "plugins: [{name: a, kind: external, isolation: {socket: %s}, hooks: [h]}]", longest);
        PARSE(too_long, text);
        (void)snprintf(message, sizeof(message),
                       "p.yaml:1:57: plugins[0] \"a\": isolation.socket: the path of a socket has at most 107 bytes, %s has 108",
                       longest);
        ASSERT_DIAGS(&too_long, message);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_layouts),
                cmocka_unit_test(test_layouts_that_are_none),
                cmocka_unit_test(test_followers_of_a_variable_that_is_not_set),
                cmocka_unit_test(test_modules_that_are_not_there),
                cmocka_unit_test(test_isolation_of_an_entry),
                cmocka_unit_test(test_native_plugins),
                cmocka_unit_test(test_native_plugins_that_are_none),
                cmocka_unit_test(test_values_of_variables_are_not_told_of_any_kind),
                cmocka_unit_test(test_servers_of_upstream),
                cmocka_unit_test(test_servers_that_cannot_be_reached),
                cmocka_unit_test(test_a_server_that_speaks_our_protocol),
                cmocka_unit_test(test_a_socket_is_the_only_way_to_a_server),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}

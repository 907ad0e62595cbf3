/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <stdio.h>

#include "config/load.h"
#include "config/schema.h"

struct fixture {
        struct diags diags;
        struct daemon_config *config;
        int result;
};

static void fixture_done(struct fixture *fixture) {
        daemon_config_free(fixture->config);
        diags_done(&fixture->diags);
}

static struct fixture parse_with(const char *text, const char *socket, const char *control) {
        struct config_overrides overrides = {.socket = socket, .control = control};
        struct fixture fixture = {0};

        fixture.result = daemon_config_parse(&fixture.config, "/etc/x/c.yaml", text, strlen(text), &overrides, &fixture.diags);
        return fixture;
}

#define PARSE(name, text) CLEANUP(fixture_done) struct fixture name = parse_with(text, NULL, NULL)

static int set_up(void **state) {
        (void)state;
        setenv("RUNTIME_DIRECTORY", "/run/test:/run/other", 1);
        setenv("CACHE_DIRECTORY", "/var/cache/test", 1);
        return 0;
}

static void test_defaults(void **state) {
        PARSE(f, "");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_string_equal(f.config->path, "/etc/x/c.yaml");
        assert_string_equal(f.config->plugins, "/etc/cpexd/plugins.yaml");
        assert_string_equal(f.config->plugins_name, "/etc/cpexd/plugins.yaml");
        assert_null(f.config->project_root);
        assert_string_equal(f.config->cache_dir, "/var/cache/test");
        assert_string_equal(f.config->socket.path, "/run/test/cpexd.sock");
        assert_string_equal(f.config->control.path, "/run/test/control.sock");
        assert_int_equal(f.config->socket.mode, 0660);
        assert_int_equal(f.config->control.mode, 0600);
        assert_int_equal(f.config->log_level, LOG_LEVEL_INFO);
        assert_string_equal(f.config->isolation.python, "python3");
        assert_int_equal(f.config->isolation.workers_min, 1);
        assert_int_equal(f.config->isolation.workers_max, 4);
        assert_int_equal(f.config->isolation.max_concurrent, 8);
        assert_int_equal(f.config->isolation.queue, 1024);
        assert_int_equal(f.config->isolation.timeout_usec, 30 * USEC_PER_SEC);
        assert_int_equal(f.config->isolation.startup_timeout_usec, 30 * USEC_PER_SEC);
        assert_int_equal(f.config->isolation.memory_bytes, 0);
        assert_int_equal(f.config->isolation.files, 1024);
        assert_int_equal(f.config->isolation.env.n, 0);
        assert_int_equal(f.config->isolation.sandbox.profile, SANDBOX_DEFAULT);
        assert_int_equal(f.config->isolation.sandbox.network.n + f.config->isolation.sandbox.read.n, 0);
        assert_int_equal(f.config->isolation.sandbox.write.n, 0);
        assert_int_equal(f.config->isolation.sandbox.require, 0);
        assert_int_equal(f.config->frame_bytes, 16 << 20);
        assert_int_equal(f.config->output_bytes, 32 << 20);
        assert_int_equal(f.config->connections, 1024);
        assert_int_equal(f.config->calls, 1024);
        assert_int_equal(f.config->strip_headers, 0);
        assert_int_equal(f.config->drain_usec, 10 * USEC_PER_SEC);
        assert_int_equal(f.config->settings.timeout_usec, 0);
        assert_int_equal(f.config->settings.fail_on_plugin_error, -1);
        assert_int_equal(f.config->settings.default_deny, -1);
}

static void test_ordinary_users_have_folders_of_their_own(void **state) {
        (void)state;
        if (geteuid() == 0)
                skip();
        unsetenv("RUNTIME_DIRECTORY");
        unsetenv("CACHE_DIRECTORY");
        unsetenv("XDG_CACHE_HOME");
        setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
        setenv("HOME", "/home/test", 1);
        PARSE(f, "");
        unsetenv("XDG_RUNTIME_DIR");
        PARSE(without, "");
        (void)set_up(state);
        assert_string_equal(f.config->socket.path, "/run/user/7/cpexd/cpexd.sock");
        assert_string_equal(f.config->cache_dir, "/home/test/.cache/cpexd");
        assert_int_equal(without.result, -EINVAL);
        assert_string_equal(
                without.diags.items[0].text,
                "/etc/x/c.yaml: socket.path: no default, for XDG_RUNTIME_DIR is not set; set it, or give socket.path");
}

static void test_paths(void **state) {
        PARSE(f, "plugins: p.yaml\nproject_root: ../y/./z\nsocket: {path: s/a.sock, mode: 0666}\ncontrol:\n  mode: '0640'\n");
        CLEANUP(fixture_done) struct fixture over = parse_with("socket: {path: /a}\ncontrol: {path: /b}", "/run/x/s", NULL);
        CLEANUP(fixture_done) struct fixture beside = parse_with("", "/run/x/s", NULL);
        CLEANUP(fixture_done) struct fixture both = parse_with("", "/run/x/s", "/run/x/s");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_string_equal(f.config->plugins, "/etc/x/p.yaml");
        assert_string_equal(f.config->plugins_name, "p.yaml");
        assert_string_equal(f.config->project_root, "/etc/x/../y/z");
        assert_string_equal(f.config->socket.path, "/etc/x/s/a.sock");
        assert_string_equal(f.config->control.path, "/etc/x/s/control.sock");
        assert_int_equal(f.config->socket.mode, 0666);
        assert_int_equal(f.config->control.mode, 0640);
        assert_string_equal(over.config->socket.path, "/run/x/s");
        assert_string_equal(over.config->control.path, "/b");
        assert_string_equal(beside.config->control.path, "/run/x/control.sock");
        assert_int_equal(both.result, -EINVAL);
}

static void test_sandbox(void **state) {
        PARSE(f,
              "isolation: {sandbox: {profile: off, network: [a.example:443, 8080, unix], read: [lists], write: [/w], tasks: 9}}");
        PARSE(one, "isolation: {sandbox: {profile: strict, network: '[::1]:65535', require: true}}");
        PARSE(none, "isolation: {sandbox: {profile: 'off', network: [none]}}");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->isolation.sandbox.profile, SANDBOX_OFF);
        assert_int_equal(f.config->isolation.sandbox.network.n, 3);
        assert_int_equal(sandbox_port(f.config->isolation.sandbox.network.items[0]), 443);
        assert_int_equal(sandbox_port(f.config->isolation.sandbox.network.items[1]), 8080);
        assert_int_equal(sandbox_port(f.config->isolation.sandbox.network.items[2]), 0);
        assert_string_equal(f.config->isolation.sandbox.read.items[0], "/etc/x/lists");
        assert_string_equal(f.config->isolation.sandbox.write.items[0], "/w");
        assert_int_equal(f.config->isolation.sandbox.tasks, 9);
        assert_int_equal(one.config->isolation.sandbox.profile, SANDBOX_STRICT);
        assert_int_equal(sandbox_port(one.config->isolation.sandbox.network.items[0]), 65535);
        assert_int_equal(one.config->isolation.sandbox.require, 1);
        assert_int_equal(none.config->isolation.sandbox.profile, SANDBOX_OFF);
        assert_int_equal(none.config->isolation.sandbox.network.n, 0);
}

static void test_a_sandbox_is_not_guessed(void **state) {
        static const char *const wrong[] = {"profile: no",       "profile: on",   "network: [none, all]",
                                            "network: host",     "network: h:0",  "network: h:65536",
                                            "network: h:1x",     "network: 'h:'", "network: {a: 1}",
                                            "network: [80, -1]", "network: null", "read: /x",
                                            "read: [1]",         "write: ['']",   "tasks: 0",
                                            "tasks: -1"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                char text[128];

                (void)snprintf(text, sizeof(text), "isolation: {sandbox: {%s}}", wrong[i]);
                PARSE(f, text);
                assert_int_equal(f.result, -EINVAL);
        }
}

static void test_socket_paths_fit(void **state) {
        char path[128];

        (void)state;
        memset(path, 'x', sizeof(path));
        path[0] = '/';
        path[107] = '\0';
        CLEANUP(fixture_done) struct fixture fits = parse_with("", path, "/run/b");
        path[107] = 'x';
        path[108] = '\0';
        CLEANUP(fixture_done) struct fixture long_one = parse_with("", path, "/run/b");
        assert_int_equal(fits.result, 0);
        assert_int_equal(long_one.result, -EINVAL);
        assert_non_null(strstr(long_one.diags.items[0].text, "is 108 bytes long, but the path of a Unix socket can have 107"));
}

static void assert_refused(const char *text, const char *message) {
        PARSE(f, text);

        assert_int_equal(f.result, -EINVAL);
        assert_int_equal(f.diags.n, 1);
        assert_string_equal(f.diags.items[0].text, message);
}

static void assert_taken(const char *text) {
        PARSE(f, text);

        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.n, 0);
}

static void test_ranges_are_exact(void **state) {
        (void)state;
        assert_taken("isolation: {workers: {min: 1, max: 1000}, max_concurrent: 10000, queue: 0}");
        assert_refused("isolation: {workers: {min: 0}}",
                       "/etc/x/c.yaml:1:28: isolation.workers.min: expected 1 to 1000, found 0");
        assert_refused("isolation: {workers: {max: 1001}}",
                       "/etc/x/c.yaml:1:28: isolation.workers.max: expected 1 to 1000, found 1001");
        assert_taken("limits: {frame_bytes: 1G, output_bytes: 4096}");
        assert_refused("limits: {frame_bytes: 1073741825}",
                       "/etc/x/c.yaml:1:23: limits.frame_bytes: expected 4K to 1G, found 1073741825");
        assert_refused("limits: {frame_bytes: 4095}", "/etc/x/c.yaml:1:23: limits.frame_bytes: expected 4K to 1G, found 4095");
        assert_taken("drain_timeout: 0");
        assert_taken("isolation: {timeout: 0.001}");
        assert_refused("isolation: {timeout: 0.0009}",
                       "/etc/x/c.yaml:1:22: isolation.timeout: expected 1ms to 24h, found 0.0009");
        assert_refused("isolation: {timeout: -1}",
                       "/etc/x/c.yaml:1:22: isolation.timeout: expected a time such as 30 (seconds), 0.5, 500ms, "
                       "5s or 2m, found -1");
        assert_refused("socket: {mode: 660}",
                       "/etc/x/c.yaml:1:16: socket.mode: expected an octal mode with a leading zero, such as 0660, "
                       "found 660");
        assert_refused("socket: {mode: 01000}",
                       "/etc/x/c.yaml:1:16: socket.mode: expected an octal mode from 0 to 0777, found 01000");
        assert_refused("log: {level: warn}",
                       "/etc/x/c.yaml:1:14: log.level: unknown value \"warn\"; allowed: error, warning, notice, info, "
                       "debug");
        assert_refused("isolation: {socket: /s}",
                       "/etc/x/c.yaml:1:13: isolation.socket: this belongs into the entry of one plugin, in plugins.yaml");
        assert_refused("- a", "/etc/x/c.yaml:1:1: expected a map, found a list");
        assert_refused("isolation: {workers: 4}",
                       "/etc/x/c.yaml:1:22: isolation.workers: expected a map of min, max, idle, found 4");
        assert_refused("limits: 5",
                       "/etc/x/c.yaml:1:9: limits: expected a map of frame_bytes, values, output_bytes, connections, "
                       "calls_per_connection, calls, bytes, connection_rate, found 5");
        assert_taken("limits:\nsocket:\n");
}

static void test_amounts(void **state) {
        PARSE(f, "isolation: {timeout: 1.5s, startup_timeout: 2m, memory: 1.5G}\ndrain_timeout: 250ms\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->isolation.timeout_usec, 1500 * USEC_PER_MSEC);
        assert_int_equal(f.config->settings.timeout_usec, 1500 * USEC_PER_MSEC);
        assert_int_equal(f.config->isolation.startup_timeout_usec, 120 * USEC_PER_SEC);
        assert_int_equal(f.config->isolation.memory_bytes, UINT64_C(3) << 29);
        assert_int_equal(f.config->drain_usec, 250 * USEC_PER_MSEC);
}

/* Unquoted, off is a boolean. */
static void test_off_is_a_word(void **state) {
        PARSE(off, "extension_tiers: off\n");
        PARSE(quoted, "extension_tiers: 'off'\n");
        PARSE(enforce, "extension_tiers: enforce\n");
        PARSE(wrong, "extension_tiers: no\n");

        (void)state;
        assert_int_equal(off.diags.n, 0);
        assert_int_equal(off.config->enforce_tiers, 0);
        assert_int_equal(quoted.config->enforce_tiers, 0);
        assert_int_equal(enforce.config->enforce_tiers, 1);
        assert_int_equal(wrong.result, -EINVAL);
}

static void test_access(void **state) {
        PARSE(f, "access:\n"
                 "  invoke: [any, root, 7, {user: daemon}, {group: tty, allow: [tool_*, prompt_pre_fetch]}]\n"
                 "  admin: [{group: 4294967294}]\n");
        PARSE(none, "");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.config->access.invoke.n, 5);
        assert_int_equal(f.config->access.invoke.items[0].kind, CALLER_ANY);
        assert_int_equal(f.config->access.invoke.items[1].kind, CALLER_USER);
        assert_int_equal(f.config->access.invoke.items[1].id, 0);
        assert_int_equal(f.config->access.invoke.items[2].id, 7);
        assert_int_equal(f.config->access.invoke.items[3].kind, CALLER_USER);
        assert_int_equal(f.config->access.invoke.items[3].hooks.n, 0);
        assert_int_equal(f.config->access.invoke.items[4].kind, CALLER_GROUP);
        assert_string_equal(f.config->access.invoke.items[4].hooks.items[1], "prompt_pre_fetch");
        assert_int_equal(f.config->access.admin.items[0].id, 4294967294);
        assert_int_equal(f.config->access.status.n, 0);
        assert_int_equal(none.config->access.invoke.n, 1);
        assert_int_equal(none.config->access.invoke.items[0].kind, CALLER_ANY);
        assert_int_equal(none.config->access.status.n + none.config->access.admin.n, 0);

        assert_refused("access: {invoke: [ann-who-is-not-there]}",
                       "/etc/x/c.yaml:1:19: access.invoke[0]: expected the name of a user in /etc/passwd, or a number, found "
                       "\"ann-who-is-not-there\"");
        assert_refused("access: {invoke: [{group: ann-who-is-not-there}]}",
                       "/etc/x/c.yaml:1:27: access.invoke[0]: expected the name of a group in /etc/group, or a number, found "
                       "\"ann-who-is-not-there\"");
        assert_refused("access: {admin: [4294967295]}",
                       "/etc/x/c.yaml:1:18: access.admin[0]: expected the name or the number of a user, found 4294967295");
        assert_refused("access: {admin: [{user: 1, allow: [x]}]}",
                       "/etc/x/c.yaml:1:18: access.admin[0]: expected a map of user or group, found a map");
        assert_refused("access: {invoke: [{user: 1, group: 2}]}",
                       "/etc/x/c.yaml:1:19: access.invoke[0]: expected a map of user or group, and perhaps allow, found a map");
        assert_refused("access: {invoke: [{user: 1, alow: [x]}]}",
                       "/etc/x/c.yaml:1:19: access.invoke[0]: expected a map of user or group, and perhaps allow, found a map");
        assert_refused(
                "access: {invoke: [{user: 1, allow: []}]}",
                "/etc/x/c.yaml:1:36: access.invoke[0]: expected a list of hooks; leave the caller out if it may call none, "
                "found a list");
        assert_refused("access: {invoke: any}",
                       "/etc/x/c.yaml:1:18: access.invoke: expected a list of at most 1000 users and groups, found \"any\"");
}

static void test_unknown_keys_are_warnings(void **state) {
        PARSE(f, "sokcet: {path: /x}\nisolation: {workers: {mim: 1}}\n7: x\n");

        (void)state;
        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.n, 3);
        assert_string_equal(f.diags.items[0].text, "/etc/x/c.yaml:1:1: unknown key \"sokcet\"; did you mean \"socket\"?");
        assert_string_equal(f.diags.items[1].text,
                            "/etc/x/c.yaml:2:23: isolation.workers: unknown key \"mim\"; did you mean \"min\"?");
        assert_string_equal(f.diags.items[2].text, "/etc/x/c.yaml:3:1: unknown key 7; it is ignored");
}

static void test_files_that_are_not_there(void **state) {
        struct config_overrides overrides = {.plugins = "/nonexistent/plugins.yaml"};
        const struct config_source no_daemon = {.path = "/nonexistent/cpexd.yaml"}, no_plugins = {.overrides = &overrides};
        struct daemon_config *daemon = NULL;
        struct plugins_config *plugins = NULL;
        struct diags diags = {0};

        (void)state;
        assert_int_equal(config_load(&daemon, &plugins, &no_daemon, &diags), -EINVAL);
        assert_int_equal(diags.n, 1);
        assert_string_equal(diags.items[0].text,
                            "/nonexistent/cpexd.yaml: cannot be read: No such file or directory; create it, or start "
                            "without -c for the defaults");
        assert_int_equal(config_load(&daemon, &plugins, &no_plugins, &diags), -EINVAL);
        assert_null(daemon);
        assert_null(plugins);
        assert_int_equal(diags.n, 1);
        assert_string_equal(diags.items[0].text,
                            "/nonexistent/plugins.yaml: cannot be read: No such file or directory; create it (an empty file is a "
                            "configuration without plugins), or name another with --plugins");
        diags_done(&diags);
}

/* ---- The sample ---- */

static char *read_sample(void) {
        FILE *file = fopen(SOURCE_ROOT "/conf/cpexd.yaml", "r");
        char *text = calloc(1, 64 << 10);

        assert_non_null(file);
        assert_non_null(text);
        (void)fread(text, 1, (64 << 10) - 1, file);
        (void)fclose(file);
        return text;
}

static void test_the_sample_is_the_table(void **state) {
        CLEANUP_FREE char *sample = read_sample(), *described = NULL;
        size_t len;
        FILE *file = open_memstream(&described, &len);

        (void)state;
        assert_non_null(file);
        config_describe(file);
        (void)fclose(file);
        assert_string_equal(sample, described);
}

/* With every # before a key removed, the sample says what is the case without it. */
static void test_the_sample_holds_the_defaults(void **state) {
        CLEANUP_FREE char *sample = read_sample();

        (void)state;
        for (char *line = sample; line; line = strchr(line + 1, '\n')) {
                char *start = *line == '\n' ? line + 1 : line;

                if (start[0] == '#' && !(start[1] == ' ' && start[2] != ' '))
                        memmove(start, start + 1, strlen(start));
        }
        PARSE(f, sample);
        PARSE(g, "");
        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.n, 0);
        assert_string_equal(f.config->socket.path, "/run/cpexd/cpexd.sock");
        assert_string_equal(f.config->cache_dir, "/var/cache/cpexd");
        assert_string_equal(f.config->plugins, g.config->plugins);
        assert_string_equal(f.config->isolation.python, g.config->isolation.python);
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *key = &config_keys[i];

                if (key->type != KEY_PATH && key->type != KEY_PROGRAM && key->type != KEY_HOOK_POLICIES &&
                    key->type != KEY_HOOK_CALLERS && strcmp(key->name, "plugin_settings.plugin_timeout") != 0)
                        assert_memory_equal((char *)f.config + key->offset, (char *)g.config + key->offset, key->size);
                assert_true(key->sentence[strlen(key->sentence) - 1] == '.');
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_ordinary_users_have_folders_of_their_own),
                cmocka_unit_test(test_paths),
                cmocka_unit_test(test_sandbox),
                cmocka_unit_test(test_a_sandbox_is_not_guessed),
                cmocka_unit_test(test_socket_paths_fit),
                cmocka_unit_test(test_ranges_are_exact),
                cmocka_unit_test(test_amounts),
                cmocka_unit_test(test_off_is_a_word),
                cmocka_unit_test(test_access),
                cmocka_unit_test(test_unknown_keys_are_warnings),
                cmocka_unit_test(test_files_that_are_not_there),
                cmocka_unit_test(test_the_sample_is_the_table),
                cmocka_unit_test(test_the_sample_holds_the_defaults),
        };

        return cmocka_run_group_tests(tests, set_up, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every allocation of the loaders, and of libyaml below them, fails once, some with all that follow (base/fault.h). That nothing leaks is
 * for the sanitizer to say.
 */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "config/load.h"

static const char daemon_text[] = "plugins: p.yaml\nproject_root: /\nlog: {level: debug}\nisolation: {python: ./x, requirements: "
                                  "r, memory: 1G, timeout: '5s'}\n"
                                  "unknown: {{ env.HOME | default('x') }}\n"
                                  "plugin_settings: {hook_policies: {a: [x, y], b: {writable_fields: [z]}}}\n";

static const char plugins_text[] =
        "base: &base {class_name: etc.b.C, script_path: /etc, requirements_file: passwd, big: 99999999999999999999}\n"
        "plugins:\n"
        "  - {name: a, kind: isolated_venv, hooks: [x, y], tags: [t], config: {<<: *base, big: !!binary aGk=}}\n"
        "  - {name: a, kind: isolated_venv, version: '1', description: d, config: *base, isolation: {python: q}}\n"
        "  - {name: b, kind: isolated_venv, config: {<<: *base, x: {{ env.HOME }}, d: 2001-12-14 1:02:03}, capabilities: "
        "[read_agent], conditions: [{tools: [t]}]}\n"
        "  - {name: c, kind: nothing.b.C, isolation: {requirements: null}}\n"
        "  - {name: d, kind: etc.b.C, isolation: {requirements: etc/passwd}}\n"
        "  - {name: e, kind: external, isolation: {socket: s}}\n"
        "  - {name: f, kind: external, mcp: {proto: STDIO, script: passwd, cwd: etc}, isolation: {requirements: etc/passwd}}\n"
        "  - {name: g, kind: external, mcp: {proto: STREAMABLEHTTP, url: 'http://a', tls: {certfile: etc/passwd}}}\n"
        "  - {name: h, kind: external, grpc: {uds: tmp/s}}\n"
        "plugin_dirs: [etc, var]\nplugin_settings: {plugin_timeout: 1.5, hook_policies: {c: [x]}}\n";

static int load(const char *plugins) {
        struct config_overrides overrides = {.socket = "/run/x/s"};
        struct daemon_config *daemon = NULL;
        struct plugins_config *config = NULL;
        struct config_text text = {plugins, strlen(plugins)};
        struct diags diags = {0};
        struct place beyond;
        int r = daemon_config_parse(&daemon, "c.yaml", daemon_text, strlen(daemon_text), &overrides, &diags);

        if (r == 0)
                r = plugins_config_parse(&config, daemon, text, &beyond, &diags);
        if (r == -EOPNOTSUPP)
                r = plugins_config_parse_rendered(&config, daemon, text, text, &diags);
        if (r < 0)
                assert_null(config);
        plugins_config_free(config);
        daemon_config_free(daemon);
        diags_done(&diags);
        return r;
}

/* Return: whether the fault happened. */
static bool assert_failure(unsigned n, const char *when, const char *plugins, int expected) {
        char fault[32];
        bool happened;
        int r;

        (void)snprintf(fault, sizeof(fault), "alloc=%u%s", n, when);
        assert_true(faults_set(fault));
        r = load(plugins);
        happened = faults_happened();
        (void)faults_set(NULL);
        assert_int_equal(r, happened ? -ENOMEM : expected);
        return happened;
}

static void assert_every_failure(const char *plugins, int expected) {
        for (unsigned n = 1; assert_failure(n, "", plugins, expected); n++)
                if (n % 8 == 0)
                        (void)assert_failure(n, "+", plugins, expected);
}

static void test_good_files(void **state) {
        (void)state;
        assert_every_failure(plugins_text, 0);
}

static void test_files_with_mistakes(void **state) {
        (void)state;
        assert_every_failure("plugins:\n  - {name: 5, mod: x, mode: y, kind: k}\n  - {name: b, kind: isolated_venv}\n", -EINVAL);
        assert_every_failure("plugins: [{name: a, kind: external, mcp: {proto: x, uds: '', script: /x, cwd: x}, grpc: {}}]\n",
                             -EINVAL);
        assert_every_failure("a: [\n", -EINVAL);
        assert_every_failure("a: {{ env.HOME }} {{ b }}\nplugins: [{mode: {{ env.HOME }}}]\n", -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good_files),
                cmocka_unit_test(test_files_with_mistakes),
        };

        log_set_level(LOG_LEVEL_ERROR); /* not each fault */
        setenv("HOME", "/home/test", 1);
        setenv("CACHE_DIRECTORY", "/var/cache/test", 1);
        setenv("PLUGINS_PLUGIN_TIMEOUT", "5", 1);
        return cmocka_run_group_tests(tests, NULL, NULL);
}

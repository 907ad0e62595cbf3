/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

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

static inline void fixture_done(struct fixture *fixture) {
        plugins_config_free(fixture->config);
        daemon_config_free(fixture->daemon);
        diags_done(&fixture->diags);
}

static char root[] = "/tmp/cpexd-test-XXXXXX";

static inline void make(const char *path, bool folder) {
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

static inline int set_up(void **state) {
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

static inline int tear_down(void **state) {
        char command[64];

        (void)state;
        (void)snprintf(command, sizeof(command), "rm -rf %s", root);
        return system(command);
}

/* `rendered`: what Jinja2 made of `text`, NULL where it is not needed. */
static inline struct fixture parse_rendered(const char *cpexd_yaml, const char *text, const char *rendered) {
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

static inline struct fixture parse_with(const char *cpexd_yaml, const char *text) {
        return parse_rendered(cpexd_yaml, text, NULL);
}

#define PARSE(name, text) CLEANUP(fixture_done) struct fixture name = parse_with("", text)
#define PARSE_RENDERED(name, text, rendered) CLEANUP(fixture_done) struct fixture name = parse_rendered("", text, rendered)

static inline void assert_diags(const struct fixture *fixture, const char *const *expected, size_t n) {
        for (size_t i = 0; i < MIN(n, fixture->diags.n); i++)
                assert_string_equal(fixture->diags.items[i].text, expected[i]);
        assert_int_equal(fixture->diags.n, n);
}

#define ASSERT_DIAGS(fixture, ...) \
        assert_diags(fixture, (const char *const[]){__VA_ARGS__}, ELEMENTS(((const char *const[]){__VA_ARGS__})))

#define SEED "config: {class_name: seed.plugin.Seed, script_path: plugins/seed, requirements_file: requirements.txt}"

static inline void assert_path(const char *path, const char *expected) {
        CLEANUP_FREE char *full = path_join(root, expected);

        assert_string_equal(path, full);
}

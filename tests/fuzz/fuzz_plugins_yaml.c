/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The file stands for conf/plugins.yaml, so that there is a plugin that it can find.
 */

#include "wire/mp.h"
#include "yaml.h"

static struct daemon_config *daemon_config(void) {
        const struct config_overrides overrides = {
                .plugins = SOURCE_ROOT "/conf/plugins.yaml", .socket = "/run/a", .control = "/run/b"};
        struct daemon_config *config = NULL;
        struct diags diags = {0};

        (void)setenv("CACHE_DIRECTORY", "/var/cache/fuzz", 1);
        (void)setenv("X", "[tool_pre_invoke] # ", 1);
        CHECK(daemon_config_parse(&config, NULL, "", 0, &overrides, &diags) == 0);
        return config;
}

static void check_entry(const struct plugin_entry *entry) {
        CHECK(entry->name && entry->kind && entry->line >= 1 && entry->column >= 1);
        CHECK(entry->mode < PLUGIN_MODE_MAX_ && entry->on_error < ON_ERROR_MAX_);
        CHECK(mp_is_value((struct mp){entry->entry.data, entry->entry.len}));
        CHECK(entry->isolation.workers_min >= 1 && entry->isolation.workers_min <= entry->isolation.workers_max);
        if (entry->mode != PLUGIN_DISABLED)
                CHECK(entry->class_name && entry->script_path && entry->isolation.python);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static struct daemon_config *daemon;
        struct config_text text = {(const char *)data, len};
        struct plugins_config *config = NULL;
        struct diags diags = {0};
        struct place beyond = {0};
        int r;

        daemon = daemon ? daemon : daemon_config();
        r = plugins_config_parse(&config, daemon, text, &beyond, &diags);
        if (r == -EOPNOTSUPP) { /* as if Jinja2 had left it as it is */
                CHECK(beyond.line >= 1 && beyond.column >= 1 && diags.errors == 0);
                r = plugins_config_parse_rendered(&config, daemon, text, text, &diags);
        }
        for (size_t i = 0; r == 0 && i < config->n_plugins; i++)
                check_entry(&config->plugins[i]);
        check_reading(r, config, &diags, data, len);
        plugins_config_free(config);
        return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

#include "yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        struct config_overrides overrides = {0};
        struct daemon_config *config = NULL;
        struct diags diags = {0};
        int r;

        (void)setenv("RUNTIME_DIRECTORY", "/run/fuzz", 1);
        (void)setenv("CACHE_DIRECTORY", "/var/cache/fuzz", 1);
        (void)setenv("X", "{min: 2, max: 3} # ", 1);
        r = daemon_config_parse(&config, "/etc/fuzz/cpexd.yaml", (const char *)data, len, &overrides, &diags);
        if (r == 0) {
                CHECK(config->plugins && config->plugins_name && config->cache_dir && config->socket.path &&
                      config->control.path);
                CHECK(config->isolation.workers_min >= 1 && config->isolation.workers_min <= config->isolation.workers_max);
                CHECK(config->frame_bytes >= 4096 && config->calls >= 1 && config->connections >= 1);
        }
        check_reading(r, config, &diags, data, len);
        daemon_config_free(config);
        return 0;
}

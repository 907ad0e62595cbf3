/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Values are written as in the files, so that a line can be copied from here to there. One that came from the environment is not told.
 */

#include "config/explain.h"

#include <inttypes.h>

#include "config/schema.h"
#include "wire/mp.h"

struct explaining {
        const struct daemon_config *daemon;
        const struct plugins_config *plugins;
        struct buf *buf;
        size_t n;
};

static void put_list(struct buf *text, const struct strlist *list, const char *none) {
        if (list->n == 0) {
                buf_append_str(text, none);
                return;
        }
        for (size_t i = 0; i < list->n; i++)
                buf_printf(text, "%s%s", i > 0 ? ", " : "[", list->items[i]);
        buf_append_str(text, "]");
}

static void put_number(struct buf *text, const struct config_key *key, uint64_t number) {
        if (number == 0 && str_eq(key->initial, "null"))
                buf_append_str(text, "null");
        else if (key->type == KEY_BYTES)
                put_bytes(text, number);
        else if (key->type == KEY_DURATION)
                put_duration(text, number);
        else
                buf_printf(text, "%" PRIu64, number);
}

void explain_put_value(struct buf *text, const struct config_key *key, const struct isolation *isolation) {
        const void *at = (const char *)isolation + (key->offset - offsetof(struct daemon_config, isolation));
        const char *string;
        int profile;

        switch (key->type) {
        case KEY_PATH:
        case KEY_ENTRY_PATH:
        case KEY_ENTRY_NAME:
        case KEY_PROGRAM:
                string = *(char *const *)at;
                buf_append_str(text, string ? string : "null");
                break;
        case KEY_BOOL:
                buf_append_str(text, *(const int *)at > 0 ? "true" : "false");
                break;
        case KEY_PROFILE:
                profile = *(const int *)at;
                buf_append_str(text, sandbox_profile_name((enum sandbox_profile)profile));
                break;
        case KEY_NAMES:
        case KEY_PATHS:
                put_list(text, at, "[]");
                break;
        case KEY_NETWORK:
                put_list(text, at, "none");
                break;
        default:
                put_number(text, key, key->size == sizeof(uint64_t) ? *(const uint64_t *)at : *(const unsigned *)at);
        }
}

static void put_from(struct buf *text, const struct explaining *explaining, const struct origin *origin) {
        switch (origin->from) {
        case ORIGIN_DEFAULT:
                buf_append_str(text, "default");
                break;
        case ORIGIN_DAEMON:
                buf_printf(text, "%s:%u", explaining->daemon->path, origin->line);
                break;
        case ORIGIN_PLUGINS:
                buf_printf(text, "%s:%u", explaining->plugins->path, origin->line);
                break;
        case ORIGIN_RENDERED:
                buf_printf(text, "%s: line %u of the rendered file", explaining->plugins->path, origin->line);
                break;
        case ORIGIN_PLUGIN_TIMEOUT:
                buf_append_str(text, "plugin_timeout of plugin_settings, or PLUGINS_PLUGIN_TIMEOUT");
                break;
        case ORIGIN_KIND:
                buf_append_str(text, "default of kind: external");
                break;
        }
}

static void put_setting(struct explaining *explaining, const char *name, const struct buf *value, const struct origin *origin) {
        CLEANUP_BUF struct buf from = {0};

        put_from(&from, explaining, origin);
        if (buf_error(value) || buf_error(&from))
                explaining->buf->error = -ENOMEM;
        mp_put_map(explaining->buf, 3);
        mp_put_str(explaining->buf, "name");
        mp_put_str(explaining->buf, name);
        mp_put_str(explaining->buf, "value");
        if (origin->secret)
                mp_put_str(explaining->buf, "…");
        else
                mp_put_text(explaining->buf, value->data, value->len);
        mp_put_str(explaining->buf, "from");
        mp_put_text(explaining->buf, from.data, from.len);
        explaining->n++;
}

static void put_text_setting(struct explaining *explaining, const char *name, const char *text, const struct origin *origin) {
        CLEANUP_BUF struct buf value = {0};

        buf_append_str(&value, text);
        put_setting(explaining, name, &value, origin);
}

void explain_put(const struct plugin_entry *entry, const struct daemon_config *daemon, const struct plugins_config *plugins,
                 struct buf *buf) {
        struct explaining explaining = {daemon, plugins, buf, 0};
        struct isolation isolation = entry->isolation; /* only looked at */
        size_t array = mp_array_begin(buf);
        CLEANUP_BUF struct buf priority = {0};

        put_text_setting(&explaining, "mode", plugin_mode_name(entry->mode), &entry->mode_origin);
        put_text_setting(&explaining, "on_error", on_error_name(entry->on_error), &entry->on_error_origin);
        buf_printf(&priority, "%" PRId64, entry->priority);
        put_setting(&explaining, "priority", &priority, &entry->priority_origin);
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *key = &config_keys[i];
                const struct origin *origin = schema_origin(isolation.origins, key);
                CLEANUP_BUF struct buf value = {0};

                if (!origin)
                        continue;
                explain_put_value(&value, key, &isolation);
                put_setting(&explaining, key->name, &value, origin);
        }
        mp_array_end(buf, array, explaining.n);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The texts of a record may come from a plugin; CPEX cuts them at 256 bytes of UTF-8, ellipsis included, and so do we.
 */

#include "pipeline/record.h"

#include "base/utf8.h"

#define TEXT_BYTES_MAX 256
#define KEYS_MAX 64
static const char ellipsis[] = "\xe2\x80\xa6";

static void put_text(struct buf *buf, struct mp text) {
        char cut[TEXT_BYTES_MAX];
        size_t len = text.len;

        if (!text.data) {
                mp_put_nil(buf);
        } else if (len <= TEXT_BYTES_MAX) {
                mp_put_strn(buf, text.data, len);
        } else {
                len = utf8_fit(text.data, len, TEXT_BYTES_MAX - (sizeof(ellipsis) - 1));
                memcpy(cut, text.data, len);
                memcpy(cut + len, ellipsis, sizeof(ellipsis) - 1);
                mp_put_strn(buf, cut, len + sizeof(ellipsis) - 1);
        }
}

static void put_tristate(struct buf *buf, enum tristate state) {
        if (state == STATE_NONE)
                mp_put_nil(buf);
        else
                mp_put_bool(buf, state == STATE_YES);
}

void record_put(const struct record *record, struct buf *buf) {
        static const char *const statuses[] = {
                [RECORD_COMPLETED] = "completed",
                [RECORD_TIMEOUT] = "timeout",
                [RECORD_ERROR] = "error",
        };
        const struct plugin_entry *entry = record->plugin->entry;
        size_t n_keys = MIN(entry->config_keys.n, (size_t)KEYS_MAX);

        mp_put_map(buf, 16);
        mp_put_str(buf, "plugin_id");
        mp_put_str(buf, record->plugin->id);
        mp_put_str(buf, "plugin_name");
        mp_put_str(buf, entry->name);
        mp_put_str(buf, "plugin_kind");
        mp_put_str(buf, entry->kind);
        mp_put_str(buf, "hook_name");
        mp_put_strn(buf, record->hook.data, record->hook.len);
        mp_put_str(buf, "mode");
        mp_put_str(buf, plugin_mode_name(entry->mode));
        mp_put_str(buf, "status");
        mp_put_str(buf, statuses[record->status]);
        mp_put_str(buf, "requested_allow");
        put_tristate(buf, record->requested_allow);
        mp_put_str(buf, "effective_allow");
        mp_put_bool(buf, record->effective_allow);
        mp_put_str(buf, "matched");
        put_tristate(buf, record->matched);
        mp_put_str(buf, "applied");
        mp_put_bool(buf, record->applied);
        mp_put_str(buf, "payload_modified");
        mp_put_bool(buf, record->payload_modified);
        mp_put_str(buf, "extensions_modified");
        mp_put_bool(buf, record->extensions_modified);
        mp_put_str(buf, "duration_ns");
        mp_put_uint(buf, record->duration_nsec);
        mp_put_str(buf, "reason");
        put_text(buf, record->reason);
        mp_put_str(buf, "error_code");
        put_text(buf, record->error_code);
        mp_put_str(buf, "config_keys");
        mp_put_array(buf, n_keys);
        for (size_t i = 0; i < n_keys; i++)
                mp_put_str(buf, entry->config_keys.items[i]);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The one answer: the result's map, or the error's. A buffer of the invocation that failed to grow (memory) makes the whole answer an
 * error: half an answer might read as "nothing changed".
 */

#include "pipeline/turn.h"
#include "wire/rpc.h"

static struct mp map_or_empty(const struct buf *map) {
        return map->len > 0 ? buf_mp(map) : mp_empty_map;
}

static bool out_of_memory(const struct invocation *invocation) {
        int r = buf_error(&invocation->payload) | buf_error(&invocation->payload_type) | buf_error(&invocation->state) |
                buf_error(&invocation->global_metadata) | buf_error(&invocation->metadata) | buf_error(&invocation->extensions) |
                buf_error(&invocation->denial_metadata) | buf_error(&invocation->start_state) |
                buf_error(&invocation->start_metadata) | buf_error(&invocation->records) | buf_error(&invocation->violation) |
                buf_error(&invocation->error) | buf_error(&invocation->direct);

        for (size_t i = 0; i < invocation->n_turns; i++)
                r |= buf_error(&invocation->turns[i].context);
        return r != 0;
}

static void put_records(const struct invocation *invocation, struct buf *buf) {
        mp_put_str(buf, "executions");
        mp_put_array(buf, invocation->n_records);
        buf_append(buf, invocation->records.data, invocation->records.len);
}

static void put_shared(const struct invocation *invocation, struct buf *buf) {
        mp_put_str(buf, "state");
        mp_put_raw(buf, map_or_empty(&invocation->state));
        mp_put_str(buf, "global_metadata");
        mp_put_raw(buf, map_or_empty(&invocation->global_metadata));
}

/* A plugin that ran twice, because its entry names the hook twice, has one entry: the later one. */
static bool has_later_turn(const struct invocation *invocation, size_t i) {
        for (size_t j = i + 1; j < invocation->n_turns; j++)
                if (invocation->turns[j].plugin == invocation->turns[i].plugin && invocation->turns[j].state != TURN_PENDING)
                        return true;
        return false;
}

/* docs/protocol.md, contexts. */
static void put_contexts(const struct invocation *invocation, struct buf *buf) {
        CLEANUP_BUF struct buf table = {0};
        size_t map, n = 0;

        mp_put_str(buf, "contexts");
        if (!invocation->hook) {
                mp_put_nil(buf);
                return;
        }
        mp_put_array(&table, 3);
        mp_put_uint(&table, 1);
        mp_put_raw(&table, invocation->in.request_id);
        map = mp_map_begin(&table);
        for (size_t i = 0; i < invocation->n_turns; i++) {
                const struct turn *turn = &invocation->turns[i];

                if (turn->state == TURN_PENDING || has_later_turn(invocation, i))
                        continue;
                mp_put_str(&table, turn->plugin->entry->name);
                if (turn->context.len > 0) {
                        mp_put_raw(&table, buf_mp(&turn->context));
                } else {
                        mp_put_map(&table, 2);
                        mp_put_str(&table, "state");
                        mp_put_map(&table, 0);
                        mp_put_str(&table, "metadata");
                        mp_put_map(&table, 0);
                }
                n++;
        }
        mp_map_end(&table, map, n);
        if (buf_error(&table))
                buf->error = buf_error(&table);
        mp_put_bin(buf, table.data, table.len);
}

static void put_metadata(const struct invocation *invocation, struct buf *buf) {
        CLEANUP_BUF struct buf decision = {0};

        mp_put_str(buf, "metadata");
        if (!invocation->decider || !invocation->hook || !str_eq(invocation->hook->name, "http_auth_check_permission")) {
                mp_put_raw(buf, map_or_empty(&invocation->metadata));
                return;
        }
        mp_put_map(&decision, 1);
        mp_put_str(&decision, "_decision_plugin");
        mp_put_str(&decision, invocation->decider->entry->name);
        mp_put_merged(buf, map_or_empty(&invocation->metadata), buf_mp(&decision), NULL);
}

/* The last of all, where it need not be copied. */
static void put_payload(struct invocation *invocation, struct buf *buf, struct buf *tail) {
        mp_put_str(buf, "modified_payload");
        if (invocation->payload_changed)
                mp_put_bin_tail(buf, tail, &invocation->payload, buf_mp(&invocation->payload));
        else
                mp_put_nil(buf);
}

/* What answers and errors have in common. */
static void put_common(const struct invocation *invocation, struct buf *buf) {
        if (invocation->in.timing) {
                mp_put_str(buf, "timing");
                invocation_put_timing(invocation, buf);
        }
        mp_put_str(buf, "generation");
        mp_put_uint(buf, invocation->generation->number);
}

static void put_answer(struct invocation *invocation, struct buf *buf, struct buf *tail) {
        mp_put_map(buf, 14 + invocation->in.timing);
        mp_put_str(buf, "continue_processing");
        mp_put_bool(buf, invocation->ending == ENDING_ALLOWED);
        mp_put_str(buf, "payload_type");
        mp_put_raw(buf, buf_mp(&invocation->payload_type));
        mp_put_str(buf, "violation");
        mp_put_raw(buf, buf_mp(&invocation->violation));
        mp_put_str(buf, "denial_metadata");
        mp_put_raw(buf, buf_mp(&invocation->denial_metadata));
        put_metadata(invocation, buf);
        mp_put_str(buf, "retry_delay_ms");
        mp_put_int(buf, invocation->retry_delay_ms);
        mp_put_str(buf, "modified_extensions");
        mp_put_raw(buf, buf_mp(&invocation->extensions));
        mp_put_str(buf, "http_headers"); /* CPEX never passes a plugin's on */
        mp_put_nil(buf);
        put_contexts(invocation, buf);
        put_shared(invocation, buf);
        put_records(invocation, buf);
        put_common(invocation, buf);
        put_payload(invocation, buf, tail);
}

/* What the plugin answered; nothing else that its worker may have written. */
static void put_direct_answer(struct invocation *invocation, struct buf *buf, struct buf *tail) {
        static const char *const keys[] = {
                "continue_processing", "payload_type", "violation", "metadata",        "retry_delay_ms",
                "modified_extensions", "http_headers", "state",     "global_metadata", "denial_metadata",
        };
        size_t map = mp_map_begin(buf), n = 2 + invocation->in.timing;
        struct mp_cur payload;
        struct mp value;

        for (size_t i = 0; i < ELEMENTS(keys); i++)
                if (mp_map_get(buf_mp(&invocation->direct), keys[i], &value)) {
                        mp_put_str(buf, keys[i]);
                        mp_put_raw(buf, value);
                        n++;
                }
        put_contexts(invocation, buf);
        put_common(invocation, buf);
        payload = mp_cur(mp_map_value(buf_mp(&invocation->direct), "modified_payload"));
        if (mp_read_bin(&payload, &value)) {
                mp_put_str(buf, "modified_payload");
                mp_put_bin_tail(buf, tail, &invocation->direct, value);
                n++;
        }
        mp_map_end(buf, map, n);
}

static void put_error(const struct invocation *invocation, struct buf *buf) {
        bool violation = invocation->ending == ENDING_VIOLATION, direct = invocation->in.direct;

        mp_put_map(buf, invocation->n_error + 4 + (violation ? 2 : 0) + (direct ? 1 : 0) + invocation->in.timing);
        if (violation) {
                mp_put_str(buf, "type");
                mp_put_str(buf, "PluginViolationError");
                mp_put_str(buf, "violation");
                mp_put_raw(buf, buf_mp(&invocation->violation));
        }
        buf_append(buf, invocation->error.data, invocation->error.len);
        if (direct)
                put_contexts(invocation, buf);
        put_shared(invocation, buf);
        put_records(invocation, buf);
        put_common(invocation, buf);
}

bool invocation_failed(const struct invocation *invocation) {
        return invocation->ending == ENDING_VIOLATION || invocation->ending == ENDING_ERROR || out_of_memory(invocation);
}

void invocation_put_response(struct invocation *invocation, struct buf *buf, uint32_t msgid, struct buf *tail) {
        if (out_of_memory(invocation)) {
                rpc_put_protocol_error(buf, msgid, "limit", "out of memory");
        } else if (invocation_failed(invocation)) {
                rpc_put_error(buf, msgid);
                put_error(invocation, buf);
                rpc_put_error_end(buf);
        } else {
                rpc_put_result(buf, msgid);
                if (invocation->in.direct)
                        put_direct_answer(invocation, buf, tail);
                else
                        put_answer(invocation, buf, tail);
        }
}

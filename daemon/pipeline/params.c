/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a worker is told (docs/protocol.md, the workers' invoke): the caller's context with the shared state as merged so far,
 * the payload as it is by now, and the plugin's own context from the caller's table. Everything is copied as it came.
 */

#include "pipeline/extensions.h"
#include "pipeline/turn.h"

struct mp turn_own_context(const struct turn *turn) {
        struct mp entry;
        struct mp_cur cur;

        if (!mp_map_get(turn->invocation->in.table, turn->plugin->entry->name, &entry))
                return (struct mp){0};
        /* A plugin whose entry names the hook twice goes on with what it has made of it the first time. */
        for (const struct turn *other = turn; other-- > turn->invocation->turns;)
                if (other->plugin == turn->plugin && other->state == TURN_OVER)
                        return buf_mp(&other->context);
        cur = mp_cur(entry);
        return mp_peek(&cur) == MP_MAP ? entry : (struct mp){0};
}

/* As the worker gets it: a plugin server's document that is no map lies in a map of ours (outcome.c). */
static void put_own_context(struct buf *buf, struct mp context) {
        struct mp metadata, kept;
        struct mp_cur cur;

        if (mp_map_get(context, "metadata", &metadata) && mp_map_get(metadata, TURN_SERVER_CONTEXT, &kept)) {
                cur = mp_cur(kept);
                if (mp_peek(&cur) == MP_BIN) {
                        mp_put_raw(buf, kept);
                        return;
                }
        }
        if (context.len > 0)
                mp_put_bin(buf, context.data, context.len);
        else
                mp_put_nil(buf);
}

static void put_map_or_empty(struct buf *buf, const struct buf *map) {
        if (map->len > 0)
                mp_put_raw(buf, buf_mp(map));
        else
                mp_put_map(buf, 0);
}

/* The caller's context, its state and metadata replaced by the merged ones. */
static void put_context(const struct invocation *invocation, struct buf *buf) {
        struct mp_cur cur = mp_cur(invocation->in.context);
        size_t map = mp_map_begin(buf), count = 2;
        struct mp key, value;
        uint32_t n;

        (void)mp_read_map(&cur, &n);
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--) {
                if (mp_eq_str(key, "state") || mp_eq_str(key, "metadata"))
                        continue;
                mp_put_raw(buf, key);
                mp_put_raw(buf, value);
                count++;
        }
        mp_put_str(buf, "state");
        put_map_or_empty(buf, &invocation->state);
        mp_put_str(buf, "metadata");
        put_map_or_empty(buf, &invocation->global_metadata);
        mp_map_end(buf, map, count);
}

/* CPEX 0.1 shows every plugin the caller's extensions; where what a plugin adds must stay, the next has to see it. */
static void put_extensions(const struct turn *turn, struct buf *buf) {
        const struct invocation *invocation = turn->invocation;
        bool shared = invocation->generation->daemon->enforce_tiers && invocation->extensions.len > 0;

        extensions_put_filtered(buf, shared ? buf_mp(&invocation->extensions) : invocation->in.extensions,
                                &turn->plugin->entry->capabilities);
}

/* What a step of a chain has of its own. */
static void put_step(const struct turn *turn, struct buf *buf) {
        CLEANUP_BUF struct buf extensions = {0};

        put_extensions(turn, &extensions);
        if (buf_error(&extensions))
                buf->error = buf_error(&extensions);
        mp_put_map(buf, 3);
        mp_put_str(buf, "member");
        mp_put_uint(buf, turn->plugin->member);
        mp_put_str(buf, "contexts");
        put_own_context(buf, turn_own_context(turn));
        mp_put_str(buf, "extensions");
        mp_put_bin(buf, extensions.data, extensions.len);
}

/* What all plugins of a chain get, each gets as an object of its own, so it goes as a document. */
int turn_put_chain(struct turn *turns, size_t n, struct step *step) {
        struct invocation *invocation = turns->invocation;
        struct buf *buf = &step->params;
        bool changed = invocation->payload_changed;
        CLEANUP_BUF struct buf context = {0};

        put_context(invocation, &context);
        if (buf_error(&context))
                return buf_error(&context);
        mp_put_map(buf, 6);
        mp_put_str(buf, "unchecked");
        mp_put_bool(buf, changed);
        mp_put_str(buf, "hook");
        mp_put_strn(buf, invocation->in.hook.data, invocation->in.hook.len);
        mp_put_str(buf, "payload_type");
        mp_put_raw(buf, changed ? buf_mp(&invocation->payload_type) : invocation->in.payload_type);
        mp_put_str(buf, "context");
        mp_put_bin(buf, context.data, context.len);
        mp_put_str(buf, "steps");
        mp_put_array(buf, n);
        for (size_t i = 0; i < n; i++)
                put_step(&turns[i], buf);
        mp_put_str(buf, "payload");
        mp_put_bin_tail(buf, &step->payload, changed ? &invocation->payload : &invocation->params,
                        changed ? buf_mp(&invocation->payload) : invocation->in.payload);
        return buf_error(buf);
}

/* The payload comes last, where it need not be copied. */
int turn_put_params(struct turn *turn, struct step *step) {
        struct invocation *invocation = turn->invocation;
        struct buf *buf = &step->params;
        unsigned member = turn->plugin->member;
        bool background = turn->plugin->entry->mode == PLUGIN_FIRE_AND_FORGET && !invocation->in.direct;
        /* A background plugin gets the caller's payload and a fresh context. */
        bool changed = invocation->payload_changed && !background;
        struct mp payload = changed ? buf_mp(&invocation->payload) : invocation->in.payload;
        struct mp context = background ? (struct mp){0} : turn_own_context(turn);

        mp_put_map(buf, 7 + (member > 0));
        if (member > 0) {
                mp_put_str(buf, "member");
                mp_put_uint(buf, member);
        }
        mp_put_str(buf, "unchecked");
        mp_put_bool(buf, changed);
        mp_put_str(buf, "hook");
        mp_put_strn(buf, invocation->in.hook.data, invocation->in.hook.len);
        mp_put_str(buf, "payload_type");
        mp_put_raw(buf, changed ? buf_mp(&invocation->payload_type) : invocation->in.payload_type);
        mp_put_str(buf, "context");
        put_context(invocation, buf);
        mp_put_str(buf, "contexts");
        put_own_context(buf, context);
        mp_put_str(buf, "extensions");
        put_extensions(turn, buf);
        mp_put_str(buf, "payload");
        mp_put_bin_tail(buf, &step->payload, changed ? &invocation->payload : &invocation->params, payload);
        return buf_error(buf);
}

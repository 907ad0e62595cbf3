/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The write tiers of CPEX 0.2 (extension_tiers: enforce), as that applies them to plugins in other processes: what a plugin may not change
 * is not looked at, so that it cannot have been changed, and what it may change is merged into the extensions as they are by now.
 *
 *     custom                 anybody, as a whole
 *     http.headers           write_headers, as a whole
 *     security.labels        append_labels; more of them
 *     delegation             append_delegation; more hops, a new actor and age
 *     all else               nobody
 *
 * A plugin sees only parts of the extensions and returns only these, so what is missing in them is no removal. What it tried in vain is
 * a warning in the log.
 */

#include "pipeline/models.h"
#include "pipeline/turn.h"

struct merge {
        const struct strlist *capabilities;
        struct mp now, returned; /* maps of slots */
        struct buf over;         /* pairs: the slots that change */
        size_t n_over;
        const char *complaints[4];
        size_t n_complaints;
};

/* What stands under a key, or `otherwise`. */
static struct mp value_of(struct mp map, const char *key, struct mp otherwise) {
        struct mp value;

        return mp_map_get(map, key, &value) && !mp_is_nil(value) ? value : otherwise;
}

static bool may(const struct merge *merge, const char *capability) {
        return strlist_has(merge->capabilities, capability);
}

static void complain(struct merge *merge, const char *text) {
        merge->complaints[merge->n_complaints++] = text;
}

/* Changes one key of a slot. */
static void change(struct merge *merge, const char *slot, const struct buf *pairs, size_t n) {
        CLEANUP_BUF struct buf map = {0};

        mp_put_map(&map, n);
        buf_append(&map, pairs->data, pairs->len);
        mp_put_str(&merge->over, slot);
        mp_put_merged(&merge->over, value_of(merge->now, slot, (struct mp){0}), buf_mp(&map), NULL);
        merge->n_over++;
        if (buf_error(pairs) || buf_error(&map))
                merge->over.error = -ENOMEM;
}

/* ---- The slots ---- */

static void take_custom(struct merge *merge) {
        struct mp custom = value_of(merge->returned, "custom", (struct mp){0});

        if (custom.len == 0 || mp_same_value(custom, value_of(merge->now, "custom", (struct mp){0})))
                return;
        mp_put_str(&merge->over, "custom");
        mp_put_raw(&merge->over, custom);
        merge->n_over++;
}

static void take_headers(struct merge *merge) {
        struct mp http = value_of(merge->returned, "http", (struct mp){0});
        struct mp headers = value_of(http, "headers", mp_empty_map);
        CLEANUP_BUF struct buf pairs = {0};

        if (http.len == 0 ||
            mp_same_value(headers, value_of(value_of(merge->now, "http", mp_empty_map), "headers", mp_empty_map)))
                return;
        if (!may(merge, "write_headers")) {
                complain(merge, "http is changed without the capability write_headers");
                return;
        }
        mp_put_str(&pairs, "headers");
        mp_put_raw(&pairs, headers);
        change(merge, "http", &pairs, 1);
}

/* The labels as keys of a map, where they are found again quickly. */
static void put_as_keys(struct buf *buf, struct mp labels) {
        size_t map = mp_map_begin(buf), n = 0;
        struct mp_cur cur = mp_cur(labels);
        struct mp label;
        uint32_t left;

        (void)mp_read_array(&cur, &left);
        for (; left > 0 && mp_read_any(&cur, &label); left--, n++) {
                mp_put_raw(buf, label);
                mp_put_nil(buf);
        }
        mp_map_end(buf, map, n);
}

/* Appends the union of two sets. Return: its size. */
static uint32_t put_union(struct buf *buf, struct mp a, struct mp b) {
        CLEANUP_BUF struct buf keys_a = {0}, keys_b = {0}, keys = {0};
        struct mp_cur cur;
        struct mp key, value;
        uint32_t n = 0;

        put_as_keys(&keys_a, a);
        put_as_keys(&keys_b, b);
        mp_put_merged(&keys, buf_mp(&keys_a), buf_mp(&keys_b), NULL);
        cur = mp_cur(buf_mp(&keys));
        (void)mp_read_map(&cur, &n);
        mp_put_array(buf, n);
        for (uint32_t left = n; left > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); left--)
                mp_put_raw(buf, key);
        if (buf_error(&keys_a) || buf_error(&keys_b) || buf_error(&keys))
                buf->error = -ENOMEM;
        return n;
}

static void take_labels(struct merge *merge) {
        struct mp security = value_of(merge->returned, "security", (struct mp){0});
        struct mp labels = value_of(security, "labels", mp_empty_array);
        struct mp now = value_of(value_of(merge->now, "security", mp_empty_map), "labels", mp_empty_array);
        bool sees = may(merge, "read_labels") || may(merge, "append_labels");
        CLEANUP_BUF struct buf pairs = {0}, old = {0}, new = {0};
        uint32_t n_now, n_new, n_all;

        if (security.len == 0)
                return;
        n_now = put_union(&old, mp_empty_array, now); /* each label once */
        n_new = put_union(&new, mp_empty_array, labels);
        mp_put_str(&pairs, "labels");
        n_all = put_union(&pairs, buf_mp(&old), buf_mp(&new));
        if (!may(merge, "append_labels")) {
                if (sees ? n_all > n_now || n_all > n_new : n_new > 0)
                        complain(merge, "security.labels is changed without the capability append_labels");
                return;
        }
        if (n_all > n_new)
                complain(merge, "a security label is taken away, they can only be added");
        if (n_all > n_now)
                change(merge, "security", &pairs, 1);
}

/* Nothing, in all of its forms. */
static bool is_nothing(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        uint32_t n;

        return mp_is_nil(value) || (mp_read_array(&cur, &n) && n == 0);
}

/* Whether a hop is what it was, in all that carries authority. */
static bool same_hop(struct mp a, struct mp b) {
        static const char *const keys[] = {"subject_id", "subject_type", "audience", "scopes_granted", "strategy"};

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                struct mp of_a = value_of(a, keys[i], (struct mp){0}), of_b = value_of(b, keys[i], (struct mp){0});

                if (!(is_nothing(of_a) && is_nothing(of_b)) && !mp_same_value(of_a, of_b))
                        return false;
        }
        return true;
}

/* Appends `now` and what `returned` has beyond it. Return: how many hops that are; -1 where `returned` is no continuation of `now`. */
static int64_t put_chain(struct buf *buf, struct mp now, struct mp returned) {
        struct mp_cur cur = mp_cur(now), cur_returned = mp_cur(returned);
        uint32_t n = 0, n_returned = 0;
        struct mp hop, other;

        (void)mp_read_array(&cur, &n);
        (void)mp_read_array(&cur_returned, &n_returned);
        if (n_returned < n)
                return -1;
        mp_put_array(buf, n_returned);
        for (uint32_t i = 0; i < n_returned && mp_read_any(&cur_returned, &other); i++) {
                bool old = i < n && mp_read_any(&cur, &hop);

                if (old && !same_hop(hop, other))
                        return -1;
                mp_put_raw(buf, old ? hop : other);
        }
        return n_returned;
}

static void take_delegation(struct merge *merge) {
        struct mp returned = value_of(merge->returned, "delegation", (struct mp){0});
        struct mp now = value_of(merge->now, "delegation", mp_empty_map);
        struct mp chain = value_of(now, "chain", mp_empty_array);
        struct mp actor = value_of(returned, "actor_subject_id", (struct mp){0});
        struct mp age = value_of(returned, "age_seconds", (struct mp){0});
        struct mp_cur cur = mp_cur(chain);
        CLEANUP_BUF struct buf pairs = {0};
        size_t n_pairs = 4;
        uint32_t n_now = 0;
        int64_t n;

        if (returned.len == 0)
                return;
        (void)mp_read_array(&cur, &n_now);
        mp_put_str(&pairs, "chain");
        n = put_chain(&pairs, chain, value_of(returned, "chain", mp_empty_array));
        if (n == n_now && mp_same_value(actor, value_of(now, "actor_subject_id", (struct mp){0})))
                return;
        if (!may(merge, "append_delegation")) {
                complain(merge, "delegation is changed without the capability append_delegation");
                return;
        }
        if (n < 0) {
                complain(merge, "a hop of the delegation chain is changed or taken away, they can only be added");
                return;
        }
        mp_put_str(&pairs, "depth"); /* not what the plugin says: a chain is as long as it is */
        mp_put_int(&pairs, n);
        mp_put_str(&pairs, "delegated");
        mp_put_bool(&pairs, n > 0);
        mp_put_str(&pairs, "actor_subject_id");
        mp_put_raw(&pairs, actor);
        if (age.len > 0) {
                mp_put_str(&pairs, "age_seconds");
                mp_put_raw(&pairs, age);
                n_pairs++;
        }
        if (value_of(now, "origin_subject_id", (struct mp){0}).len == 0) {
                mp_put_str(&pairs, "origin_subject_id");
                mp_put_raw(&pairs, value_of(returned, "origin_subject_id", (struct mp){0}));
                n_pairs++;
        }
        change(merge, "delegation", &pairs, n_pairs);
}

/* ---- All of them ---- */

static bool merge_over(struct invocation *invocation, struct merge *merge) {
        CLEANUP_BUF struct buf over = {0}, merged = {0};

        mp_put_map(&over, merge->n_over);
        buf_append(&over, merge->over.data, merge->over.len);
        mp_put_merged(&merged, merge->now, buf_mp(&over), NULL);
        buf_set(&invocation->extensions, buf_mp(&merged));
        if (buf_error(&merge->over) || buf_error(&over) || buf_error(&merged))
                invocation->extensions.error = -ENOMEM;
        return merge->n_over > 0;
}

bool turn_take_extensions(struct turn *turn, struct mp returned) {
        struct invocation *invocation = turn->invocation;
        const struct plugin_entry *entry = turn->plugin->entry;
        struct mp now = invocation->extensions.len > 0 ? buf_mp(&invocation->extensions) : invocation->in.extensions;
        struct merge merge = {.capabilities = &entry->capabilities, .now = now, .returned = returned};
        struct log_scope scope = {.plugin = entry->name};
        CLEANUP_INVALID struct invalid invalid = {0};
        bool changed = false;

        lax_read(&model_extensions, returned, NULL, &invalid);
        if (invalid.n > 0) {
                complain(&merge, "they are none");
        } else {
                take_custom(&merge);
                take_headers(&merge);
                take_labels(&merge);
                take_delegation(&merge);
                changed = merge.n_over > 0 && merge_over(invocation, &merge);
        }
        buf_done(&merge.over);
        for (size_t i = 0; i < merge.n_complaints; i++)
                log_write(LOG_LEVEL_WARNING, &scope, "the extensions that it returned count without that: %s (extension_tiers)",
                          merge.complaints[i]);
        return changed;
}

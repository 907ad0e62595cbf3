/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The maps that are merged come from plugins, with as many keys as fit into a message, so comparing each with each is no choice.
 * The keys of `over` go into a hash table; each pair of `base` looks its key up there and marks what it found as written.
 *
 * The hash starts from a number drawn once per process, so that nobody can choose keys that collide. A pair is 32-bit offsets, not slices,
 * so that a map of the smallest keys costs about ten times its bytes here.
 */

#include <sys/random.h>

#include "wire/mp.h"

#define SMALL 16 /* pairs that need no allocation */

struct pair {
        uint32_t key, value, end; /* offsets into the map */
        bool written;
};

struct table {
        struct mp map;
        struct pair *pairs;
        uint32_t *slots; /* index + 1 of a pair; 0: free */
        size_t n, mask;
        struct pair small_pairs[SMALL];
        uint32_t small_slots[2 * SMALL];
};

/* What is compared of a key: of a str its content, for there are several ways to encode the same one. */
static struct mp key_content(struct mp key) {
        struct mp_cur cur = mp_cur(key);
        struct mp text;

        return mp_read_str(&cur, &text) ? text : key;
}

static bool same_key(struct mp a, struct mp b) {
        return mp_same_str(a, b) || (a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
}

static uint64_t hash(struct mp key) {
        struct mp content = key_content(key);
        static uint64_t seed;
        uint64_t h;

        while (seed == 0 && getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
                ;
        h = seed;
        for (size_t i = 0; i < content.len; i++) {
                h = (h ^ content.data[i]) * 0x9e3779b97f4a7c15ull;
                h ^= h >> 29;
        }
        return h;
}

static bool table_alloc(struct table *table, size_t n) {
        size_t slots = 2 * SMALL;

        table->pairs = table->small_pairs;
        table->slots = table->small_slots;
        memset(table->small_slots, 0, sizeof(table->small_slots));
        if (n > SMALL) {
                while (slots < 2 * n)
                        slots *= 2;
                table->pairs = calloc(n, sizeof(*table->pairs));
                table->slots = calloc(slots, sizeof(*table->slots));
        }
        table->mask = slots - 1;
        return table->pairs && table->slots;
}

static void table_done(struct table *table) {
        if (table->pairs != table->small_pairs)
                free(table->pairs);
        if (table->slots != table->small_slots)
                free(table->slots);
}

/* Return: the slot that has the key or is free for it. */
static uint32_t *table_find(const struct table *table, struct mp key) {
        for (size_t i = hash(key) & table->mask;; i = (i + 1) & table->mask) {
                const struct pair *pair;

                if (table->slots[i] == 0)
                        return &table->slots[i];
                pair = &table->pairs[table->slots[i] - 1];
                if (same_key((struct mp){table->map.data + pair->key, pair->value - pair->key}, key))
                        return &table->slots[i];
        }
}

static bool table_fill(struct table *table, struct mp map, const char *skip) {
        struct mp_cur cur = mp_cur(map);
        struct mp key, value;
        uint32_t n;

        table->map = map;
        table->n = 0;
        if (!mp_read_map(&cur, &n))
                n = 0;
        if (!table_alloc(table, n))
                return false;
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--) {
                uint32_t at = (uint32_t)(key.data - map.data), *slot = table_find(table, key);

                if (skip && mp_eq_str(key, skip))
                        continue;
                /* The last of equal keys counts. */
                if (*slot == 0)
                        *slot = (uint32_t)++table->n;
                table->pairs[*slot - 1] = (struct pair){at, at + (uint32_t)key.len, at + (uint32_t)(key.len + value.len), false};
        }
        return true;
}

void mp_put_merged(struct buf *buf, struct mp base, struct mp over, const char *skip) {
        size_t map = mp_map_begin(buf), count = 0;
        struct mp_cur cur = mp_cur(base);
        struct table table;
        struct mp k, v;
        uint32_t n;

        if (!table_fill(&table, over, skip)) {
                buf->error = -ENOMEM;
                table_done(&table);
                return;
        }
        if (!mp_read_map(&cur, &n))
                n = 0;
        for (; n > 0 && mp_read_any(&cur, &k) && mp_read_any(&cur, &v); n--, count++) {
                uint32_t slot = *table_find(&table, k);
                struct pair *pair = slot ? &table.pairs[slot - 1] : NULL;

                mp_put_raw(buf, k);
                mp_put_raw(buf, pair ? (struct mp){over.data + pair->value, pair->end - pair->value} : v);
                if (pair)
                        pair->written = true;
        }
        for (size_t i = 0; i < table.n; i++) {
                const struct pair *pair = &table.pairs[i];

                if (pair->written)
                        continue;
                buf_append(buf, over.data + pair->key, pair->end - pair->key);
                count++;
        }
        mp_map_end(buf, map, count);
        table_done(&table);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What has to look keys up: the union of two maps, and whether two values are the same.
 *
 * The maps come from plugins, with as many keys as fit into a message, so comparing each with each is no choice.
 * The keys of one (`over`) go into a hash table; each pair of the other looks its key up there and marks what it found.
 *
 * The hash starts from a number drawn once per process, so that nobody can choose keys that collide. A pair is 32-bit offsets, not slices,
 * so that a map of the smallest keys costs about ten times its bytes here.
 */

#include <sys/random.h>

#include "wire/mp.h"

#define SAME_LEVELS 16 /* how deep values may differ in form on the whole and yet be found the same */
#define SMALL 16       /* pairs that need no allocation */

struct pair {
        uint32_t key, value, end; /* offsets into the map */
        bool found;
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
                        pair->found = true;
        }
        for (size_t i = 0; i < table.n; i++) {
                const struct pair *pair = &table.pairs[i];

                if (pair->found)
                        continue;
                buf_append(buf, over.data + pair->key, pair->end - pair->key);
                count++;
        }
        mp_map_end(buf, map, count);
        table_done(&table);
}

/* ---- The same value ---- */

static bool same(struct mp a, struct mp b, size_t *left);

struct number {
        bool is_float, negative;
        uint64_t whole; /* two's complement where negative */
        double real;
};

static bool read_number(struct mp value, struct number *ret) {
        struct mp_cur cur = mp_cur(value);
        struct number number = {0};
        int64_t i;
        bool flag;

        if (mp_read_bool(&cur, &flag)) {
                number.whole = flag;
        } else if (mp_peek(&cur) == MP_FLOAT) {
                number.is_float = mp_read_float(&cur, &number.real);
        } else if (!mp_read_uint(&cur, &number.whole)) {
                if (!mp_read_int(&cur, &i))
                        return false;
                number.negative = true;
                number.whole = (uint64_t)i;
        }
        *ret = number;
        return true;
}

/* Exactly, not as the nearest double. */
static bool float_is(double real, struct number whole) {
        if (whole.negative)
                return real >= -0x1p63 && real < 0 && (double)(int64_t)real == real && (uint64_t)(int64_t)real == whole.whole;
        return real >= 0 && real < 0x1p64 && (double)(uint64_t)real == real && (uint64_t)real == whole.whole;
}

static bool same_number(struct number a, struct number b) {
        if (a.is_float && b.is_float)
                return a.real == b.real;
        if (a.is_float || b.is_float)
                return float_is(a.is_float ? a.real : b.real, a.is_float ? b : a);
        return a.negative == b.negative && a.whole == b.whole;
}

static bool same_items(struct mp a, struct mp b, size_t *left) {
        struct mp_cur cur_a = mp_cur(a), cur_b = mp_cur(b);
        struct mp item_a, item_b;
        uint32_t n, n_b;

        if (!mp_read_array(&cur_a, &n) || !mp_read_array(&cur_b, &n_b) || n != n_b)
                return false;
        for (; n > 0 && mp_read_any(&cur_a, &item_a) && mp_read_any(&cur_b, &item_b); n--)
                if (!same(item_a, item_b, left))
                        return false;
        return true;
}

/* A map with a key twice is the same as no other. */
static bool same_pairs(struct mp a, struct mp b, size_t *left) {
        struct mp_cur cur_a = mp_cur(a), cur_b = mp_cur(b);
        struct table table;
        struct mp key, value;
        uint32_t n, n_b;
        bool equal;

        if (!mp_read_map(&cur_a, &n) || !mp_read_map(&cur_b, &n_b) || n != n_b)
                return false;
        equal = table_fill(&table, b, NULL) && table.n == n;
        for (; equal && n > 0 && mp_read_any(&cur_a, &key) && mp_read_any(&cur_a, &value); n--) {
                uint32_t slot = *table_find(&table, key);
                struct pair *pair = slot ? &table.pairs[slot - 1] : NULL;

                equal = pair && !pair->found && same(value, (struct mp){b.data + pair->value, pair->end - pair->value}, left);
                if (equal)
                        pair->found = true;
        }
        table_done(&table);
        return equal;
}

/* `left` bounds the bytes looked at, for each level looks at all that is below it. */
static bool same(struct mp a, struct mp b, size_t *left) {
        struct mp_cur cur_a = mp_cur(a), cur_b = mp_cur(b);
        enum mp_type type = mp_peek(&cur_a);
        struct mp content_a = {0}, content_b = {0};
        struct number number_a, number_b;
        int8_t ext_a, ext_b;

        if (a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0))
                return true;
        if (*left < a.len + b.len)
                return false;
        *left -= a.len + b.len;
        if (read_number(a, &number_a) && read_number(b, &number_b))
                return same_number(number_a, number_b);
        if (type != mp_peek(&cur_b))
                return false;
        if (type == MP_ARRAY)
                return same_items(a, b, left);
        if (type == MP_MAP)
                return same_pairs(a, b, left);
        if (type == MP_STR)
                return mp_same_str(a, b);
        if (type == MP_EXT &&
            (!mp_read_ext(&cur_a, &ext_a, &content_a) || !mp_read_ext(&cur_b, &ext_b, &content_b) || ext_a != ext_b))
                return false;
        if (type == MP_BIN && (!mp_read_bin(&cur_a, &content_a) || !mp_read_bin(&cur_b, &content_b)))
                return false;
        return (type == MP_EXT || type == MP_BIN) && content_a.len == content_b.len &&
               (content_a.len == 0 || memcmp(content_a.data, content_b.data, content_a.len) == 0);
}

bool mp_same_value(struct mp a, struct mp b) {
        size_t left = SAME_LEVELS * (a.len + b.len);

        return same(a, b, &left);
}

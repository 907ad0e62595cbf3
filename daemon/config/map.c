/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From the keys and values that stand in a map to the pairs that it has: what merge keys (<<) bring comes first, as in PyYAML, and of equal
 * keys one is left. Equal keys are found by sorting, for a file may hold a hundred thousand of them.
 */

#include "config/map.h"

static int refuse(struct report *report, struct place place, const char *message) {
        report_add(report, DIAG_ERROR, NULL, place, "%s", message);
        return -EINVAL;
}

static int compare_keys(const struct node *a, const struct node *b) {
        if (a->type != b->type)
                return a->type < b->type ? -1 : 1;
        if (a->type == NODE_NULL)
                return 0;
        if (a->type == NODE_BOOL)
                return (int)a->boolean - (int)b->boolean;
        if (a->type == NODE_INT && (a->negative != b->negative || a->magnitude != b->magnitude))
                return a->negative != b->negative ? (a->negative ? -1 : 1) : a->magnitude < b->magnitude ? -1 : 1;
        if (a->type == NODE_INT)
                return 0;
        if (a->text_len != b->text_len)
                return a->text_len < b->text_len ? -1 : 1;
        return memcmp(a->text, b->text, a->text_len);
}

static int compare_pairs(const void *a, const void *b) {
        const struct pair *x = *(const struct pair *const *)a, *y = *(const struct pair *const *)b;
        int order = compare_keys(x->key, y->key);

        return order ? order : x < y ? -1 : 1;
}

/* Of equal keys the first keeps its place and gets the last one's value. The first `merged` pairs came through merge keys. */
static int drop_duplicates(struct report *report, struct node *map, size_t merged) {
        CLEANUP_FREE struct pair **sorted = NULL;
        size_t n = 0;

        if (map->n_pairs < 2)
                return 0;
        sorted = malloc(map->n_pairs * sizeof(struct pair *));
        if (!sorted)
                return -ENOMEM;
        for (size_t i = 0; i < map->n_pairs; i++)
                sorted[i] = &map->pairs[i];
        qsort(sorted, map->n_pairs, sizeof(struct pair *), compare_pairs);
        for (size_t first = 0, i = 1; i < map->n_pairs; i++) {
                struct node *key = sorted[i]->key;

                if (compare_keys(sorted[first]->key, key) != 0) {
                        first = i;
                        continue;
                }
                if (sorted[i - 1] >= map->pairs + merged) /* it stands in this map itself */
                        report_add(report, DIAG_WARNING, NULL, key->place,
                                   "the key \"%s\" stands here once more; what it has in line %u does not count",
                                   node_shown(key, report), sorted[first]->key->place.line);
                *sorted[first] = *sorted[i];
                sorted[i]->key = NULL;
        }
        for (size_t i = 0; i < map->n_pairs; i++)
                if (map->pairs[i].key)
                        map->pairs[n++] = map->pairs[i];
        map->n_pairs = n;
        return 0;
}

/* Appends the pairs of a merge key's value: a map, or a list of maps of which the first counts most. */
static int merge_in(struct report *report, struct node *map, const struct node *value) {
        if (value->type == NODE_MAP) {
                memcpy(map->pairs + map->n_pairs, value->pairs, value->n_pairs * sizeof(struct pair));
                map->n_pairs += value->n_pairs;
                return 0;
        }
        for (size_t i = value->type == NODE_LIST ? value->n_items : 0; i > 0; i--) {
                if (value->items[i - 1]->type != NODE_MAP)
                        return refuse(report, value->items[i - 1]->place, "<< merges maps, and this is none");
                (void)merge_in(report, map, value->items[i - 1]);
        }
        return value->type == NODE_LIST ? 0 : refuse(report, value->place, "<< merges a map or a list of maps, and this is none");
}

static size_t merge_size(const struct node *value) {
        size_t n = value->type == NODE_MAP ? value->n_pairs : 0;

        if (value->type == NODE_LIST)
                for (size_t i = 0; i < value->n_items; i++)
                        n += value->items[i]->type == NODE_MAP ? value->items[i]->n_pairs : 0;
        return n;
}

int map_fill(struct tree *tree, struct report *report, struct node *map, struct node *const *nodes, size_t n_nodes) {
        size_t n = n_nodes / 2, merged;

        for (size_t i = 0; i + 1 < n_nodes; i += 2)
                if (nodes[i]->merge)
                        n += merge_size(nodes[i + 1]);
        map->pairs = tree_alloc(tree, MAX(n, (size_t)1) * sizeof(struct pair));
        if (!map->pairs)
                return -ENOMEM;
        for (size_t i = 0; i + 1 < n_nodes; i += 2)
                if (nodes[i]->merge) {
                        int r = merge_in(report, map, nodes[i + 1]);

                        if (r < 0)
                                return r;
                }
        merged = map->n_pairs;
        for (size_t i = 0; i + 1 < n_nodes; i += 2) {
                if (nodes[i]->merge)
                        continue;
                if (nodes[i]->type == NODE_LIST || nodes[i]->type == NODE_MAP)
                        return refuse(report, nodes[i]->place, "a list or a map cannot be a key");
                map->pairs[map->n_pairs++] = (struct pair){nodes[i], nodes[i + 1]};
        }
        return drop_duplicates(report, map, merged);
}

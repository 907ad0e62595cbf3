/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading a tree. Apart from its building, because this half knows nothing of YAML: a node is a value with a place.
 */

#include <string.h>

#include "config/tree.h"
#include "wire/mp.h"

bool node_is(const struct node *node, const char *text) {
        return node->type == NODE_STR && node->text_len == strlen(text) && memcmp(node->text, text, node->text_len) == 0;
}

const struct node *node_get(const struct node *map, const char *key) {
        if (map && map->type == NODE_MAP)
                for (size_t i = 0; i < map->n_pairs; i++)
                        if (node_is(map->pairs[i].key, key))
                                return map->pairs[i].value;
        return NULL;
}

static void put_int(struct buf *buf, const struct node *node) {
        if (node->negative)
                mp_put_int(buf, (int64_t)(0 - node->magnitude));
        else
                mp_put_uint(buf, node->magnitude);
}

static void put_ext(struct buf *buf, const struct node *node, uint8_t type) {
        uint8_t head[] = {0xc9,
                          (uint8_t)(node->n_bytes >> 24),
                          (uint8_t)(node->n_bytes >> 16),
                          (uint8_t)(node->n_bytes >> 8),
                          (uint8_t)node->n_bytes,
                          type};

        buf_append(buf, head, sizeof(head));
        buf_append(buf, node->bytes, node->n_bytes);
}

static void put_map(struct buf *buf, const struct node *node, const char *skip) {
        size_t handle = mp_map_begin(buf), n = 0;

        for (size_t i = 0; i < node->n_pairs; i++) {
                if (skip && node_is(node->pairs[i].key, skip))
                        continue;
                node_put(buf, node->pairs[i].key, NULL);
                node_put(buf, node->pairs[i].value, NULL);
                n++;
        }
        mp_map_end(buf, handle, n);
}

void node_put(struct buf *buf, const struct node *node, const char *skip) {
        switch (node->type) {
        case NODE_NULL:
                mp_put_nil(buf);
                break;
        case NODE_BOOL:
                mp_put_bool(buf, node->boolean);
                break;
        case NODE_INT:
                put_int(buf, node);
                break;
        case NODE_BIGINT:
                put_ext(buf, node, MP_EXT_BIGINT);
                break;
        case NODE_FLOAT:
                mp_put_float(buf, node->number);
                break;
        case NODE_DATE:
                put_ext(buf, node, MP_EXT_DATE);
                break;
        case NODE_STR:
                mp_put_strn(buf, node->text, node->text_len);
                break;
        case NODE_BIN:
                mp_put_bin(buf, node->bytes, node->n_bytes);
                break;
        case NODE_LIST:
                mp_put_array(buf, node->n_items);
                for (size_t i = 0; i < node->n_items; i++)
                        node_put(buf, node->items[i], NULL);
                break;
        case NODE_MAP:
                put_map(buf, node, skip);
                break;
        }
}

bool node_may_tell(const struct node *node, const struct report *report) {
        return !node->secret || (node->text && report_may_tell(report, node->text, node->text_len));
}

const char *node_shown(const struct node *node, const struct report *report) {
        return node_may_tell(node, report) ? node->text : "…";
}

void node_put_found(struct buf *buf, const struct node *node, const struct report *report) {
        if (node->type != NODE_LIST && node->type != NODE_MAP && !node_may_tell(node, report)) {
                buf_append_str(buf, "a value that may come from the environment and is not shown");
                return;
        }
        switch (node->type) {
        case NODE_NULL:
                buf_append_str(buf, "null");
                break;
        case NODE_STR:
                put_quoted(buf, node->text, node->text_len);
                break;
        case NODE_BIN:
                buf_append_str(buf, "binary data");
                break;
        case NODE_LIST:
                buf_append_str(buf, "a list");
                break;
        case NODE_MAP:
                buf_append_str(buf, "a map");
                break;
        default:
                buf_append(buf, node->text, MIN(node->text_len, (size_t)40));
        }
}

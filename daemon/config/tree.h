/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A YAML file as a tree whose nodes know their line and column: one document, at most 1 MiB and 32 levels deep, merge keys (<<) merged in and duplicate keys reduced to their last value. An alias is the same node again, so a node may have
 * several parents; what aliases multiply is bounded.
 */

#include "config/diag.h"

#define TREE_DEPTH_MAX 32
#define TREE_BYTES_MAX (1u << 20)
#define TREE_ALIAS_NODES_MAX 10000u     /* nodes that aliases stand for, in all */
#define TREE_ALIAS_BYTES_MAX (1u << 20) /* text that aliases stand for, in all */
#define TREE_ANCHORS_MAX 1000u
#define TREE_TAG_DIRECTIVES_MAX 100u

enum node_type { NODE_NULL, NODE_BOOL, NODE_INT, NODE_BIGINT, NODE_FLOAT, NODE_DATE, NODE_STR, NODE_BIN, NODE_LIST, NODE_MAP };

struct template;

struct pair {
        struct node *key, *value;
};

struct node {
        enum node_type type;
        struct place place;
        char *text; /* scalars: as written, NUL-terminated; NODE_STR: the string */
        size_t text_len;
        union {
                bool boolean;
                double number;
                struct { /* NODE_INT: -2^63 … 2^64-1 */
                        bool negative;
                        uint64_t magnitude;
                };
                struct { /* NODE_BIN; NODE_BIGINT: two's complement, big endian; NODE_DATE: as ISO 8601 writes it */
                        uint8_t *bytes;
                        size_t n_bytes;
                };
                struct {
                        struct node **items;
                        size_t n_items;
                };
                struct {
                        struct pair *pairs;
                        size_t n_pairs;
                };
        };
        bool merge;                  /* the key << */
        bool secret;                 /* something of it may be the value of a variable */
        bool unset;                  /* something of it is missing, since a variable is not set; that is said */
        unsigned height;             /* levels below */
        size_t weight, weight_bytes; /* nodes and text in it, aliases multiplied */
};

struct tree;

/* Return: 0, -EINVAL with reasons in `report`, or -ENOMEM. Mistakes that leave a tree (an unknown tag) are counted and do not fail. */
int tree_parse(struct tree **ret, const struct template *template, struct report *report);
struct tree *tree_free(struct tree *tree);
void tree_freep(struct tree **tree);
#define CLEANUP_TREE CLEANUP(tree_freep)

/* Return: zeroed memory that lives as long as the tree; NULL: none. */
void *tree_alloc(struct tree *tree, size_t size);

/* Return: the root; NULL for an empty file. */
const struct node *tree_root(const struct tree *tree);

/* Return: the value of a text key, NULL where `map` is NULL, no map or has none. */
const struct node *node_get(const struct node *map, const char *key);

/* Return: whether the node is the text `text`. */
bool node_is(const struct node *node, const char *text);

/* Writes the node as msgpack, YAML types kept. `skip`: a key of this map to leave out; NULL: none. */
void node_put(struct buf *buf, const struct node *node, const char *skip);

/* Return: whether a complaint may show what the node says. */
bool node_may_tell(const struct node *node, const struct report *report);

/* Return: the text of a key or a name for a complaint, "…" where it may not be shown. */
const char *node_shown(const struct node *node, const struct report *report);

/* Appends what the node is, for "found …": a text in quotes, a number as written, "a list". */
void node_put_found(struct buf *buf, const struct node *node, const struct report *report);

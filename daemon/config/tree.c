/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Built from libyaml's events and not by its loader, which has no bound on depth, takes quadratic time for nested brackets, and drops the
 * style that tells "7" from 7. The builder is a stack of at most 32 open collections; the bound is checked when one opens, so a
 * file of brackets ends at its 33rd.
 *
 * All memory of a tree comes from one arena and goes with it. What an alias stands for is shared, never copied; its weight
 * counts against two budgets, since whatever walks the tree later (the checks, the msgpack writer) walks it as often as it is named.
 */

#include "config/tree.h"

#include <yaml.h>

#include "config/map.h"
#include "config/scalar.h"
#include "config/template.h"

#define CHUNK_BYTES (64u << 10)

struct chunk {
        struct chunk *next;
        size_t used, size;
        _Alignas(16) uint8_t data[];
};

struct tree {
        struct chunk *chunks;
        struct node *root;
};

struct anchor {
        char *name;
        struct node *node;
        bool open;
};

/* A collection that is still open; in a map, keys and values alternate in `nodes`. */
struct frame {
        struct node *node;
        struct node **nodes;
        size_t n, cap;
        struct anchor *anchor; /* of this collection; NULL: none */
};

struct builder {
        struct tree *tree;
        const struct template *template;
        struct report *report;
        struct frame frames[TREE_DEPTH_MAX];
        unsigned depth;
        struct anchor anchors[TREE_ANCHORS_MAX];
        size_t n_anchors;
        size_t alias_nodes, alias_bytes;
        unsigned documents;
};

void *tree_alloc(struct tree *tree, size_t size) {
        struct chunk *chunk = tree->chunks;
        void *memory;

        size = (size + 15) & ~(size_t)15;
        if (!chunk || chunk->size - chunk->used < size) {
                size_t data = MAX(size, (size_t)CHUNK_BYTES);

                chunk = calloc(1, sizeof(*chunk) + data);
                if (!chunk)
                        return NULL;
                chunk->size = data;
                chunk->next = tree->chunks;
                tree->chunks = chunk;
        }
        memory = chunk->data + chunk->used;
        chunk->used += size;
        return memory;
}

struct tree *tree_free(struct tree *tree) {
        if (!tree)
                return NULL;
        while (tree->chunks) {
                struct chunk *chunk = tree->chunks;

                tree->chunks = chunk->next;
                free(chunk);
        }
        free(tree);
        return NULL;
}

void tree_freep(struct tree **tree) {
        *tree = tree_free(*tree);
}

const struct node *tree_root(const struct tree *tree) {
        return tree->root;
}

/* In the text that is parsed. */
static struct place place_in_text(const yaml_mark_t *mark) {
        return (struct place){(unsigned)mark->line + 1, (unsigned)mark->column + 1};
}

static struct place place_of(const struct builder *builder, const yaml_mark_t *mark) {
        return template_origin(builder->template, place_in_text(mark));
}

static bool is_secret(const struct builder *builder, const yaml_event_t *event) {
        return template_is_secret(builder->template, place_in_text(&event->start_mark), place_in_text(&event->end_mark));
}

/* Return: a name (of an anchor, a tag) that stands in the event, "…" where it may not be shown. */
static const char *shown(const struct builder *builder, const yaml_event_t *event, const yaml_char_t *name) {
        const char *text = (const char *)name;

        return is_secret(builder, event) && !report_may_tell(builder->report, text, strlen(text)) ? "…" : text;
}

/* Return: -EINVAL, always. */
static int refuse(struct builder *builder, struct place place, const char *format, ...) PRINTF_LIKE(3, 4);
static int refuse(struct builder *builder, struct place place, const char *format, ...) {
        va_list args;

        va_start(args, format);
        report_addv(builder->report, DIAG_ERROR, NULL, place, format, args);
        va_end(args);
        return -EINVAL;
}

static int node_new(struct builder *builder, struct node **ret, enum node_type type, const yaml_event_t *event) {
        struct node *node = tree_alloc(builder->tree, sizeof(*node));

        if (!node)
                return -ENOMEM;
        node->type = type;
        node->place = place_of(builder, &event->start_mark);
        node->secret = is_secret(builder, event);
        node->unset = template_has_unset(builder->template, place_in_text(&event->start_mark), place_in_text(&event->end_mark));
        node->weight = 1;
        *ret = node;
        return 0;
}

/* ---- Scalars ---- */

/* The magnitude as two's complement, big endian, shortest. */
static int set_bigint(struct builder *builder, struct node *node, const struct scalar_int *number) {
        size_t n = number->len + 1, skip = 0; /* one for the sign */
        unsigned carry = 1;
        uint8_t *bytes = tree_alloc(builder->tree, n);

        if (!bytes)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                unsigned byte = i < number->len ? number->bytes[i] : 0;

                if (number->negative) {
                        byte = (byte ^ 0xff) + carry;
                        carry = byte >> 8;
                }
                bytes[n - 1 - i] = byte & 0xff;
        }
        if ((bytes[0] == 0 && bytes[1] < 0x80) || (bytes[0] == 0xff && bytes[1] >= 0x80))
                skip = 1;
        node->type = NODE_BIGINT;
        node->bytes = bytes + skip;
        node->n_bytes = n - skip;
        return 0;
}

static int set_int(struct builder *builder, struct node *node) {
        struct scalar_int number;
        uint64_t magnitude = 0;

        if (!scalar_int(node->text, node->text_len, &number))
                return refuse(builder, node->place, "not a whole number, though YAML takes it for one; put it in quotes");
        for (size_t i = MIN(number.len, (size_t)8); i > 0; i--)
                magnitude = magnitude << 8 | number.bytes[i - 1];
        if (number.len > 8 || (number.negative && magnitude > (uint64_t)INT64_MAX + 1))
                return set_bigint(builder, node, &number);
        node->type = NODE_INT;
        node->negative = number.negative && magnitude > 0;
        node->magnitude = magnitude;
        return 0;
}

static int set_float(struct builder *builder, struct node *node) {
        double number;
        int r = scalar_float(node->text, node->text_len, &number);

        if (r == -EINVAL)
                return refuse(builder, node->place, "not a number");
        if (r < 0)
                return r;
        node->type = NODE_FLOAT;
        node->number = number;
        return 0;
}

static int set_bool(struct builder *builder, struct node *node) {
        bool value;

        if (!scalar_bool(node->text, node->text_len, &value))
                return refuse(builder, node->place, "not a boolean");
        node->type = NODE_BOOL;
        node->boolean = value;
        return 0;
}

static int set_date(struct builder *builder, struct node *node) {
        char iso[SCALAR_DATE_BYTES];

        if (!scalar_date(node->text, node->text_len, iso))
                return refuse(builder, node->place, "not a date that there is, though YAML takes it for one; put it in quotes");
        node->n_bytes = strlen(iso);
        node->bytes = tree_alloc(builder->tree, node->n_bytes);
        if (!node->bytes)
                return -ENOMEM;
        memcpy(node->bytes, iso, node->n_bytes);
        node->type = NODE_DATE;
        return 0;
}

static int sextet(char c) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *found = c ? strchr(digits, c) : NULL;

        return found ? (int)(found - digits) : -1;
}

/* !!binary: base64 in which white space does not count. */
static int set_bin(struct builder *builder, struct node *node) {
        uint8_t *bytes = tree_alloc(builder->tree, node->text_len + 1);
        size_t n = 0, digits = 0, padding = 0;
        unsigned bits = 0;

        if (!bytes)
                return -ENOMEM;
        for (size_t i = 0; i < node->text_len; i++) {
                char c = node->text[i];

                if (c == '=')
                        padding++;
                else if (sextet(c) >= 0 && padding == 0) {
                        bits = bits << 6 | (unsigned)sextet(c);
                        if (digits++ % 4 > 0)
                                bytes[n++] = (uint8_t)(bits >> (6 - 2 * ((digits - 1) % 4)));
                } else if (c != ' ' && c != '\n')
                        return refuse(builder, node->place, "!!binary takes base64, and this is none");
        }
        if (digits % 4 == 1 || (digits + padding) % 4 != 0)
                return refuse(builder, node->place, "!!binary takes base64, and this ends too early");
        node->type = NODE_BIN;
        node->bytes = bytes;
        node->n_bytes = n;
        return 0;
}

static int set_tagged(struct builder *builder, struct node *node, const yaml_event_t *event) {
        static const char prefix[] = "tag:yaml.org,2002:";
        const char *tag = (const char *)event->data.scalar.tag;
        const char *name = strncmp(tag, prefix, sizeof(prefix) - 1) == 0 ? tag + sizeof(prefix) - 1 : "";

        if (str_eq(name, "str"))
                return 0;
        if (str_eq(name, "int"))
                return set_int(builder, node);
        if (str_eq(name, "float"))
                return set_float(builder, node);
        if (str_eq(name, "bool"))
                return set_bool(builder, node);
        if (str_eq(name, "timestamp"))
                return set_date(builder, node);
        if (str_eq(name, "binary"))
                return set_bin(builder, node);
        if (str_eq(name, "null")) {
                node->type = NODE_NULL;
                return 0;
        }
        return refuse(builder, node->place, "the tag %s is not supported; remove it",
                      shown(builder, event, event->data.scalar.tag));
}

static bool stands_as_key(const struct builder *builder) {
        const struct frame *frame = builder->depth > 0 ? &builder->frames[builder->depth - 1] : NULL;

        return frame && frame->node->type == NODE_MAP && frame->n % 2 == 0;
}

static int set_plain(struct builder *builder, struct node *node) {
        switch (scalar_resolve(node->text, node->text_len)) {
        case SCALAR_NULL:
                node->type = NODE_NULL;
                return 0;
        case SCALAR_BOOL:
                return set_bool(builder, node);
        case SCALAR_INT:
                return set_int(builder, node);
        case SCALAR_FLOAT:
                return set_float(builder, node);
        case SCALAR_DATE:
                return set_date(builder, node);
        case SCALAR_MERGE:
        case SCALAR_VALUE:
                if (!stands_as_key(builder))
                        return refuse(builder, node->place, "%s has a meaning of its own in YAML; put it in quotes",
                                      node_shown(node, builder->report));
                node->merge = *node->text == '<';
                return 0;
        default:
                return 0;
        }
}

static int scalar_new(struct builder *builder, const yaml_event_t *event, struct node **ret) {
        size_t len = event->data.scalar.length;
        struct node *node;
        int r = node_new(builder, &node, NODE_STR, event);

        if (r < 0)
                return r;
        node->text = tree_alloc(builder->tree, len + 1);
        if (!node->text)
                return -ENOMEM;
        memcpy(node->text, event->data.scalar.value, len);
        node->text_len = len;
        node->weight_bytes = len;
        if (event->data.scalar.plain_implicit)
                r = set_plain(builder, node);
        else if (!event->data.scalar.quoted_implicit)
                r = set_tagged(builder, node, event);
        if (r == -ENOMEM)
                return r;
        *ret = node; /* a mistake in a scalar is reported and the file goes on, with the text */
        return 0;
}

/* ---- Events ---- */

static int frame_append(struct frame *frame, struct node *node) {
        if (frame->n == frame->cap) {
                size_t cap = MAX(frame->cap * 2, (size_t)16);
                struct node **grown = realloc(frame->nodes, cap * sizeof(struct node *));

                if (!grown)
                        return -ENOMEM;
                frame->nodes = grown;
                frame->cap = cap;
        }
        frame->nodes[frame->n++] = node;
        return 0;
}

/* Puts a whole node where it belongs. */
static int place_node(struct builder *builder, struct node *node) {
        struct frame *frame;

        if (builder->depth == 0) {
                builder->tree->root = node;
                return 0;
        }
        frame = &builder->frames[builder->depth - 1];
        frame->node->weight += node->weight;
        frame->node->weight_bytes += node->weight_bytes;
        frame->node->height = MAX(frame->node->height, node->height + 1);
        return frame_append(frame, node);
}

static struct anchor *find_anchor(struct builder *builder, const char *name) {
        for (size_t i = 0; i < builder->n_anchors; i++)
                if (str_eq(builder->anchors[i].name, name))
                        return &builder->anchors[i];
        return NULL;
}

static int add_anchor(struct builder *builder, const yaml_event_t *event, const yaml_char_t *name, struct node *node, bool open) {
        size_t len;
        char *copy;

        if (!name)
                return 0;
        if (find_anchor(builder, (const char *)name))
                return refuse(builder, node->place, "the anchor &%s stands in the file twice", shown(builder, event, name));
        if (builder->n_anchors == TREE_ANCHORS_MAX)
                return refuse(builder, node->place, "more than %u anchors", TREE_ANCHORS_MAX);
        len = strlen((const char *)name) + 1;
        copy = tree_alloc(builder->tree, len);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, name, len);
        builder->anchors[builder->n_anchors++] = (struct anchor){copy, node, open};
        return 0;
}

static int on_alias(struct builder *builder, const yaml_event_t *event) {
        const yaml_char_t *name = event->data.alias.anchor;
        struct place place = place_of(builder, &event->start_mark);
        const struct anchor *anchor = find_anchor(builder, (const char *)name);

        if (!anchor)
                return refuse(builder, place, "the alias *%s names an anchor that does not stand before it",
                              shown(builder, event, name));
        if (anchor->open)
                return refuse(builder, place, "the alias *%s lies inside what it names", shown(builder, event, name));
        builder->alias_nodes += anchor->node->weight;
        builder->alias_bytes += anchor->node->weight_bytes;
        if (builder->alias_nodes > TREE_ALIAS_NODES_MAX || builder->alias_bytes > TREE_ALIAS_BYTES_MAX)
                return refuse(builder, place,
                              "the aliases of this file stand for more than %u values or %u bytes; write it without",
                              TREE_ALIAS_NODES_MAX, TREE_ALIAS_BYTES_MAX);
        if (builder->depth + anchor->node->height > TREE_DEPTH_MAX)
                return refuse(builder, place, "nested deeper than %d levels", TREE_DEPTH_MAX);
        return place_node(builder, anchor->node);
}

static int on_scalar(struct builder *builder, const yaml_event_t *event) {
        struct node *node;
        int r = scalar_new(builder, event, &node);

        if (r == 0)
                r = add_anchor(builder, event, event->data.scalar.anchor, node, false);
        return r < 0 ? r : place_node(builder, node);
}

static int on_open(struct builder *builder, const yaml_event_t *event, enum node_type type) {
        bool list = type == NODE_LIST;
        const yaml_char_t *anchor = list ? event->data.sequence_start.anchor : event->data.mapping_start.anchor;
        const yaml_char_t *tag = list ? event->data.sequence_start.tag : event->data.mapping_start.tag;
        const char *expected = list ? YAML_SEQ_TAG : YAML_MAP_TAG;
        struct frame *frame;
        struct node *node;
        int r = node_new(builder, &node, type, event);

        if (r < 0)
                return r;
        if (builder->depth == TREE_DEPTH_MAX)
                return refuse(builder, node->place, "nested deeper than %d levels", TREE_DEPTH_MAX);
        if (tag && !str_eq((const char *)tag, "!") && !str_eq((const char *)tag, expected))
                (void)refuse(builder, node->place, "the tag %s is not supported; remove it", shown(builder, event, tag));
        node->height = 1;
        r = add_anchor(builder, event, anchor, node, true);
        if (r < 0)
                return r;
        frame = &builder->frames[builder->depth++];
        frame->node = node;
        frame->n = 0;
        frame->anchor = anchor ? &builder->anchors[builder->n_anchors - 1] : NULL;
        return 0;
}

static int on_close(struct builder *builder) {
        struct frame *frame = &builder->frames[--builder->depth];
        struct node *node = frame->node;

        if (frame->anchor)
                frame->anchor->open = false;
        if (node->type == NODE_MAP) {
                int r = map_fill(builder->tree, builder->report, node, frame->nodes, frame->n);

                return r < 0 ? r : place_node(builder, node);
        }
        node->items = tree_alloc(builder->tree, MAX(frame->n, (size_t)1) * sizeof(struct node *));
        if (!node->items)
                return -ENOMEM;
        if (frame->n > 0)
                memcpy(node->items, frame->nodes, frame->n * sizeof(struct node *));
        node->n_items = frame->n;
        return place_node(builder, node);
}

static int on_event(struct builder *builder, const yaml_event_t *event) {
        switch (event->type) {
        case YAML_DOCUMENT_START_EVENT:
                if (builder->documents++ > 0)
                        return refuse(builder, place_of(builder, &event->start_mark),
                                      "a second document begins here; the file may hold one");
                return 0;
        case YAML_ALIAS_EVENT:
                return on_alias(builder, event);
        case YAML_SCALAR_EVENT:
                return on_scalar(builder, event);
        case YAML_SEQUENCE_START_EVENT:
                return on_open(builder, event, NODE_LIST);
        case YAML_MAPPING_START_EVENT:
                return on_open(builder, event, NODE_MAP);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                return on_close(builder);
        default:
                return 0;
        }
}

static int refuse_syntax(struct builder *builder, const yaml_parser_t *parser) {
        const char *problem = parser->problem ? parser->problem : "cannot be read";
        char begun[48] = "";

        if (parser->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        if (parser->error == YAML_READER_ERROR) /* comes without a mark, for the reader is ahead of the parser */
                return refuse(builder,
                              template_origin(builder->template, template_place(builder->template, parser->problem_offset)),
                              "not YAML: %s", problem);
        if (parser->context && parser->context_mark.line < parser->problem_mark.line)
                (void)snprintf(begun, sizeof(begun), " that begins in line %u", place_of(builder, &parser->context_mark).line);
        return refuse(builder, place_of(builder, &parser->problem_mark), "not YAML: %s%s%s%s%s",
                      parser->context ? parser->context : "", begun, parser->context ? ": " : "", problem,
                      parser->error == YAML_SCANNER_ERROR && *parser->buffer.pointer == '\t'
                              ? " (a tab; YAML is indented with spaces)"
                              : "");
}

/* libyaml compares each with all before it, which would take ten seconds for 1 MiB of them. */
static int check_tag_directives(struct builder *builder, const char *text, size_t len) {
        const char *at = text, *end = text + len;
        unsigned n = 0;

        for (; (at = memmem(at, (size_t)(end - at), "%TAG", 4)); at += 4)
                if ((at == text || at[-1] == '\n' || at[-1] == '\r') && ++n > TREE_TAG_DIRECTIVES_MAX)
                        return refuse(builder,
                                      template_origin(builder->template, template_place(builder->template, (size_t)(at - text))),
                                      "more than %u %%TAG directives", TREE_TAG_DIRECTIVES_MAX);
        return 0;
}

static int build(struct builder *builder) {
        yaml_parser_t parser;
        const char *text;
        size_t len;
        bool end = false;
        int r;

        text = template_text(builder->template, &len);
        r = check_tag_directives(builder, text, len);
        if (r < 0)
                return r;
        if (!yaml_parser_initialize(&parser))
                return -ENOMEM;
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        while (r == 0 && !end) {
                yaml_event_t event;

                if (!yaml_parser_parse(&parser, &event)) {
                        r = refuse_syntax(builder, &parser);
                        break;
                }
                end = event.type == YAML_STREAM_END_EVENT;
                r = on_event(builder, &event);
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        return r;
}

int tree_parse(struct tree **ret, const struct template *template, struct report *report) {
        CLEANUP_TREE struct tree *tree = calloc(1, sizeof(*tree));
        CLEANUP_FREE struct builder *builder = calloc(1, sizeof(*builder));
        int r;

        if (!tree || !builder)
                return -ENOMEM;
        *builder = (struct builder){.tree = tree, .template = template, .report = report};
        r = build(builder);
        for (size_t i = 0; i < TREE_DEPTH_MAX; i++)
                free(builder->frames[i].nodes);
        if (r == 0 && report->error)
                r = report->error;
        if (r < 0)
                return r;
        *ret = TAKE(tree);
        return 0;
}

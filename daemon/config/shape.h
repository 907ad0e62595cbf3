/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The models of upstream's plugins.yaml as tables: which fields they have, of which type, and where the value is kept, if it is.
 */

#include "config/value.h"

enum shape_kind {
        SHAPE_ANY,
        SHAPE_TEXT,     /* char * */
        SHAPE_INT,      /* int64_t */
        SHAPE_BOOL,     /* not kept */
        SHAPE_FLOAT,    /* not kept */
        SHAPE_TEXTS,    /* struct strlist */
        SHAPE_SET,      /* struct strlist, each item once */
        SHAPE_MAP,      /* keys are texts; not kept */
        SHAPE_TEXT_MAP, /* the values too; not kept */
        SHAPE_MODEL,    /* of `shape`; not kept */
        SHAPE_MODELS,   /* a list of them; not kept */
};

enum shape_flags { SHAPE_REQUIRED = 1, SHAPE_NULL = 2, SHAPE_KEPT = 4 };

struct shape;

struct shape_field {
        const char *name;
        enum shape_kind kind;
        unsigned flags;
        size_t offset;
        const struct shape *shape;
};

struct shape {
        const struct shape_field *fields;
        size_t n;
};

#define SHAPE(name_) \
        { .fields = (name_), .n = ELEMENTS(name_) }

/* Checks a map, keeps in `object` what is to be kept, and warns about keys that are not in the shape. */
bool shape_read(struct reader *reader, const struct at *at, const struct node *map, const struct shape *shape, void *object);

extern const struct shape shape_condition; /* struct plugin_condition */
extern const struct shape shape_plugin;    /* struct plugin_entry */
extern const struct shape shape_config;    /* struct strlist: plugin_dirs */

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Data read as pydantic's lax mode reads it: types as tables, and one walk that finds what is wrong and writes what a model would hold.
 *
 * A model fills in the defaults of what is left out and drops what it does not know; "7" is an integer, 1 is true, bytes are text.
 */

#include "pipeline/invalid.h"

enum lax_kind {
        LAX_ANY,
        LAX_STR,
        LAX_CONTENT_TYPE, /* a string that may be a header of that name */
        LAX_CHOICE,       /* one of `choices` */
        LAX_INT,
        LAX_FLOAT,
        LAX_BOOL,
        LAX_BYTES,
        LAX_SECRET,
        LAX_DATETIME,
        LAX_LIST, /* of `item`; at most `max`, if that is not 0 */
        LAX_TUPLE,
        LAX_SET,
        LAX_DICT,        /* from strings to `item` */
        LAX_STR_OR_DICT, /* the union; the dict's values are anything */
        LAX_MODEL,       /* with `fields` */
        LAX_TAGGED,      /* a model of `fields`, which are its kinds by the value under the key `name` */
};

/* What a model holds for a field that is left out. */
enum lax_default {
        LAX_REQUIRED,
        LAX_NIL,              /* may be nil, too */
        LAX_EMPTY_MAP_OR_NIL, /* may be nil, too, and is {} */
        LAX_EMPTY_MAP,
        LAX_EMPTY_LIST,
        LAX_FALSE,
        LAX_ZERO,
        LAX_ZERO_FLOAT,
        LAX_NOW, /* the time it is; still left out of what is written */
        LAX_TEXT,
};

#define LAX_FIELDS_MAX 16

struct lax_field {
        const char *name;
        const struct lax_type *type;
        enum lax_default otherwise;
        const char *text; /* with LAX_TEXT */
};

struct lax_type {
        enum lax_kind kind;
        uint32_t max;
        const char *name;               /* of a model, and see LAX_TAGGED */
        const char *const *choices;     /* NULL-terminated */
        const struct lax_type *item;    /* NULL: anything */
        const struct lax_field *fields; /* the last has no name; at most LAX_FIELDS_MAX */
};

/* Reads `value` as `type`, noting in `invalid` what is wrong. With `buf`, appends what a model would hold, useful only where nothing was
 * wrong. Integers in text beyond 64 bits and dates are written as they came. */
void lax_read(const struct lax_type *type, struct mp value, struct buf *buf, struct invalid *invalid);

/* The scalars. Return: NULL or the type of the error. */
const char *lax_str(struct mp value, struct buf *buf);
const char *lax_int(struct mp value, struct buf *buf);
const char *lax_float(struct mp value, struct buf *buf);
const char *lax_bool(struct mp value, struct buf *buf);
/* *ret_why is set where there is more to say than the type. */
const char *lax_datetime(struct mp value, const char **ret_why);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a plain YAML scalar means: YAML 1.1 as PyYAML's safe_load has it, for that is what upstream reads plugins.yaml with. So `off` is a
 * boolean, 010 is eight, 1:30 is ninety, 1e3 is a text.
 */

#include "base/util.h"

enum scalar_type { SCALAR_NULL, SCALAR_BOOL, SCALAR_INT, SCALAR_FLOAT, SCALAR_DATE, SCALAR_STR, SCALAR_MERGE, SCALAR_VALUE };

/* Return: what the text is when no tag and no quotes say it. */
enum scalar_type scalar_resolve(const char *text, size_t len);

bool scalar_bool(const char *text, size_t len, bool *ret);

#define SCALAR_INT_CHARS 4300 /* longest integer, as in Python */
#define SCALAR_INT_BYTES 2200

/* An integer: `negative` and the magnitude, little endian. */
struct scalar_int {
        bool negative;
        size_t len; /* bytes, without leading zeros */
        uint8_t bytes[SCALAR_INT_BYTES];
};

/* Return: false when it is none after all (0x_), or longer than SCALAR_INT_CHARS. */
bool scalar_int(const char *text, size_t len, struct scalar_int *ret);

/* What stands behind !!float may be any form that Python reads, 1e3 and inf too. Return: 0, -EINVAL when it is none after all, -ENOMEM. */
int scalar_float(const char *text, size_t len, double *ret);

#define SCALAR_DATE_BYTES sizeof("2001-12-14T21:59:43.100000+05:00")

/* A date, or a date with a time, as ISO 8601 writes it and Python's fromisoformat() reads it: 2001-12-14, 2001-12-14T21:59:43.100000+05:00.
 * Return: false when it is none after all (2001-02-30). */
bool scalar_date(const char *text, size_t len, char ret[SCALAR_DATE_BYTES]);

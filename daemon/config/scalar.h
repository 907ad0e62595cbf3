/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a plain YAML scalar means: YAML 1.1 as PyYAML's safe_load has it, for that is what upstream reads plugins.yaml with. So `off` is a
 * boolean, 010 is eight, 1:30 is ninety, 1e3 is a text. Unlike there, a date is the text that it is written as.
 */

#include "base/util.h"

enum scalar_type { SCALAR_NULL, SCALAR_BOOL, SCALAR_INT, SCALAR_FLOAT, SCALAR_STR, SCALAR_MERGE };

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

/* Return: 0, -EINVAL when it is none after all, -ENOMEM. */
int scalar_float(const char *text, size_t len, double *ret);
